"""Which responses a shared cache may keep, for which requests they stand, and what a client gets of them (RFC 9111).

`wire.keeping` has the same task for the fallback, and is more careful: there an answer is used that nobody allowed.
Here the app has allowed it, and what it says is followed to the letter; where it says nothing, nothing is kept.

A request is known by its host, its target byte for byte, the fields that every response depends on, and by fields of
which frameworks make links or choose sites without saying so in Vary (`_STEERING`): whoever sends X-Forwarded-Host gets
an entry of his own, and cannot put a foreign host into other people's pages.
"""

import re
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from nova_sidecar.policy.fallback import FALLBACK
from nova_sidecar.policy.freshness import Stored, Terms, Wish, no_wish
from nova_sidecar.wire.directives import directives
from nova_sidecar.wire.fields import UNTIL_CLOSE
from nova_sidecar.wire.identity import UNCOMPARABLE, shareable, values, vary
from nova_sidecar.wire.keeping import Credentials
from nova_sidecar.wire.memo import Memo
from nova_sidecar.wire.request import RequestHead
from nova_sidecar.wire.response import ResponseHead

CONDITIONS: Final = frozenset((b"if-none-match", b"if-modified-since"))
"""Fields of a request that the cache takes out: it answers them, or puts them back."""

_STATUSES: Final = frozenset((200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501))
_STEERING: Final = re.compile(
    rb"\r\n(x-forwarded-(?!for:)[^:\r]*|forwarded|front-end-https|x-url-scheme|x-http-method(?:-override)?"
    rb"|x-method-override|x-(?:host|scheme|proto|port|prefix|script-name|base-url|override[^:\r]*|original[^:\r]*"
    rb"|rewrite[^:\r]*|http-host[^:\r]*|backend[^:\r]*|server-name)):[ \t]*([^\r]*)",
    re.IGNORECASE,
)
_PARTIAL: Final = re.compile(rb"\r\n(?:range|if-range|if-match|if-unmodified-since):", re.IGNORECASE)
_HOST: Final = re.compile(rb"\r\nhost:[ \t]*([^\r]*?)[ \t]*\r", re.IGNORECASE)
_NO_CACHE: Final = re.compile(rb"\r\npragma:[^\r]*\bno-cache\b", re.IGNORECASE)
_NEVER: Final = re.compile(rb"\r\n(?:content-range|x-nova-reject|trailer|%b):" % FALLBACK, re.IGNORECASE)
_SET_COOKIE: Final = re.compile(rb"\r\nset-cookie2?:[^\r]*", re.IGNORECASE)
_OWN: Final = re.compile(rb"\r\n(?:age|content-length):[^\r]*", re.IGNORECASE)
_FIELD: Final = re.compile(rb"\r\n(age|date|expires|etag|last-modified):[ \t]*([^\r]*?)[ \t]*(?=\r)", re.IGNORECASE)
_OF_304: Final = re.compile(rb"\r\n((?:cache-control|content-location|date|etag|expires|vary):[^\r]*)", re.IGNORECASE)
_TAG: Final = re.compile(rb"(?:W/)?(\"[^\"]*\")")
_KEPT_AT_304: Final = frozenset((
    b"content-length", b"content-encoding", b"content-type", b"content-range", b"content-location", b"etag",
    b"set-cookie", b"set-cookie2", b"transfer-encoding", b"connection", b"age", b"trailer",
))  # fmt: skip
"""Fields of a 304 that do not replace those of what is stored (RFC 9111 section 3.2), since the body is the old one."""


class Allowances(NamedTuple):
    """What a policy lets be kept beyond what responses say."""

    largest: int
    """Bytes of a body."""
    while_revalidate: float
    if_error: float
    """Seconds, where a response does not say so itself."""
    set_cookie: bool


class Storable(NamedTuple):
    """What of a response is kept, but for its body."""

    head: bytes
    """Status line and fields, without length and age."""
    age: float
    """Seconds it was old when it came."""
    terms: Terms
    vary: tuple[bytes, ...]
    etag: bytes
    modified: bytes


# --- requests


def asked(head: RequestHead, key_headers: tuple[bytes, ...], tenant: bytes = b"") -> bytes | None:
    """The key of what a request asks for; None where no stored response could answer it, nor its response be stored."""
    forward = head.forward
    if not shareable(head) or _PARTIAL.search(forward):
        return None
    parts = [place(head, tenant), forward.split(b" ", 2)[1]]
    parts += [b"%b=%b" % (name, b"\0".join(values(head, name))) for name in key_headers]
    return b"\n".join(parts)


def place(head: RequestHead, tenant: bytes) -> bytes:
    """For which host a request is, by all that may decide it, and for which tenant."""
    host = _HOST.search(head.forward)
    parts = [host[1].lower() if host else b"", tenant]
    parts += [b"%b:%b" % (name.lower(), value) for name, value in _STEERING.findall(head.forward)]
    return b"\t".join(parts)


