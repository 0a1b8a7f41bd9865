"""Cache-Control, as requests and responses say it (RFC 9111 section 5.2).

What is said twice counts in its strictest form, and a number that is none counts as 0: whoever writes carelessly gets
less caching, never more (section 4.2.1 lets a cache take such a response for stale).
"""

import re
from typing import Final

from nova_sidecar.wire.memo import Memo

LONGEST: Final = 31_536_000 * 10
"""Largest number of seconds that is told apart, ten years."""

_LINES: Final = re.compile(rb"\r\ncache-control:([^\r]*)", re.IGNORECASE)
_PART: Final = re.compile(
    rb"[ \t,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*=[ \t]*(\"(?:[^\"\\]|\\.)*\"|[^,\" \t]*))?[^,]*"
)
_SECONDS: Final = (b"max-age", b"s-maxage", b"stale-while-revalidate", b"stale-if-error", b"max-stale", b"min-fresh")

Directives = dict[bytes, int]
"""Directives by name in lower case, with their seconds; -1 for those without."""

_NOTHING: Final[Directives] = {}
_memo: Final[Memo[bytes, Directives]] = Memo()


def directives(forward: bytes) -> Directives:
    """What all Cache-Control lines of a head say together. Not to be changed."""
    lines = _LINES.findall(forward)
    if not lines:
        return _NOTHING
    value = b",".join(lines)
    found = _memo.get(value)
    if found is None:
        found = parse(value)
        _memo.offer(value, found)
    return found


def parse(value: bytes) -> Directives:
    """The directives of one list."""
    found: Directives = {}
    at = 0
    while at < len(value):
        match = _PART.match(value, at)
        if match is None or match.end() == at:
            if b"," not in value[at:]:
                break
            at = value.index(b",", at) + 1
            continue
        at = match.end()
        name = match[1].lower()
        seconds = _seconds(name, match[2])
        former = found.get(name)
        if former is None or former < 0:
            found[name] = seconds
        elif seconds >= 0:
            found[name] = max(former, seconds) if name == b"min-fresh" else min(former, seconds)
    return found


def _seconds(name: bytes, argument: bytes | None) -> int:
    if name not in _SECONDS:
        return -1
    if argument is None:
        return LONGEST if name == b"max-stale" else 0
    digits = argument.strip(b'"')
    if not digits.isdigit():
        return 0
    return min(int(digits[:12]), LONGEST)
