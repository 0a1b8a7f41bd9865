"""`tenancy`: whose a request is, and how much of the service one tenant may have."""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api import patterns
from nova_api.model import Model, Rule, unique
from nova_api.policies import ZERO_SHARE, HeaderName, Mode
from nova_api.request_policies.rate_limit import WHOLE_SECONDS, ClaimName, Permits, Scope
from nova_api.units import Duration, Share

TenantName = Annotated[str, Meta(pattern=patterns.TENANT, max_length=128)]


class TenantQuota(Model, frozen=True, kw_only=True):
    """How much of the service a tenant may have."""

    max_concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Requests under way at once, waiting ones included; no number of its own when left out."""

    max_share: Share | None = None
    """The same as a share of the places that there are (`backpressure`), one request at least."""

    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Where requests wait for a place (`backpressure.threshold: 1`): how many of its own go for one of a tenant of
    weight 1."""

    rate: Permits | None = None
    """Requests in a period; no limit when left out."""

    period: Duration = Duration(1)
    """The period; whole seconds."""

    burst: Permits | None = None
    """Requests that may come at once; as many as the rate when left out."""

    rules = (
        WHOLE_SECONDS,
        Rule(
            cel="!has(self.burst) || has(self.rate)",
            message="burst goes with rate",
            holds=lambda s: s.burst is None or s.rate is not None,
        ),
        Rule(
            cel=f"!has(self.maxShare) || !self.maxShare.matches('{ZERO_SHARE}')",
            message="maxShare must be more than 0%",
            holds=lambda s: s.max_share is None or s.max_share > 0,
        ),
    )


class Tenant(TenantQuota, frozen=True, kw_only=True):
    """A tenant that is known by name, and its quota. Metrics tell it from the others."""

    key = "name"

    name: TenantName
    """Its name in lower case; in the claim, the header or the path any case stands for it."""


class TenancyPolicy(Model, frozen=True, kw_only=True):
    """Keeps one tenant's load from being another one's trouble."""

    mode: Mode = "Off"
    """Off, Shadow (counts what it would refuse) or Enforce."""

    by: Literal["Claim", "Header", "Path"] = "Header"
    """Where the tenant's name is. Claim: in a claim of the verified token. Header: in a header, which whoever can set
    it decides about. Path: in a segment of the path."""

    claim: ClaimName = "tenant"
    """The claim; needs `jwt`."""

    header: HeaderName = "x-tenant-id"
    """The header, in lower case."""

    segment: Annotated[int, Meta(ge=1, le=16)] = 1
    """The segment; 1 is the first one, acme in /acme/orders."""

    tenants: Annotated[tuple[Tenant, ...], Meta(max_length=256)] = ()
    """Tenants with a quota of their own."""

    default: TenantQuota = TenantQuota(max_share=Share(0.5))
    """Quota of every other tenant, and of the requests that name none."""

    unknown: Literal["Each", "Shared", "Refuse"] = "Each"
    """Tenants that are not among `tenants`. Each has the default quota; or all share it, which is right where names can
    be invented; or they are refused (400, tenant_unknown)."""

    missing: Literal["Shared", "Refuse"] = "Shared"
    """Requests that name no tenant: they share the default quota, or are refused (400, tenant_unknown)."""

    scope: Scope = "Local"
    """Local: each pod counts rates for itself. Global: all pods together, in `redis`. Concurrency is each pod's own."""

    overcommit: bool = False
    """Whether the maxConcurrency of `tenants` may add up to more than `backpressure` lets in at once; they then bound
    each tenant, and promise it nothing."""

    max_keys: Annotated[int, Meta(ge=64, le=1_000_000)] = 10_000
    """Tenants whose rate each sidecar keeps apart; beyond it new ones share buckets."""

    rules = (
        unique("tenants: names must be unique", "name", of="tenants"),
        Rule(
            cel="!has(self.tenants) || self.tenants.all(t, t.name != 'other')",
            message="tenants: other is the name of all tenants that have none here",
            holds=lambda s: all(tenant.name != "other" for tenant in s.tenants),
        ),
    )