def variant(key: bytes, head: RequestHead, names: tuple[bytes, ...]) -> bytes:
    """The key of the response to a request among those that differ by the fields in `names` (section 4.1)."""
    if not names:
        return key
    return b"\n".join((key, *(b"%b\t%b" % (name, b"\0".join(values(head, name))) for name in names)))


def wish(head: RequestHead) -> Wish:
    """What a request says about its answer (section 5.2.1)."""
    said = directives(head.forward)
    if not said:
        return no_wish()._replace(ask=True) if _NO_CACHE.search(head.forward) else no_wish()
    return Wish(
        age=float(said.get(b"max-age", -1)),
        fresh_for=float(max(0, said.get(b"min-fresh", 0))),
        stale_for=float(max(0, said.get(b"max-stale", 0))),
        ask=b"no-cache" in said,
    )


def forbids_storing(head: RequestHead) -> bool:
    """Whether a request says no-store."""
    return b"no-store" in directives(head.forward)


def only_if_cached(head: RequestHead) -> bool:
    """Whether a request wants a stored response or none."""
    return b"only-if-cached" in directives(head.forward)


# --- responses


def storable(  # noqa: PLR0911 - a line for each rule
    head: ResponseHead, who: Credentials, allowed: Allowances, *, delay: float, wall: float
) -> Storable | None:
    """What to keep of this response to a request with these credentials; None where it must not be kept. `delay`: how
    long the request took, seconds; `wall`: the time of day in seconds since 1970 (sections 3 and 4.2.3)."""
    forward = head.forward
    if head.status not in _STATUSES or head.length == UNTIL_CLOSE or head.length > allowed.largest:
        return None
    said = directives(forward)
    if b"no-store" in said or b"private" in said or _NEVER.search(forward):
        return None
    if not said and _NO_CACHE.search(forward):
        return None
    if not _open_to(said, who):
        return None
    if _SET_COOKIE.search(forward):
        if not allowed.set_cookie:
            return None
        forward = _SET_COOKIE.sub(b"", forward)
    names = vary(forward)
    if b"*" in names or not UNCOMPARABLE.isdisjoint(names):
        return None
    fields = _fields(forward)
    etag, modified = _etag(fields.get(b"etag", b"")), fields.get(b"last-modified", b"")
    terms = _terms(said, fields, allowed)
    if terms is None or (not (etag or modified) and (terms.always_ask or _never_used(terms))):
        return None
    return Storable(kept_head(forward), _age(fields, delay, wall), terms, names, etag, modified)


def never(forward: bytes) -> bool:
    """Whether a response has a field with which none is ever kept."""
    return _NEVER.search(forward) is not None or _SET_COOKIE.search(forward) is not None


def kept_head(forward: bytes) -> bytes:
    """A response's head as it is kept, without its length and age."""
    return _OWN.sub(b"", forward)


def _open_to(said: dict[bytes, int], who: Credentials) -> bool:
    """Whether a response to a request that told who asks may be given to others (section 3.5). Of cookies and the like
    the RFC does not speak; must-revalidate is not enough there, as frameworks send it with every page."""
    if who is Credentials.NONE or b"public" in said or b"s-maxage" in said:
        return True
    return who is Credentials.AUTHORIZATION and b"must-revalidate" in said


def _terms(said: dict[bytes, int], fields: dict[bytes, bytes], allowed: Allowances) -> Terms | None:
    """None where the response says nothing of its freshness."""
    always_ask = b"no-cache" in said
    lifetime = said.get(b"s-maxage", said.get(b"max-age", -1))
    if lifetime < 0 and b"expires" in fields:
        expires, date = seconds_of(fields[b"expires"]), seconds_of(fields.get(b"date", b""))
        lifetime = 0 if expires is None or date is None else int(max(0.0, expires - date))
    if lifetime < 0:
        if not always_ask:
            return None
        lifetime = 0
    if b"must-revalidate" in said or b"proxy-revalidate" in said:
        return Terms(float(lifetime), 0.0, -1.0, always_ask)
    strict = b"s-maxage" in said  # section 5.2.2.10: what the response does not allow itself, no policy may
    return Terms(
        float(lifetime),
        float(said.get(b"stale-while-revalidate", 0.0 if strict else allowed.while_revalidate)),
        float(said.get(b"stale-if-error", -1.0 if strict else allowed.if_error)),
        always_ask,
    )


def _never_used(terms: Terms) -> bool:
    return terms.lifetime <= 0 and terms.while_revalidate <= 0 and terms.if_error <= 0


def _fields(forward: bytes) -> dict[bytes, bytes]:
    """The first line of each field that matters."""
    found: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(forward):
        found.setdefault(name.lower(), value)
    return found


def _etag(value: bytes) -> bytes:
    return value if _TAG.fullmatch(value) else b""


