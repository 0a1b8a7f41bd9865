"""Rate limits at work: what a request counts for, and the filters before and after its token is looked at.

    request ── rate_limit ──▶ jwt ──▶ rate_limit_claims ──▶ …
                 │ client, header, all      │ claims
                 └── 429                    └── 429

Both stages are one filter with different limits. It decides at once where the limits are local, or known to be used up;
otherwise it holds the exchange for one round trip to Redis. What was handed over by a sibling was not counted there:
the filter comes behind affinity.

It is imported where the policy is on.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from nova_api.proxy import ProxyConfig
from nova_api.request_policies.rate_limit import RateLimitPolicy
from nova_sidecar.pipeline.handled import Handled, Managed
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.policy.affinity import MARK
from nova_sidecar.policy.clients import ClientAddresses
from nova_sidecar.policy.gcra import SECOND
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.rate_limit import SCRIPT, Charge, Limit, RateLimiter, Standing, fields, refusal, values
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.store.port import StoreError

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Shared
    from nova_sidecar.pipeline.stats import PortStats

BEFORE: Final = "rate_limit"
AFTER: Final = "rate_limit_claims"
_NAMELESS: Final = b"\0client\0"


def purpose(config: ProxyConfig) -> str:
    """What tells this service from others in one Redis."""
    return f"{config.namespace}/{config.service}"


async def ask(limiter: RateLimiter, charges: Sequence[Charge], shared: "Shared") -> list[Standing]:
    """Let Redis decide about charges; without an answer this pod does, with its share."""
    store = shared.store
    if store is not None:
        keys, arguments = limiter.request(charges)
        try:
            answer = await store.run(SCRIPT, tuple(keys), tuple(arguments))
        except StoreError:
            answer = None
        if isinstance(answer, list) and len(answer) == 2 * len(charges):
            return limiter.settle(charges, answer, instant(shared.clock()))
    return limiter.alone(charges, instant(shared.clock()))


def instant(now: float) -> int:
    """Seconds as the limiter has them."""
    return int(now * SECOND)


class RateLimitDesk:
    """What all ports of a sidecar count together. See `desks.Desk`."""

    def __init__(self, config: ProxyConfig, shared: "Shared") -> None:
        self.shared = shared
        self.limiter = RateLimiter(purpose(config), config.rate_limit.max_keys)
        self.limits: dict[str, Limit] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.configure(config)

    def start(self) -> None:
        """There is nothing to begin."""

    def configure(self, config: ProxyConfig) -> None:
        """Take over other limits; buckets and counts of a name stay."""
        policy = config.rate_limit
        self.enforced = policy.mode == "Enforce"
        self.headers = policy.headers and self.enforced
        self.clients = ClientAddresses(policy.client, self._is_sibling)
        self.limiter.configure(policy.max_keys)
        limits = {rule.name: Limit(rule, config.pods) for rule in policy.limits}
        for name, limit in limits.items():
            limit.keep(self.limits.get(name))
        self.limits = limits
        self.stages = {
            stage: [one for one in limits.values() if stage_of(one.by) == stage] for stage in (BEFORE, AFTER)
        }
        self.asks = {stage: any(one.scope == "Global" for one in found) for stage, found in self.stages.items()}
        """Whether a stage has limits that Redis decides about."""

    def _is_sibling(self, address: str) -> bool:
        desk = self.shared.desk
        return desk is not None and desk.affinity.knows(address)

    async def close(self) -> None:
        """Exchanges that wait for Redis go on when it has answered, or its time is over."""
        await asyncio.gather(*self.tasks)

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data; no key is in it."""
        limits = {limit.name: limit.snapshot() for limit in self.limits.values()}
        return {"limits": limits, **self.limiter.snapshot()}

    def __repr__(self) -> str:
        return f"<RateLimitDesk {self.limiter!r}>"


