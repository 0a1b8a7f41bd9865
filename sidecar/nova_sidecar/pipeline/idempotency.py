"""Filters for requests that carry an Idempotency-Key: which ones they are, who asks, and what they say.

A request is read as far as it is compared before it goes on, so that a repetition never reaches the app. It stands
behind authentication and rates, which hold for repetitions as well, and before caches and limits: a repetition takes no
place. Imported where the policy is on.
"""

from functools import partial
from typing import Final, cast

from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.request_policies.jwt import JwtPolicy
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.idempotency_claims import Counts, Turn
from nova_sidecar.pipeline.idempotency_desk import IdempotencyDesk
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.pipeline.upgrade import field
from nova_sidecar.policy.idempotency import KEY, Result, fingerprint, identity, parse_key, scope
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.readings import PathMatcher
from nova_sidecar.policy.reasons import Reason, Reject

_INVALID: Final = Reject(Reason.IDEMPOTENCY_KEY_INVALID)


class IdempotencyFilter(RequestFilter):
    """See the module."""

    __slots__ = ("_counts", "_desk", "_identity", "_methods", "_most", "_port", "_required")

    def __init__(
        self, policy: IdempotencyPolicy, desk: IdempotencyDesk, stats: PortStats, jwt: JwtPolicy | None = None
    ) -> None:
        self._desk = desk
        self._port = stats.name.encode()
        self._counts = cast(Counts, stats.policies.setdefault("idempotency", Counts()))
        self._methods = frozenset(method.encode() for method in policy.methods)
        self._required = PathMatcher(policy.required_paths)
        self._identity = _shown(policy, jwt)
        self._most = policy.max_request_bytes

    def fields(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """The key and what tells callers apart; all of them go on to the app."""
        return self.replaces, frozenset((KEY, *self._identity))

    def on_request(self, handled: Handled, now: float) -> Reject | Queued | None:
        """Let it pass where it has no key, refuse it where it should have one, else hold it."""
        exchange = cast(ManagedExchange, handled)  # ports with this filter make no others
        head = exchange.head
        if head.method not in self._methods:
            return None
        value = head.captured.get(KEY)
        if value is None and not self._required.matches(head.path):
            return None
        key = parse_key(value) if value is not None else None
        if key is None:
            self._counts.results[Result.INVALID] += 1
            return _INVALID
        return self._take(exchange, key)

    def _take(self, exchange: ManagedExchange, key: bytes) -> Queued | None:
        exchange.read_body(self._most, partial(self._enter, exchange, key))
        return QUEUED

    def _enter(self, exchange: ManagedExchange, key: bytes, body: bytes | None) -> None:
        turn = Turn(exchange, self._says(exchange, body), self._counts)
        self._desk.enter(self._scope(exchange, key), turn, exchange.port.clock())

    def _says(self, exchange: ManagedExchange, body: bytes | None) -> bytes:
        target = exchange.head.forward.partition(b"\r\n")[0].split(b" ")[1]
        return fingerprint(target.partition(b"?")[2], body, exchange.head.length)

    def _scope(self, exchange: ManagedExchange, key: bytes) -> str:
        head, facts = exchange.head, exchange.facts
        captured = head.captured
        shown = tuple((name, captured[name]) for name in self._identity if name in captured)
        who = identity(subject=facts.subject, tenant=facts.tenant, shown=shown)
        path, host = head.path.encode("ascii"), field(head.forward, b"host")
        return scope(key, head.method, host, path, who, port=self._port)

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Where it waited, it does so no more."""
        self._desk.left(exchange)


def _shown(policy: IdempotencyPolicy, jwt: JwtPolicy | None) -> tuple[bytes, ...]:
    """What tells callers apart. Where tokens are verified, one without a subject does so by itself."""
    names = dict.fromkeys(policy.identity_headers)
    if jwt is not None and jwt.mode == "Enforce":
        names[jwt.source.header] = None
        if jwt.source.cookie is not None:
            names["cookie"] = None
    return tuple(name.encode() for name in names)


class ShadowIdempotencyFilter(IdempotencyFilter):
    """The same in Shadow mode: counts what Enforce would have done, and lets everything pass."""

    __slots__ = ("_stats",)

    def __init__(
        self, policy: IdempotencyPolicy, desk: IdempotencyDesk, stats: PortStats, jwt: JwtPolicy | None = None
    ) -> None:
        super().__init__(policy, desk, stats, jwt)
        self._stats = stats

    def on_request(self, handled: Handled, now: float) -> Reject | Queued | None:
        """Nothing is held or refused."""
        answer = super().on_request(handled, now)
        if isinstance(answer, Reject):
            self._stats.shadow_rejected[answer.reason] += 1
        return None

    def _take(self, exchange: ManagedExchange, key: bytes) -> Queued | None:
        self._desk.rehearse(self._scope(exchange, key), exchange, self._says(exchange, None), self._counts)
        return None
