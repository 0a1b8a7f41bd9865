"""Tenancy: whose a request is, and whether that tenant may have one more under way.

A tenant's requests count from admission to end, waiting for a place included: a queue full of one tenant's requests
would keep the others out just as well. Everybody may have one request under way, however small the quota.

Rules:

* A name means the same in any case, and only one may be given: a request with two is refused, since the app might read
  the other one.
* Tenants of the configuration have a quota each. Others share the default one, or have it each; of those only who has
  requests under way is kept, so memory is bounded by requests in flight, whatever names callers invent, and every step
  takes the same time however many tenants there are.
* Only names of the configuration ever appear in a metric; all others are ``other`` together.
* Rates are limits like others (`policy.rate_limit`), in buckets of their own.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from nova_api.request_policies.rate_limit import RateLimit
from nova_api.request_policies.tenancy import TenancyPolicy, TenantQuota
from nova_sidecar.policy.fair_queue import Flow
from nova_sidecar.policy.rate_limit import Limit
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject

OTHER: Final = "other"
"""What metrics call all tenants that the configuration does not name."""
REFUSALS: Final = (Reason.RATE_LIMITED, Reason.TENANT_LIMIT, Reason.TENANT_UNKNOWN)

_LIMIT: Final = Reject(Reason.TENANT_LIMIT, OVERLOAD_RETRY_AFTER)
_UNKNOWN: Final = Reject(Reason.TENANT_UNKNOWN)
_LONGEST: Final = 128
_SHARED: Final = b"\0other"
_NAMELESS: Final = b"\0none"


class TenantCounts:
    """What is counted under one label."""

    __slots__ = ("admitted", "in_flight", "refused")

    def __init__(self) -> None:
        self.admitted = 0
        self.in_flight = 0
        self.refused: dict[Reason, int] = dict.fromkeys(REFUSALS, 0)

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        refused = {str(reason): count for reason, count in self.refused.items()}
        return {"inFlight": self.in_flight, "admitted": self.admitted, "refused": refused}


class Tenant:
    """One tenant: its quota, and what it has under way."""

    __slots__ = ("counts", "flow", "in_flight", "limit", "name", "quota")

    def __init__(self, name: bytes, quota: TenantQuota, limit: Limit | None, counts: TenantCounts) -> None:
        self.name = name
        self.in_flight = 0
        self.quota = quota
        self.limit = limit
        """Its rate, where it has one."""
        self.counts = counts
        self.flow = Flow(quota.weight)
        """Its turn where requests wait for a place."""

    def fits(self, places: int) -> bool:
        """Whether it may have one more under way, where there are so many places in all."""
        held = self.in_flight
        if not held:
            return True
        quota = self.quota
        if quota.max_concurrency is not None and held >= quota.max_concurrency:
            return False
        return quota.max_share is None or held + 1 <= quota.max_share * places

    def __repr__(self) -> str:
        return f"<Tenant in flight={self.in_flight}>"


class Tenancy:
    """All tenants of one sidecar. Each `enter` that returned a tenant owes one `leave`; names are bytes as they
    came."""

    __slots__ = ("_counts", "_default", "_default_limit", "_named", "_other", "_others", "_pods", "_policy")

    def __init__(self, policy: TenancyPolicy, pods: int) -> None:
        self._policy = policy
        self._pods = pods
        self._named: dict[bytes, Tenant] = {}
        self._others: dict[bytes, Tenant] = {}
        self._other = TenantCounts()
        self._counts: dict[bytes, TenantCounts] = {}  # of all that were ever named, so that counters never fall
        self._default = policy.default
        self._default_limit: Limit | None = None
        self.configure(policy, pods)

    def configure(self, policy: TenancyPolicy, pods: int) -> None:
        """Take over new quotas; who is there stays, and goes on with what it has under way."""
        self._policy, self._pods, self._default = policy, pods, policy.default
        self._default_limit = self._limit(policy.default)
        named: dict[bytes, Tenant] = {}
        for each in policy.tenants:
            name = each.name.encode()
            counts = self._counts.setdefault(name, TenantCounts())
            former = self._named.get(name) or self._others.pop(name, None)
            named[name] = self._moved(Tenant(name, each, self._limit(each), counts), former)
        for name, former in self._named.items():
            if name not in named and former.in_flight:
                self._others[name] = self._moved(self._unnamed(name), former)
        for other in self._others.values():
            other.quota, other.limit, other.flow.weight = self._default, self._default_limit, self._default.weight
        self._named = named

    def _moved(self, tenant: Tenant, former: Tenant | None) -> Tenant:
        """The tenant as it is to be: the object there was, which requests under way refer to."""
        if former is None:
            return tenant
        former.counts.in_flight -= former.in_flight
        tenant.counts.in_flight += former.in_flight
        former.quota, former.limit, former.counts = tenant.quota, tenant.limit, tenant.counts
        former.flow.weight = tenant.quota.weight
        return former

    def _limit(self, quota: TenantQuota) -> Limit | None:
        if quota.rate is None:
            return None
        policy = self._policy
        rule = RateLimit(
            name="tenant", by="All", rate=quota.rate, period=quota.period, burst=quota.burst, scope=policy.scope
        )
        return Limit(rule, self._pods)

    def _unnamed(self, name: bytes) -> Tenant:
        return Tenant(name, self._default, self._default_limit, self._other)

    # --- deciding

    def find(self, names: Sequence[bytes]) -> Tenant | Reject:
        """Whose a request is that gives these names, in lower case. Reject: tenant_unknown."""
        if len(names) > 1:
            return self._refuse(_UNKNOWN)
        if not names:
            return self._refuse(_UNKNOWN) if self._policy.missing == "Refuse" else self._known(_NAMELESS)
        name = names[0]
        found = self._named.get(name)
        if found is not None:
            return found
        if self._policy.unknown == "Refuse":
            return self._refuse(_UNKNOWN)
        if self._policy.unknown == "Shared":
            return self._known(_SHARED)
        return self._known(name if len(name) <= _LONGEST else blake2b(name, digest_size=16).digest())

    def _known(self, name: bytes) -> Tenant:
        return self._others.get(name) or self._unnamed(name)

    def _refuse(self, reject: Reject) -> Reject:
        self._other.refused[reject.reason] += 1
        return reject

    def refused(self, tenant: Tenant, reject: Reject) -> None:
        """Count a refusal by somebody else, for its rate."""
        tenant.counts.refused[reject.reason] += 1

    def enter(self, tenant: Tenant, places: int, *, rehearse: bool = False) -> Tenant | Reject:
        """The tenant, which has one more request under way now. Reject: tenant_limit, its quota of `places` is used up.

        `rehearse` counts what would be refused, and lets it in.
        """
        known = self._named.get(tenant.name) or self._others.get(tenant.name)
        if known is None:
            known = self._others[tenant.name] = tenant
        if not known.fits(places):
            known.counts.refused[Reason.TENANT_LIMIT] += 1
            if not rehearse:
                return _LIMIT
        else:
            known.counts.admitted += 1
        known.in_flight += 1
        known.counts.in_flight += 1
        return known

    def leave(self, tenant: Tenant) -> None:
        """One of its requests is over. Raises RuntimeError when it has none under way."""
        if tenant.in_flight <= 0:
            raise RuntimeError("leave without an admission")
        tenant.in_flight -= 1
        tenant.counts.in_flight -= 1
        if not tenant.in_flight and self._others.get(tenant.name) is tenant:
            del self._others[tenant.name]

    # --- looking at it

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data. Names are those of the configuration."""
        shown = {name.decode(): counts.snapshot() for name, counts in self._counts.items()}
        return {"active": len(self), "tenants": {**shown, OTHER: self._other.snapshot()}}

    def __len__(self) -> int:
        """Tenants with requests under way."""
        return len(self._others) + sum(tenant.in_flight > 0 for tenant in self._named.values())

    def __repr__(self) -> str:
        in_flight = self._other.in_flight + sum(counts.in_flight for counts in self._counts.values())
        return f"<Tenancy {len(self)} in flight={in_flight}>"
