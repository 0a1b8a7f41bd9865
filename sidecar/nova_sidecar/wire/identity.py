"""Which requests are the same: what may be shared between two clients is decided here.

Everything that an app could look at is part of a request's identity: method, target, host, each end-to-end field with
its value, and what was verified about the caller. Left out are only fields that name one request (ids of a trace) and
those that a policy says do not matter. Names are compared in lower case and in order, values byte for byte; targets are
never normalised, since two spellings may be two resources to an app (RFC 3986 section 6.2.2 calls them equivalent; apps
do not read it).

A field that was left out and that the response's Vary names separates two requests after all (`separates`).
"""

import re
from collections.abc import Mapping
from typing import Final

from nova_sidecar.policy.deadline import HEADER as DEADLINE
from nova_sidecar.policy.trace import CONTEXT
from nova_sidecar.wire.fields import tokens
from nova_sidecar.wire.request import FORWARDED_FOR, RequestHead
from nova_sidecar.wire.response import ResponseHead

OF_ONE_REQUEST: Final = CONTEXT | {
    b"x-request-id", b"x-correlation-id", b"correlation-id", b"request-id", b"baggage", b"b3", b"x-b3-traceid",
    b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags", b"x-amzn-trace-id",
    b"x-cloud-trace-context", b"x-datadog-trace-id", b"x-datadog-parent-id", b"x-datadog-sampling-priority",
    b"uber-trace-id",
}  # fmt: skip
"""Fields that are there to tell one request from another; no response depends on them."""

UNCOMPARABLE: Final = frozenset((DEADLINE, FORWARDED_FOR)) | CONTEXT
"""Fields that this sidecar writes itself: it cannot compare what two requests will have in them."""

_ONE_CLIENTS: Final = re.compile(
    rb"\r\n(?:set-cookie|set-cookie2|x-nova-reject|x-nova-fallback):"
    rb"|\r\n(?:cache-control|pragma):[^\r]*\b(?:private|no-store|no-cache)\b",
    re.IGNORECASE,
)
_VARY: Final = re.compile(rb"\r\nvary:([^\r]*)", re.IGNORECASE)
_SAFE: Final = (b"GET", b"HEAD")


def shareable(head: RequestHead) -> bool:
    """Whether a request is safe, has no body and asks for nothing of its connection."""
    return head.method in _SAFE and not head.length and not head.upgrade and not head.expects


def identity(head: RequestHead, ignored: frozenset[bytes], own: frozenset[bytes]) -> bytes:
    """The request without the fields in `ignored` and those of one request, as bytes to compare. `own` names captured
    fields that the port replaces, such as the correlation id; other captured ones count."""
    start, *lines = head.forward[:-2].split(b"\r\n")
    counted = _captured(head.captured, own)
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in ignored and name not in OF_ONE_REQUEST:
            counted.append((name, value.strip(b" \t")))
    counted.sort(key=_name)  # a stable sort: lines of one name keep their order, which apps may read
    return b"\r\n".join((start, *(b"%b:%b" % field for field in counted)))


def _name(field: tuple[bytes, bytes]) -> bytes:
    return field[0]


def _captured(captured: Mapping[bytes, bytes], own: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in captured.items() if name not in own and name not in UNCOMPARABLE]


def depends_on(head: ResponseHead) -> tuple[bytes, ...] | None:
    """The fields of the request that a response depends on (Vary), in lower case and in order; None where it is one
    client's alone: it sets a cookie, says private, no-store or no-cache, is an error of the app, or varies by what
    nobody can compare (RFC 9111 sections 4 and 4.1)."""
    if head.status >= 500 or head.status < 200 or head.status == 429 or _ONE_CLIENTS.search(head.forward):
        return None
    names = vary(head.forward)
    return None if b"*" in names or not UNCOMPARABLE.isdisjoint(names) else names


def vary(forward: bytes) -> tuple[bytes, ...]:
    """What a response's Vary names, in lower case and in order."""
    return tuple(sorted({name for value in _VARY.findall(forward) for name in tokens(value)}))


def separates(names: tuple[bytes, ...], one: RequestHead, other: RequestHead, ignored: frozenset[bytes]) -> bool:
    """Whether Vary names a field that was left out of the identity, and the two differ in it."""
    left_out = ignored | OF_ONE_REQUEST
    return any(name in left_out and values(one, name) != values(other, name) for name in names)


def values(head: RequestHead, name: bytes) -> tuple[bytes, ...]:
    """What a request says in a field, line by line, whether it goes on or was taken out for the pipeline."""
    taken = head.captured.get(name)
    found = re.findall(rb"\r\n%b:[ \t]*([^\r]*?)[ \t]*(?=\r)" % re.escape(name), head.forward, re.IGNORECASE)
    return (*found, taken) if taken is not None and not found else tuple(found)
