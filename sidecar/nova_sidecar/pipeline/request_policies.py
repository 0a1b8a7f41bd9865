"""The filters of request policies: which ones a port has, and the one place that knows where each is made.

A request policy looks at requests to the app, on inbound ports. Its filter belongs to a stage of the chain, whose order
is in `chain.build_chain`. What it keeps beyond a request is its desk (`desks`). A maker imports its filter, so that who
does not use a policy has none of it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, cast

from nova_api.proxy import Inbound, ProxyConfig
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.limiter import Queued
from nova_sidecar.policy.reasons import Reject

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Shared

_NO_FIELDS: Final[frozenset[bytes]] = frozenset()


class RequestFilter:
    """One policy on one port; the base does nothing. On ports for HTTP/1.1 it gets `ManagedExchange`s, on others
    `Call`s."""

    __slots__ = ()

    replaces: ClassVar[frozenset[bytes]] = _NO_FIELDS
    """Fields of requests, in lower case, that never reach the app as they come; they are in `head.captured`."""
    shows: ClassVar[frozenset[bytes]] = _NO_FIELDS
    """Those that it wants to see there, and that go on to the app."""

    def guards(self) -> frozenset[bytes]:
        """Fields, in lower case and with hyphens, that never reach the app as they come, in whatever spelling, nor as
        trailers, since what has their names is the sidecar's own word."""
        return _NO_FIELDS

    def fields(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """`replaces` and `shows`, for a filter whose fields its policy names."""
        return self.replaces, self.shows

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """See `chain`."""
        return None

    def on_upgrade(self, exchange: Handled, now: float) -> None:
        """It has become a tunnel, which is no request in flight."""

    def on_complete(self, exchange: Handled, now: float) -> None:
        """It is over, however it ended."""


MakeFilter = Callable[[Inbound, ProxyConfig, "Shared", PortStats], RequestFilter | None]
"""Makes a policy's filter for a port; None where the policy is off, or is none for the port's protocol."""


def _cache(settings: Inbound, config: ProxyConfig, shared: "Shared", stats: PortStats) -> RequestFilter | None:
    desk = shared.desks.get("cache") if shared.desks is not None else None
    if desk is None or settings.protocol == "grpc":
        return None
    from nova_sidecar.pipeline.cache_desk import CacheDesk  # noqa: PLC0415 - only where it is on
    from nova_sidecar.pipeline.caching import CacheFilter  # noqa: PLC0415 - as above

    assert isinstance(desk, CacheDesk)  # noqa: S101 - no other has that name
    graphql = config.cache.graphql
    token = config.jwt.source.header.encode() if config.jwt is not None else b""
    if graphql.mode == "Off":
        return CacheFilter(config.cache, desk, stats, token)
    from nova_sidecar.pipeline.graphql import GraphqlFilter  # noqa: PLC0415 - only where it is on

    return GraphqlFilter(config.cache, desk, stats, token)


def _coalescing(settings: Inbound, config: ProxyConfig, shared: "Shared", stats: PortStats) -> RequestFilter | None:
    if config.coalescing.mode == "Off" or settings.protocol == "grpc":
        return None
    from nova_sidecar.pipeline.coalescing import CoalescingFilter  # noqa: PLC0415 - only where it is on

    return CoalescingFilter(config.coalescing, _own(config), stats, shared)


def _own(config: ProxyConfig) -> frozenset[bytes]:
    """Fields that the port replaces in every request."""
    return frozenset((config.correlation.header.encode(),)) if config.correlation.mode == "Enforce" else _NO_FIELDS


def _pool_guard(settings: Inbound, config: ProxyConfig, shared: "Shared", stats: PortStats) -> RequestFilter | None:
    desk = shared.desks.get("pool_guard") if shared.desks is not None else None
    if desk is None:
        return None
    from nova_sidecar.pipeline.pool_guard import (  # noqa: PLC0415 - only where it is on
        PoolGuardDesk,
        PoolGuardFilter,
        ShadowPoolGuardFilter,
    )

    desk = cast(PoolGuardDesk, desk)
    return PoolGuardFilter(desk) if config.pool_guard.mode == "Enforce" else ShadowPoolGuardFilter(desk, stats)


def _idempotency(settings: Inbound, config: ProxyConfig, shared: "Shared", stats: PortStats) -> RequestFilter | None:
    desk = shared.desks.get("idempotency") if shared.desks is not None else None
    if desk is None or settings.protocol == "grpc":
        return None
    from nova_sidecar.pipeline.idempotency import (  # noqa: PLC0415 - only where it is on
        IdempotencyFilter,
        ShadowIdempotencyFilter,
    )
    from nova_sidecar.pipeline.idempotency_desk import IdempotencyDesk  # noqa: PLC0415 - as above

    policy = config.idempotency
    kind = IdempotencyFilter if policy.mode == "Enforce" else ShadowIdempotencyFilter
    return kind(policy, cast(IdempotencyDesk, desk), stats, config.jwt)


def _jwt(settings: Inbound, config: ProxyConfig, shared: "Shared", stats: PortStats) -> RequestFilter | None:
    desk = shared.desks.get("jwt") if shared.desks is not None else None
    if desk is None or config.jwt is None:
        return None
    from nova_sidecar.pipeline.jwt import JwtFilter  # noqa: PLC0415 - only where it is on
    from nova_sidecar.pipeline.jwt_desk import JwtDesk  # noqa: PLC0415 - as above

    assert isinstance(desk, JwtDesk)  # noqa: S101 - it was made under this name
    return JwtFilter(config.jwt, desk, stats, config.service)


def _rate_limit(stage: str) -> MakeFilter:
    def make(settings: Inbound, config: ProxyConfig, shared: "Shared", stats: PortStats) -> RequestFilter | None:
        if config.rate_limit.mode == "Off" or shared.desks is None:
            return None
        from nova_sidecar.pipeline.rate_limit import RateLimitDesk, rate_limit_filter  # noqa: PLC0415 - where it is on

        return rate_limit_filter(stage, cast(RateLimitDesk, shared.desks.get("rate_limit")), config.rate_limit, stats)

    return make


def _tenancy(settings: Inbound, config: ProxyConfig, shared: "Shared", stats: PortStats) -> RequestFilter | None:
    if config.tenancy.mode == "Off" or shared.desks is None:
        return None
    from nova_sidecar.pipeline.tenancy import TenancyDesk, TenancyFilter  # noqa: PLC0415 - where it is on

    return TenancyFilter(cast(TenancyDesk, shared.desks.get("tenancy")), config.tenancy, stats)


MAKERS: Final[dict[str, MakeFilter]] = {
    "rate_limit": _rate_limit("rate_limit"),
    "jwt": _jwt,
    "rate_limit_claims": _rate_limit("rate_limit_claims"),
    "tenancy": _tenancy,
    "idempotency": _idempotency,
    "cache": _cache,
    "coalescing": _coalescing,
    "pool_guard": _pool_guard,
}
"""By stage of the chain."""


def request_filters(
    settings: Inbound, config: ProxyConfig, shared: "Shared", stats: PortStats
) -> dict[str, RequestFilter]:
    """The filters of a port, by stage. A relayed port has no requests."""
    if settings.protocol == "tcp":
        return {}
    made = {stage: make(settings, config, shared, stats) for stage, make in MAKERS.items()}
    return {stage: one for stage, one in made.items() if one is not None}
