"""The second opinion on HTTP/1.1: llhttp, the parser of Node.js."""

import re
from dataclasses import dataclass, field
from typing import Any

import httptools

_REWRITTEN = re.compile("chunk extension|Transfer-Encoding")
"""What llhttp refuses and Nova removes or writes anew: odd extensions, a tab behind chunked, framing in trailers."""
_SPACED_EXTENSION = re.compile(rb"\r\n[0-9A-Fa-f]+[ \t]+(?:;|\r)")  # legal (section 7.1.1), but not for llhttp
_TABBED = re.compile(
    rb"(?i:transfer-encoding):[^\r\n]*\t[ \t]*\r"
)  # not chunked for llhttp, where Nova trims the value
_LATER_MINOR = re.compile(rb"HTTP/1\.[2-9]")  # to be read as 1.1 (RFC 9110 section 2.5), but llhttp knows none


@dataclass
class Seen:
    """One message."""

    method: bytes = b""
    target: bytes = b""
    status: int = 0
    body: bytes = b""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    headed: bool = False
    whole: bool = False


class Opinion:
    """What llhttp reads in a stream of requests, or of responses; `knows_all`: nothing in it is foreign to llhttp
    alone."""

    def __init__(self, data: bytes, *, responses: bool = False) -> None:
        self.seen: list[Seen] = []
        self.error = ""
        self.knows_all = not (_LATER_MINOR.search(data) or _TABBED.search(data))
        self._parser: Any = (httptools.HttpResponseParser if responses else httptools.HttpRequestParser)(self)
        self._responses = responses
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserInvalidMethodError:
            self.error = "a method it does not know"  # it has a list of methods; HTTP has none
            self.knows_all = False
        except httptools.HttpParserUpgrade:
            self.error = "an upgrade"  # it stops there; Nova goes on where the port passes none on
            self.seen[-1].whole = self.knows_all = False
        except httptools.HttpParserError as error:
            self.error = str(error)
            self.knows_all &= not (_REWRITTEN.search(self.error) or _SPACED_EXTENSION.search(data))

    @property
    def messages(self) -> list[tuple[bytes, bytes]]:
        """Target and body of each request that is whole."""
        return [(each.target, each.body) for each in self.seen if each.whole]

    def on_message_begin(self) -> None:
        self.seen.append(Seen())

    def on_url(self, url: bytes) -> None:
        self.seen[-1].target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.seen[-1].headed:
            self.seen[-1].fields.append((name, value))

    def on_headers_complete(self) -> None:
        last = self.seen[-1]
        last.headed = True
        if self._responses:
            last.status = self._parser.get_status_code()
        else:
            last.method = self._parser.get_method()

    def on_body(self, body: bytes) -> None:
        self.seen[-1].body += body

    def on_message_complete(self) -> None:
        self.seen[-1].whole = True


def origin_form(method: bytes, target: bytes) -> bytes:
    """The target as it goes on (RFC 9112 section 3.2.1)."""
    if method == b"OPTIONS" and re.fullmatch(rb"(?i:https?)://[^/?]+", target):
        return b"*"
    return re.sub(rb"^(?i:https?)://[^/?]+/?", b"/", target)