class RateLimitFilter(RequestFilter):
    """The limits of one stage on one port."""

    __slots__ = ("_desk", "_shown", "_stage", "_stats")

    def __init__(self, stage: str, desk: RateLimitDesk, policy: RateLimitPolicy, stats: "PortStats") -> None:
        self._stage = stage
        self._desk = desk
        self._stats = stats
        headers = {limit.header.encode() for limit in policy.limits if limit.header is not None}
        self._shown = frozenset((policy.client.header.encode(), *headers))

    def fields(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """It only looks."""
        return frozenset(), self._shown

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """Charge it, refuse it, or hold it until Redis has decided."""
        charges = self._charges(exchange)
        if not charges:
            return None
        desk = self._desk
        limiter, at = desk.limiter, instant(now)
        standings = limiter.check(charges, at)
        if desk.asks[self._stage] and refusal(standings) is None and (remote := limiter.remote(charges)):
            store = desk.shared.store
            if store is not None and store.admits(now):
                held = desk.enforced  # nobody waits for a rehearsal; a reload changes nothing for who waits
                self._ask(exchange, charges, standings, at, held=held)
                if not held:
                    return None
                cast(Managed, exchange).hold(now)
                return QUEUED
            standings = self._joined(charges, standings, limiter.alone(remote, at), at)
        return self._conclude(exchange, charges, standings)

    def _ask(
        self, exchange: Handled, charges: list[Charge], standings: list[Standing], since: int, *, held: bool
    ) -> None:
        desk = self._desk
        task = desk.shared.loop.create_task(self._decide(exchange, charges, standings, since, held=held))
        desk.tasks.add(task)
        task.add_done_callback(desk.tasks.discard)

    async def _decide(
        self, exchange: Handled, charges: list[Charge], standings: list[Standing], since: int, *, held: bool
    ) -> None:
        desk = self._desk
        found = await ask(desk.limiter, desk.limiter.remote(charges), desk.shared)
        reject = self._conclude(exchange, charges, self._joined(charges, standings, found, since))
        managed = cast(Managed, exchange)
        if not (held and managed.waits):
            return
        if reject is not None:
            managed.refuse(reject)
        else:
            managed.go_on(self._stage, desk.shared.clock())

    def _joined(
        self, charges: list[Charge], standings: list[Standing], found: list[Standing], since: int
    ) -> list[Standing]:
        """What local limits said at `since`, and now global ones: where these refuse, those have charged nothing."""
        if refusal(found) is not None:
            self._desk.limiter.give_back(charges, standings, since, instant(self._desk.shared.clock()))
        return standings + found

    def _conclude(self, exchange: Handled, charges: list[Charge], standings: list[Standing]) -> Reject | None:
        """Count what was decided, and tell the caller."""
        desk = self._desk
        reject = refusal(standings)
        if reject is None:
            if len(charges) == 1:
                charges[0].limit.admitted += 1
            else:
                for limit in dict.fromkeys([charge.limit for charge in charges]):
                    limit.admitted += 1
        else:
            standings[-1].limit.refused += 1
            if not desk.enforced:
                self._stats.shadow_rejected[Reason.RATE_LIMITED] += 1
                return None
        if desk.headers:
            cast(Managed, exchange).lines += fields(charges, standings)
        return reject

    # --- what it counts for

    def _charges(self, exchange: Handled) -> list[Charge]:
        head = exchange.head
        charges: list[Charge] = []
        for limit in self._desk.stages[self._stage]:
            if limit.matches(head.verb, head.path):
                charges += self._keys(limit, exchange)
        return charges

    def _keys(self, limit: Limit, exchange: Handled) -> list[Charge]:
        limiter, by = self._desk.limiter, limit.by
        if by == "Client":
            return [Charge(limit, limiter.address_key(limit, self._client(exchange)))]
        if by == "All":
            return [Charge(limit, limiter.address_key(limit, b""))]
        found: list[bytes] = []
        if by == "Header":
            found = values(exchange.head.captured.get(limit.field.encode(), b""))
        elif by == "Claim":
            found = claimed(exchange, limit.field)
        if found:
            return [Charge(limit, limiter.key(limit, value)) for value in found]
        if limit.missing == "Skip":
            return []
        return [Charge(limit, limiter.address_key(limit, _NAMELESS + self._client(exchange)))]

    def _client(self, exchange: Handled) -> bytes:
        captured = exchange.head.captured
        return self._desk.clients.key(exchange.downstream.client, captured, MARK in captured)


def claimed(exchange: Handled, name: str) -> list[bytes]:
    """The value of a claim of the request's verified token, where there is one that is text or a number."""
    facts = cast(Managed, exchange).facts
    value = facts.claims.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return []
    return [str(value).encode("utf-8", "surrogatepass")]


def stage_of(by: str) -> str:
    """Where a limit is looked at."""
    return AFTER if by == "Claim" else BEFORE


def rate_limit_filter(
    stage: str, desk: RateLimitDesk, policy: RateLimitPolicy, stats: "PortStats"
) -> RateLimitFilter | None:
    """The filter of a stage; None where no limit belongs there."""
    if not any(stage_of(limit.by) == stage for limit in policy.limits):
        return None
    return RateLimitFilter(stage, desk, policy, stats)
