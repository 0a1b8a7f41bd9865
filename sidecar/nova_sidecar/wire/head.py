"""Finding the end of a head in what has arrived so far, within its limit."""

from typing import Final

from nova_sidecar.policy.reasons import Reason
from nova_sidecar.wire.grammar import (
    MAX_HEAD,
    MAX_TARGET,
    REQUEST_LINE,
    REQUEST_START,
    Malformed,
    explain_request,
)

HEAD_END: Final = b"\r\n\r\n"
MAX_EMPTY_LINES: Final = 8


def head_end(data: bytes, searched: int = 0) -> int:
    """Position after the empty line that ends the head, or -1 when it has not arrived.

    `searched` bytes were looked at before. Raises Malformed early: 431 for a head over its limit, 414 for a target
    over its own, 400 for a line that ends with a bare LF, which would otherwise keep a client waiting.
    """
    end = data.find(HEAD_END, max(0, searched - 3), MAX_HEAD)
    if end >= 0:
        return end + 4
    line = data.find(b"\n", 0, MAX_TARGET + 64)
    if line < 0 and len(data) >= MAX_TARGET + 64:
        raise Malformed(f"the request target is longer than {MAX_TARGET} bytes", Reason.URI_TOO_LONG)
    if len(data) >= MAX_HEAD:
        raise Malformed(f"the head is longer than {MAX_HEAD} bytes", Reason.HEADER_TOO_LARGE)
    if line >= 0 and _has_bare_lf(data, max(0, searched - 1)):
        raise Malformed("a line ends with a bare LF")
    return -1


def without_empty_lines(data: bytes) -> bytes:
    """What follows the empty lines before a request. RFC 9112 section 2.2 lets them be ignored, for clients that end a
    body with one too many; after `MAX_EMPTY_LINES` they are no mistake any more and stay, to be refused."""
    at = 0
    while at < 2 * MAX_EMPTY_LINES and data.startswith(b"\r\n", at):
        at += 2
    return data[at:]


def _has_bare_lf(data: bytes, start: int) -> bool:
    at = data.find(b"\n", start)
    while at >= 0:
        if at == 0 or data[at - 1] != 0x0D:
            return True
        at = data.find(b"\n", at + 1)
    return False


def check_start(data: bytes) -> None:
    """Look at what has arrived of a request head, so that what is not HTTP/1 is answered before it ends. Raises
    Malformed."""
    line, end, _ = data.partition(b"\r\n")
    if not (REQUEST_LINE if end else REQUEST_START).fullmatch(line):
        raise explain_request(data)
