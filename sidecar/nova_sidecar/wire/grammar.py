"""The grammar of HTTP/1.1 heads, as strict as RFC 9112 lets a recipient be, and the limits on their size.

There is one regular expression for each kind of line; possessive quantifiers make them linear in its length. What does
not match is refused, never repaired: bare CR, bare LF, obs-fold, space before a colon, control characters. `explain_*`
then finds the words for the answer, off the fast path.

Why not llhttp: with heads memoised (see `memo`) a parser only runs on heads never seen before. There llhttp with its
callbacks is somewhat faster than regular expressions (1.1 against 1.8 µs for six fields), but it cannot be told
that a response answers HEAD, nor be paused between pipelined requests, and takes some things this grammar refuses
(several spaces in a request line, chunked below HTTP/1.1, a missing Host). It is the oracle of the tests instead:
what this grammar accepts, llhttp must read alike.
"""

import re
from typing import Final

from nova_sidecar.policy.reasons import Reason

MAX_HEAD: Final = 32 * 1024
"""Bytes of a request or response head, start line and final empty line included."""
MAX_TARGET: Final = 8 * 1024
"""Bytes of a request target."""
MAX_FIELDS: Final = 100
"""Field lines in one head."""

_TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"

TOKEN: Final = re.compile(_TCHAR + rb"++")
TARGET: Final = re.compile(rb"[\x21\x22\x24-\x7e]++")
REQUEST_START: Final = re.compile(_TCHAR + rb"++(?: (?:[\x21\x22\x24-\x7e]++(?: (?:[HTP/0-9.]{0,8}+\r?)?)?)?)?")
"""What has arrived of a request line, as long as it is not whole."""
REQUEST_LINE: Final = re.compile(rb"(" + _TCHAR + rb"++) ([\x21\x22\x24-\x7e]++) HTTP/1\.([0-9])")
STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9][0-9])(?: (" + _TEXT + rb"*+))?")
FIELD_LINE: Final = re.compile(rb"(" + _TCHAR + rb"++):[ \t]*+(" + _TEXT + rb"*+)")
"""Name and value; the value may still end with white space."""

LENGTH: Final = re.compile(rb"[0-9]{1,18}+")
AUTHORITY: Final = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*+|\[[0-9A-Fa-f:.]{2,64}\])(?::[0-9]{0,5})?")
ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?]+)(/?[^?]*)(.*)", re.DOTALL)


class Malformed(Exception):  # noqa: N818 - it names what the message is
    """A message that breaks HTTP: the reason it is refused for and a sentence that says why, without quoting it."""

    def __init__(self, why: str, reason: Reason = Reason.BAD_REQUEST) -> None:
        self.reason = reason
        self.why = why
        super().__init__(why)


def explain_request(head: bytes) -> Malformed:
    """Why a request head did not match the grammar."""
    line, _, fields = head.partition(b"\r\n")
    parts = line.split(b" ")
    if line.startswith(b"PRI * HTTP/2"):
        return Malformed("this port speaks HTTP/1.1, not HTTP/2", Reason.UNSUPPORTED_VERSION)
    if len(parts) != 3:
        return Malformed("the request line is not method, target and version with one space between")
    if not TOKEN.fullmatch(parts[0]):
        return Malformed("the method is not a token")
    if not re.fullmatch(rb"HTTP/1\.[0-9]", parts[2]):
        known = re.fullmatch(rb"HTTP/[0-9]\.[0-9]", parts[2])
        return Malformed("the version is not HTTP/1", Reason.UNSUPPORTED_VERSION if known else Reason.BAD_REQUEST)
    if not re.fullmatch(rb"[\x21\x22\x24-\x7e]+", parts[1]):
        return Malformed("the request target holds characters that a target cannot have")
    return explain_fields(fields)


def explain_response(head: bytes) -> Malformed:
    """Why a response head did not match the grammar."""
    line, _, fields = head.partition(b"\r\n")
    if not re.fullmatch(rb"HTTP/1\.[0-9] [1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?", line):
        return Malformed("the status line is not HTTP/1.1, a status and a reason")
    return explain_fields(fields)


def explain_fields(block: bytes) -> Malformed:
    """Why a block of field lines did not match the grammar."""
    for line in block.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            return Malformed("a header line starts with white space (obs-fold)")
        name, colon, value = line.partition(b":")
        if b"\r" in line or b"\n" in line:
            return Malformed("a line ends with a bare CR or a bare LF")
        if line and (not colon or not TOKEN.fullmatch(name)):
            return Malformed("a header line is not a name, a colon and a value")
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            return Malformed("a header value holds control characters")
    return Malformed("the head is malformed")
