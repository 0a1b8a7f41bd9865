"""What request policies keep beyond a request: one desk for each policy that is on, and the store that they share.

A desk outlives every reload that keeps its policy on: caches stay warm, counts stay true. It is made when a
configuration switches the policy on, told of each further one, and closed when one switches it off. The store is kept
as long as its settings are.

A new configuration may still fail when it comes to listening. So `Desks` are made first, which changes nothing of
those there are, and put into force by `start` when nothing can fail any more.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec.structs import fields

from nova_api.proxy import ProxyConfig, Store

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Shared
    from nova_sidecar.store.guarded import GuardedStore


class Desk(Protocol):
    """What one policy keeps. A filter asks for it by the policy's field, `Desks.get`."""

    def start(self) -> None:
        """It is in force from now on."""
        ...

    def configure(self, config: ProxyConfig) -> None:
        """Another configuration is, in which the policy is on as well."""
        ...

    async def close(self) -> None:
        """The policy is off, or the sidecar ends: give back what is held, within a second or so."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        ...


Make = Callable[[ProxyConfig, "Shared"], Desk]
"""Makes the desk of a policy that is on."""


def _cache(config: ProxyConfig, shared: "Shared") -> Desk:
    from nova_sidecar.pipeline.cache_desk import CacheDesk  # noqa: PLC0415 - only where it is on

    return CacheDesk(config, shared)


def _pool_guard(config: ProxyConfig, shared: "Shared") -> Desk:
    from nova_sidecar.pipeline.pool_guard import PoolGuardDesk  # noqa: PLC0415 - only where it is on

    return PoolGuardDesk(config.pool_guard, shared.clock)


def _idempotency(config: ProxyConfig, shared: "Shared") -> Desk:
    from nova_sidecar.pipeline.idempotency_desk import IdempotencyDesk  # noqa: PLC0415 - only where it is on

    return IdempotencyDesk(config.idempotency, config, shared)


def _jwt(config: ProxyConfig, shared: "Shared") -> Desk:
    from nova_sidecar.pipeline.jwt_desk import JwtDesk  # noqa: PLC0415 - 8 MB, and only where it is on

    return JwtDesk(config, shared)


def _rate_limit(config: ProxyConfig, shared: "Shared") -> Desk:
    from nova_sidecar.pipeline.rate_limit import RateLimitDesk  # noqa: PLC0415 - where it is on

    return RateLimitDesk(config, shared)


def _tenancy(config: ProxyConfig, shared: "Shared") -> Desk:
    from nova_sidecar.pipeline.tenancy import TenancyDesk  # noqa: PLC0415 - where it is on

    return TenancyDesk(config, shared)


MAKERS: Final[dict[str, Make]] = {
    "rate_limit": _rate_limit,
    "jwt": _jwt,
    "tenancy": _tenancy,
    "idempotency": _idempotency,
    "cache": _cache,
    "pool_guard": _pool_guard,
}
"""By the policy's field in the configuration. Each imports what it makes: who does not use it has none of it."""

_IN_DOCUMENTS: Final = {field.name: field.encode_name for field in fields(ProxyConfig)}


class Desks:
    """See the module."""

    __slots__ = ("_by_name", "_fresh", "_settings", "store")

    def __init__(self, config: ProxyConfig, shared: "Shared", before: "Desks | None") -> None:
        self._settings: Store | None = config.store
        self.store: GuardedStore | None = None
        """The store that policies share; None where there is none."""
        if config.store is not None:
            kept = before is not None and before._settings == config.store
            self.store = before.store if kept and before is not None else _store(config.store, shared)
        self._by_name: dict[str, Desk] = {}
        self._fresh: list[Desk] = []
        for name, make in MAKERS.items():
            self._take(name, make, config, shared, before)

    def _take(self, name: str, make: Make, config: ProxyConfig, shared: "Shared", before: "Desks | None") -> None:
        former = before.get(name) if before is not None else None
        policy = getattr(config, name)
        if policy is None or policy.mode == "Off":
            return
        desk = former
        if desk is None:
            desk = make(config, shared)
            self._fresh.append(desk)
        self._by_name[name] = desk

    def get(self, name: str) -> Desk | None:
        """The desk of a policy; None where it is off."""
        return self._by_name.get(name)

    def start(self, config: ProxyConfig, before: "Desks | None") -> None:
        """Put them into force."""
        if self.store is not None and (before is None or before.store is not self.store):
            self.store.start()
        for desk in self._by_name.values():
            if desk in self._fresh:
                desk.start()
            else:
                desk.configure(config)
        self._fresh = []

    async def finish(self, after: "Desks | None") -> None:
        """End what belongs to these alone; `after` has the rest. The store comes last: desks may still write."""
        kept = after._by_name if after is not None else {}
        ended = [desk for name, desk in self._by_name.items() if kept.get(name) is not desk]
        await asyncio.gather(*(desk.close() for desk in ended))
        if self.store is not None and (after is None or after.store is not self.store):
            await self.store.close()

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data, by the policy's name in a NovaService."""
        shown = {_IN_DOCUMENTS[name]: desk.snapshot() for name, desk in self._by_name.items()}
        return {**shown, "store": self.store.snapshot() if self.store is not None else {}}

    def __repr__(self) -> str:
        return f"<Desks {', '.join(self._by_name) or 'none'} store={self.store!r}>"


def _store(settings: Store, shared: "Shared") -> "GuardedStore":
    from nova_sidecar.store.opening import open_store  # noqa: PLC0415 - only where there is one

    return open_store(settings, rng=shared.rng, clock=shared.clock)
