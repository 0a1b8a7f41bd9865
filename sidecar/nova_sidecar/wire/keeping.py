"""Which responses may be kept and given to others later, and for which requests they stand.

A cautious reading of RFC 9111: GET and 200 alone; nothing for or from somebody in particular (credentials, cookies,
``private``); nothing that its origin wants asked for each time (section 4.2.4); nothing partial. What a response
depends on is the target, the host, the tenant, and the fields that Vary names.
"""

import re
from enum import Enum
from typing import Final, NamedTuple

from nova_sidecar.policy.fallback import FALLBACK
from nova_sidecar.wire.fields import tokens
from nova_sidecar.wire.request import RequestHead
from nova_sidecar.wire.response import ResponseHead

Question = tuple[bytes, bytes, bytes]
"""What makes two requests the same: host, target and tenant."""

_CREDENTIALS: Final = re.compile(rb"\r\n(proxy-authorization|authorization|cookie|x-api-key):", re.IGNORECASE)
_SPECIAL: Final = re.compile(rb"\r\n(?:range|upgrade):", re.IGNORECASE)
_PERSON: Final = re.compile(
    rb"\r\n(x-[^:\r]*(?:token|auth|user|session|secret|credential|identity)[^:\r]*):", re.IGNORECASE
)
"""Fields of no standard whose names say that they tell who somebody is, as gateways put them in."""
_FRESH_ONLY: Final = re.compile(
    rb"\r\n(?:cache-control|pragma):[^\r]*\b(?:no-store|no-cache)\b|\r\ncache-control:[^\r]*\bonly-if-cached\b",
    re.IGNORECASE,
)
_UNKEEPABLE: Final = re.compile(
    rb"\r\n(?:set-cookie|set-cookie2|content-range|%b):"
    rb"|\r\n(?:cache-control|pragma):[^\r]*\b(?:private|no-store|no-cache|must-revalidate|proxy-revalidate)\b"
    % FALLBACK,
    re.IGNORECASE,
)
_OWN: Final = re.compile(rb"\r\n(?:age|content-length):[^\r]*", re.IGNORECASE)
_AGE: Final = re.compile(rb"\r\nage:[ \t]*([0-9]{1,9})[ \t]*\r", re.IGNORECASE)
_VARY: Final = re.compile(rb"\r\nvary:([^\r]*)", re.IGNORECASE)
_HOST: Final = re.compile(rb"\r\nhost:[ \t]*([^\r]*?)[ \t]*\r", re.IGNORECASE)


class Keepable(NamedTuple):
    """What of a response's head is kept."""

    head: bytes
    """Status line and fields, without length and age."""
    age: int
    """Seconds it was old when it came."""
    vary: tuple[bytes, ...]
    """Names of the request's fields that it depends on, in lower case."""


class Credentials(Enum):
    """What a request says about who sent it."""

    NONE = "none"
    AUTHORIZATION = "authorization"  # that field alone, of which RFC 9111 section 3.5 speaks
    OTHER = "other"  # cookies, keys, and what gateways put in


def credentials(forward: bytes, tenant: bytes = b"") -> Credentials:
    """Whether a request's fields tell who sent it; the tenant's field, which is part of what is asked, does not."""
    found = {name.lower() for name in _CREDENTIALS.findall(forward)}
    if len(found) > (b"authorization" in found) or any(name.lower() != tenant for name in _PERSON.findall(forward)):
        return Credentials.OTHER
    return Credentials.AUTHORIZATION if found else Credentials.NONE


def question(head: RequestHead, tenant: bytes) -> Question | None:
    """What this request asks for, None where an answer to it is nobody else's. `tenant` names the tenant's field."""
    forward = head.forward
    if head.length or head.method not in (b"GET", b"HEAD") or _SPECIAL.search(forward) or _FRESH_ONLY.search(forward):
        return None
    if credentials(forward, tenant) is not Credentials.NONE:
        return None
    host = _HOST.search(forward)
    return host[1].lower() if host else b"", forward.split(b" ", 2)[1], field(forward, tenant) or b""


def keepable(head: ResponseHead) -> Keepable | None:
    """What to keep of this response, None where it must not be."""
    forward = head.forward
    if head.status != 200 or _UNKEEPABLE.search(forward):
        return None
    vary = tuple(sorted({name for value in _VARY.findall(forward) for name in tokens(value)}))
    if b"*" in vary:
        return None
    age = _AGE.search(forward)
    return Keepable(_OWN.sub(b"", forward), int(age[1]) if age else 0, vary)


def varies(head: RequestHead, names: tuple[bytes, ...]) -> tuple[tuple[bytes, bytes | None], ...]:
    """The request's values of these fields."""
    return tuple((name, field(head.forward, name)) for name in names)


def field(forward: bytes, name: bytes) -> bytes | None:
    """The value of a field among the lines that go on; several lines make a list (RFC 9110 section 5.3)."""
    values = re.findall(rb"\r\n%b:[ \t]*([^\r]*?)[ \t]*(?=\r)" % re.escape(name), forward, re.IGNORECASE)
    return b", ".join(values) if values else None
