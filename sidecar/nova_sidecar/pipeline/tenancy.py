"""Tenancy at work: finds the tenant of a request, charges its rate, and counts what it has under way.

It comes behind jwt, whose claims may name the tenant, and before whatever costs something. The tenant stays counted
until the exchange is over, or has become a tunnel. Where requests wait for a place the limiter lets tenants take turns
(`flow_of`).

It is imported where the policy is on.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from nova_api.proxy import ProxyConfig
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_sidecar.pipeline.handled import Handled, Managed
from nova_sidecar.pipeline.rate_limit import ask, claimed, instant, purpose
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.policy.fair_queue import NOBODY, Flow
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.rate_limit import Charge, RateLimiter, refusal, values
from nova_sidecar.policy.readings import segment
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.tenancy import Tenancy, Tenant

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Shared
    from nova_sidecar.pipeline.stats import PortStats

STAGE: Final = "tenancy"


class TenancyDesk:
    """The tenants of a sidecar, over all its ports. See `desks.Desk`."""

    def __init__(self, config: ProxyConfig, shared: "Shared") -> None:
        self.shared = shared
        self.tenancy = Tenancy(config.tenancy, config.pods)
        self.limiter = RateLimiter(purpose(config), config.tenancy.max_keys)
        self.of: dict[Handled, Tenant] = {}
        """Whom an exchange counts for, while it does."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.configure(config)

    def start(self) -> None:
        """There is nothing to begin."""

    def configure(self, config: ProxyConfig) -> None:
        """Take over other quotas; who is there stays."""
        self.policy = config.tenancy
        self.enforced = config.tenancy.mode == "Enforce"
        self.tenancy.configure(config.tenancy, config.pods)
        self.limiter.configure(config.tenancy.max_keys)

    def flow_of(self, exchange: Handled) -> Flow:
        """Whose turn it is where the exchange waits; in Shadow nobody is told apart."""
        tenant = self.of.get(exchange) if self.enforced else None
        return NOBODY if tenant is None else tenant.flow

    async def close(self) -> None:
        """Exchanges that wait for Redis go on when it has answered, or its time is over."""
        await asyncio.gather(*self.tasks)

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data. Names are those of the configuration."""
        return {**self.tenancy.snapshot(), **self.limiter.snapshot()}

    def __repr__(self) -> str:
        return f"<TenancyDesk {self.tenancy!r}>"


class TenancyFilter(RequestFilter):
    """The tenancy of one port."""

    __slots__ = ("_desk", "_shown", "_stats")

    def __init__(self, desk: TenancyDesk, policy: TenancyPolicy, stats: "PortStats") -> None:
        self._desk = desk
        self._stats = stats
        self._shown = frozenset((policy.header.encode(),) if policy.by == "Header" else ())

    def fields(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """It only looks."""
        return frozenset(), self._shown

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """Count it for its tenant, refuse it, or hold it until Redis has decided about the rate."""
        desk = self._desk
        tenancy = desk.tenancy
        names = self._names(exchange)
        tenant = tenancy.find(names)
        if isinstance(tenant, Reject):
            return self._answer(tenant)
        if names and desk.enforced:
            managed = cast(Managed, exchange)
            managed.facts = managed.facts.with_tenant(names[0])
        if tenant.limit is None:
            return self._enter(exchange, tenant)
        charges = [Charge(tenant.limit, desk.limiter.key(tenant.limit, tenant.name))]
        at = instant(now)
        standings = desk.limiter.check(charges, at)
        if tenant.limit.scope == "Global" and refusal(standings) is None:
            store = desk.shared.store
            if store is not None and store.admits(now):
                held = desk.enforced
                if held:
                    cast(Managed, exchange).hold(now)
                self._ask(exchange, tenant, charges, held=held)
                return QUEUED if held else self._enter(exchange, tenant)
            standings = desk.limiter.alone(charges, at)
        return self._charged(exchange, tenant, refusal(standings))

    def _ask(self, exchange: Handled, tenant: Tenant, charges: list[Charge], *, held: bool) -> None:
        desk = self._desk
        task = desk.shared.loop.create_task(self._decide(exchange, tenant, charges, held=held))
        desk.tasks.add(task)
        task.add_done_callback(desk.tasks.discard)

    async def _decide(self, exchange: Handled, tenant: Tenant, charges: list[Charge], *, held: bool) -> None:
        """`held`: it waits for this, and not for another stage of a rehearsal that it has passed."""
        desk = self._desk
        reject = refusal(await ask(desk.limiter, charges, desk.shared))
        managed = cast(Managed, exchange)
        if not (held and managed.waits):  # it is a rehearsal, or over
            if reject is not None:
                self._refused(tenant, reject)
            return
        answer = self._charged(exchange, tenant, reject)
        if isinstance(answer, Reject):
            managed.refuse(answer)
        else:
            managed.go_on(STAGE, desk.shared.clock())

    def _charged(self, exchange: Handled, tenant: Tenant, reject: Reject | None) -> Reject | None:
        """What follows from its rate."""
        if reject is not None and self._refused(tenant, reject):
            return reject
        return self._enter(exchange, tenant)

    def _refused(self, tenant: Tenant, reject: Reject) -> bool:
        """Count a refusal for its rate; whether it is one."""
        self._desk.tenancy.refused(tenant, reject)
        return self._answer(reject) is not None

    def _enter(self, exchange: Handled, tenant: Tenant) -> Reject | None:
        desk = self._desk
        limiter = desk.shared.limiter
        before = tenant.counts.refused[Reason.TENANT_LIMIT]
        entered = desk.tenancy.enter(tenant, limiter.limit, rehearse=not desk.enforced)
        if isinstance(entered, Reject):
            if limiter.adaptive is not None:
                limiter.adaptive.press()  # it is used, though not full
            return self._answer(entered)
        self._stats.shadow_rejected[Reason.TENANT_LIMIT] += entered.counts.refused[Reason.TENANT_LIMIT] - before
        desk.of[exchange] = entered
        return None

    def _answer(self, reject: Reject) -> Reject | None:
        """The refusal, or in Shadow a count."""
        if self._desk.enforced:
            return reject
        self._stats.shadow_rejected[reject.reason] += 1
        return None

    def on_upgrade(self, exchange: Handled, now: float) -> None:
        """A conversation is no request under way."""
        self.on_complete(exchange, now)

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Its tenant has one less."""
        tenant = self._desk.of.pop(exchange, None)
        if tenant is not None:
            self._desk.tenancy.leave(tenant)

    def _names(self, exchange: Handled) -> list[bytes]:
        """The tenants that a request names, in lower case."""
        policy, head = self._desk.policy, exchange.head
        if policy.by == "Header":
            return values(head.captured.get(policy.header.encode(), b""))
        if policy.by == "Claim":
            return [value.lower() for value in claimed(exchange, policy.claim)]
        found = segment(head.path, policy.segment)
        return [found.encode()] if found else []
