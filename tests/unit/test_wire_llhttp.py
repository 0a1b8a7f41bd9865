"""llhttp as the oracle: what the grammar accepts, the parser of Node.js reads alike; smuggling needs a difference."""

from typing import Any

import httptools
from hypothesis import assume, given
from hypothesis import strategies as st

from nova_sidecar.wire.fields import CHUNKED
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.request import RequestReader

READER = {"capture": frozenset[bytes](), "upgrades": "none", "host": b"a"}


class Events:
    """What llhttp says about a request."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.headed = self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def llhttp(text: bytes) -> tuple[Events, Any]:
    events = Events()
    parser = httptools.HttpRequestParser(events)
    parser.feed_data(text)
    return events, parser


NAMES = st.sampled_from(
    ["X-A", "x-b", "Content-Length", "content-length", "Transfer-Encoding", "Host", "Connection", "Expect"]
)
VALUES = st.one_of(
    st.sampled_from(["0", "3", " 3", "+3", "3 ", "0x3", "chunked", "Chunked", "identity", "gzip", "close", "a", ""]),
    st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=6),
)
LINE_ENDS = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\n "])


@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from(["/", "/a?b", "*", "http://b/", "/a b", "//"]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1"]),
    st.lists(st.tuples(NAMES, st.sampled_from([":", ": ", " :", ":\t"]), VALUES, LINE_ENDS), max_size=4),
)
def test_whatever_is_accepted_is_read_alike(
    method: str, target: str, version: str, lines: list[tuple[str, str, str, str]]
) -> None:
    text = f"{method} {target} {version}\r\nHost: a\r\n".encode() + "".join("".join(line) for line in lines).encode(
        "latin-1"
    )
    text += b"\r\n"
    assume(text.find(b"\r\n\r\n") == len(text) - 4)
    try:
        head = RequestReader(**READER).read(text)  # type: ignore[arg-type]
    except Malformed:
        return
    body = b"3\r\nabc\r\n0\r\n\r\n" if head.length == CHUNKED else b"abc"[: head.length]
    assume(head.length <= 3)

    events, parser = llhttp(text.replace(b"HTTP/1.2", b"HTTP/1.1", 1) + body)  # it knows no later minor version

    assert events.complete
    assert parser.get_method() == head.method
    assert events.target.decode() == target
    assert events.body == (b"abc" if head.length == CHUNKED else body)
    sent, _ = llhttp(
        head.forward + (b"Transfer-Encoding: chunked\r\n" if head.length == CHUNKED else b"") + b"\r\n" + body
    )
    assert sent.complete
    assert sent.body == events.body
    hop = {b"connection", b"transfer-encoding"}
    named = {t.strip().lower() for n, v in events.fields if n.lower() == b"connection" for t in v.split(b",")}
    wanted = [(n, v) for n, v in events.fields if n.lower() not in hop | named]
    replaced = target.startswith("http") or (version == "HTTP/1.0" and any(n.lower() == b"expect" for n, _ in wanted))
    assert replaced or [f for f in sent.fields if f[0].lower() not in hop] == wanted
