"""Lets only requests with a valid token through, and tells the app who sends them.

    request ── open path ──▶ on, as nobody
       └── token ── known ──▶ on, with the claims the app is to have, or refused
              └── not known ──▶ held until the desk knows ──▶ the same

What the app is told in the policy's headers is the sidecar's word: a field of such a name never reaches it as it came,
in whatever spelling (`policy.jwt.spellings`), on whatever path, in Shadow mode as well, and no trailer brings it later.
In Shadow mode the app gets none of them, nobody is refused, and nobody waits: what Enforce would have said of a token
that must be looked up first is counted when it is known.

A token that is remembered costs 4 to 6 µs, one that is verified (RS256) about 100. Imported where the policy is on.
"""

import time
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Final, cast

from nova_sidecar.pipeline.facts import Facts
from nova_sidecar.pipeline.handled import Handled, Managed
from nova_sidecar.pipeline.jwt_stats import Tier
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.policy.jws import Fault
from nova_sidecar.policy.jwt import OpenPaths, Verdict, bearer, challenge, cookie, spellings
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject

if TYPE_CHECKING:
    from nova_api.proxy import Jwt
    from nova_sidecar.pipeline.jwt_desk import JwtDesk
    from nova_sidecar.pipeline.stats import PortStats

OPEN: Final = "open"
VALID: Final = "valid"
RESULTS: Final = (OPEN, VALID, *(fault.value for fault in Fault))
"""What became of a request here; what people see in metrics."""
_STAGE: Final = "jwt"
_AUTHORIZATION: Final = b"authorization"
_COOKIE: Final = b"cookie"
_PREFLIGHT: Final = (b"origin", b"access-control-request-method")
_FETCH_AGAIN: Final = 2.0
"""Seconds after which a request makes sense again that no key was there for."""


class JwtFilter(RequestFilter):
    """See the module. One per port."""

    __slots__ = (
        "_cookie",
        "_counts",
        "_desk",
        "_enforced",
        "_guards",
        "_header",
        "_longest",
        "_open",
        "_preflight",
        "_rejects",
        "_shadowed",
        "_wall",
    )  # fmt: skip

    def __init__(
        self, policy: "Jwt", desk: "JwtDesk", stats: "PortStats", realm: str, wall: Callable[[], float] = time.time
    ) -> None:
        self._desk = desk
        self._wall = wall
        self._enforced = policy.mode == "Enforce"
        self._header = policy.source.header.encode()
        self._cookie = policy.source.cookie.encode() if policy.source.cookie is not None else b""
        self._longest = policy.max_token_bytes
        self._open = OpenPaths(policy.open_paths)
        self._preflight = policy.open_preflight
        self._rejects = {fault: _reject(fault, realm) for fault in Fault}
        self._counts: dict[str, int] = stats.policies.setdefault("jwt", dict.fromkeys(RESULTS, 0))
        self._shadowed = stats.shadow_rejected
        self._guards = frozenset(spellings(one.header.encode()) for one in policy.claim_headers)

    def guards(self) -> frozenset[bytes]:
        """The headers that have claims."""
        return self._guards

    def fields(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """The token goes on to the app, which may want to read more of it."""
        shown = {self._header}
        if self._cookie:
            shown.add(_COOKIE)
        if self._preflight:
            shown.update(_PREFLIGHT)
        return frozenset(), frozenset(shown)

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """Let it pass, refuse it, or hold it."""
        head = exchange.head
        if self._open.has(head.path) or (self._preflight and _is_preflight(head.method, head.captured)):
            self._counts[OPEN] += 1
            return None
        text = self._token(head.captured)
        if isinstance(text, Fault):
            return self._decide(exchange, text)
        desk = self._desk
        digest = sha256(text).digest()
        found = desk.cache.find(digest, self._wall())
        if found is None:
            found = desk.ask(text, digest, lambda answer: self._told(exchange, answer))
            if found is None:
                if not self._enforced:
                    return None
                managed(exchange).hold(now)
                return QUEUED
        else:
            desk.stats.tiers[Tier.REFUSED if isinstance(found, Fault) else Tier.REMEMBERED] += 1
        return self._decide(exchange, found)

    def _token(self, captured: dict[bytes, bytes]) -> bytes | Fault:
        """The token of a request."""
        found: bytes | Fault | None = None
        value = captured.get(self._header)
        if value is not None:
            found = bearer(value)
            if found is None and self._header != _AUTHORIZATION:
                found = value
        if found is None and self._cookie and _COOKIE in captured:
            found = cookie(captured[_COOKIE], self._cookie)
        if found is None:
            return Fault.MISSING
        return Fault.OVERSIZED if isinstance(found, bytes) and len(found) > self._longest else found

    def _told(self, exchange: Handled, answer: Verdict | Fault) -> None:
        """What was asked is known now."""
        held = managed(exchange)
        if not self._enforced:  # it has gone on, and what it is known by no longer changes
            self._count(answer)
            return
        if not held.waits:
            return
        reject = self._decide(exchange, answer)
        if reject is not None:
            held.refuse(reject)
        else:
            held.go_on(_STAGE, held.port.clock())

    def _decide(self, exchange: Handled, found: Verdict | Fault) -> Reject | None:
        """Do what is to be done by it."""
        reject = self._count(found)
        if isinstance(found, Fault):
            return reject
        held = managed(exchange)
        if self._enforced:
            held.facts = Facts(found.subject, held.facts.tenant, found.claims)
            exchange.trace += found.lines
        else:  # whose a request is does not hang on whether its token happens to be remembered
            held.facts = Facts(b"", held.facts.tenant, found.claims)
        return None

    def _count(self, found: Verdict | Fault) -> Reject | None:
        """Count it; the refusal, where it is one."""
        if not isinstance(found, Fault):
            self._counts[VALID] += 1
            return None
        self._counts[found.value] += 1
        reject = self._rejects[found]
        if self._enforced:
            return reject
        self._shadowed[reject.reason] += 1
        return None

    def __repr__(self) -> str:
        return f"<JwtFilter {'enforced' if self._enforced else 'shadow'}>"


def managed(exchange: Handled) -> Managed:
    """What ports with this filter make."""
    return cast(Managed, exchange)


def _is_preflight(method: bytes, captured: dict[bytes, bytes]) -> bool:
    """A browser's question before a cross-origin request (Fetch standard, "CORS-preflight request")."""
    return method == b"OPTIONS" and all(name in captured for name in _PREFLIGHT)


def _reject(fault: Fault, realm: str) -> Reject:
    if fault is Fault.BUSY:
        return Reject(Reason.SIDECAR_OVERLOADED, OVERLOAD_RETRY_AFTER)
    if fault is Fault.KEYS_UNAVAILABLE:
        return Reject(Reason.KEYS_UNAVAILABLE, _FETCH_AGAIN)
    reason = Reason.FORBIDDEN if fault is Fault.FORBIDDEN else Reason.UNAUTHENTICATED
    return Reject(reason, None, challenge(fault, realm))