def _age(fields: dict[bytes, bytes], delay: float, wall: float) -> float:
    given = fields.get(b"age", b"")
    said = float(given[:10]) if given.isdigit() else 0.0
    date = seconds_of(fields.get(b"date", b""))
    return max(said + delay, wall - date if date is not None else 0.0, 0.0)


_dates: Final[Memo[bytes, tuple[float | None]]] = Memo()


def seconds_of(value: bytes) -> float | None:
    """An HTTP date in seconds since 1970; None where it is none."""
    found = _dates.get(value)
    if found is None:
        found = (_parse_date(value),)
        _dates.offer(value, found)
    return found[0]


def _parse_date(value: bytes) -> float | None:
    if not 16 <= len(value) <= 64:
        return None
    try:
        return float(parsedate_to_datetime(value.decode("ascii")).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


# --- from a stored response


def holds(stored: Stored, head: RequestHead) -> bool:
    """Whether what the client has is what is stored, so that 304 says it all (RFC 9110 section 13.2.2)."""
    if stored.status != 200:
        return False
    tags = head.captured.get(b"if-none-match")
    if tags is not None:
        if tags.strip() == b"*":
            return True
        own = _TAG.fullmatch(stored.etag)
        return own is not None and own[1] in _TAG.findall(tags)
    since = head.captured.get(b"if-modified-since")
    if since is None or not stored.modified:
        return False
    if since == stored.modified:
        return True
    asked_for, modified = seconds_of(since), seconds_of(stored.modified)
    return asked_for is not None and modified is not None and modified <= asked_for


def conditions(head: RequestHead) -> bytes:
    """The client's own conditions, as lines for the app."""
    taken = head.captured
    return b"".join([b"%b: %b\r\n" % (name, taken[name]) for name in sorted(CONDITIONS) if name in taken])


def validation(stored: Stored) -> bytes:
    """The lines that ask the app whether what is stored still holds."""
    lines = b"if-none-match: %b\r\n" % stored.etag if stored.etag else b""
    return lines + b"if-modified-since: %b\r\n" % stored.modified if stored.modified else lines


def whole(stored: Stored, now: float) -> bytes:
    """The head of a stored response as it goes to a client."""
    age = b"age: %d\r\n" % int(stored.age_at(now))
    if stored.status == 204:
        return stored.head + age
    return b"%bcontent-length: %d\r\n%b" % (stored.head, len(stored.body), age)


def not_modified(stored: Stored, now: float) -> bytes:
    """The head that says that the client has it already (RFC 9110 section 15.4.5)."""
    lines = b"".join([line + b"\r\n" for line in _OF_304.findall(stored.head)])
    return b"HTTP/1.1 304 Not Modified\r\n%bage: %d\r\n" % (lines, int(stored.age_at(now)))


def confirms(stored: Stored, head: ResponseHead) -> bool:
    """Whether a 304 speaks of what is stored (RFC 9111 section 4.3.4): one with another validator does not."""
    fields = _fields(head.forward)
    given = fields.get(b"etag")
    if given is not None and stored.etag:
        return given.removeprefix(b"W/") == stored.etag.removeprefix(b"W/")
    return True


def renewed(stored: Stored, head: ResponseHead) -> ResponseHead:
    """The stored response's head with what a 304 says anew (section 3.2)."""
    new = [line for line in head.forward[:-2].split(b"\r\n")[1:] if _name(line) not in _KEPT_AT_304]
    names = {_name(line) for line in new}
    start, *old = stored.head[:-2].split(b"\r\n")
    lines = [line for line in old if _name(line) not in names]
    forward = b"\r\n".join((start, *lines, *new, b""))
    return ResponseHead(stored.status, keep_alive=True, length=len(stored.body), forward=forward, retry_after=None)


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


# --- invalidation


def unsafe(head: RequestHead) -> bool:
    """Whether a request may change what is stored about its target (section 4.4)."""
    return head.method not in (b"GET", b"HEAD", b"OPTIONS", b"TRACE")


_PLACES: Final = re.compile(rb"\r\n(?:location|content-location):[ \t]*([^\r]*?)[ \t]*(?=\r)", re.IGNORECASE)
_ORIGIN: Final = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


def places(head: RequestHead, response: ResponseHead) -> list[bytes]:
    """Targets of the same origin that an unsafe request's response says have changed: its own, and what Location and
    Content-Location name."""
    host = _HOST.search(head.forward)
    own = host[1].lower() if host else b""
    found = [head.forward.split(b" ", 2)[1]]
    for value in _PLACES.findall(response.forward):
        absolute = _ORIGIN.fullmatch(value)
        if absolute is not None and absolute[1].lower() == own:
            found.append(absolute[2] or b"/")
        elif value[:1] == b"/" and value[:2] != b"//":
            found.append(value.partition(b"#")[0])
    return found
