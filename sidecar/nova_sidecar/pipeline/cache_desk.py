"""What the cache keeps beyond a request and a reload: the responses, who waits for which, and the tier in Redis.

    request ── in memory? ──▶ in Redis? ──▶ app
                  ▲               │          │
                  └── kept ◀──────┴──────────┴──▶ written to Redis, for nobody waits

An invalidation acts here at once, and everywhere else through Redis: see `cache_tier`.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nova_api.proxy import ProxyConfig
from nova_api.request_policies.cache import CachePolicy
from nova_sidecar.policy.caching import CachedResponses, compiled
from nova_sidecar.policy.coalescing import Flight, Flights
from nova_sidecar.policy.freshness import Stored
from nova_sidecar.policy.s3fifo import S3Fifo
from nova_sidecar.wire.storing import Allowances

if TYPE_CHECKING:
    from nova_sidecar.pipeline.asking import Plan
    from nova_sidecar.pipeline.cache_tier import CacheTier
    from nova_sidecar.pipeline.managed import ManagedExchange
    from nova_sidecar.pipeline.port import Shared

PATIENCE: Final = 1.0
"""Seconds for which requests wait for another one's response to be stored, before one more of them asks the app."""
MOST_WAITING: Final = 10_000
"""Requests that wait for one response, at most."""
MOST_REFRESHING: Final = 64
"""Responses that are asked for behind clients' backs at once."""


Result = TypeVar("Result")


class Outcome(StrEnum):
    """What the cache made of a request; the value is what people see in metrics."""

    HIT = "hit"
    STALE = "stale"  # used beyond its lifetime, while the app is asked
    STALE_ERROR = "stale_error"  # used since the app failed
    REVALIDATED = "revalidated"  # the app said that it still holds
    MISS = "miss"
    BYPASS = "bypass"  # no request that a stored response could answer
    WOULD_HIT = "would_hit"  # Shadow


class CacheDesk:
    """See the module."""

    __slots__ = (
        "_config", "_pool", "_shared", "allowed", "apart", "clock", "flights", "loop", "persisted", "policy",
        "refreshing", "responses", "shadow", "stored", "tier", "timed", "waiting", "wall",
    )  # fmt: skip

    def __init__(self, config: ProxyConfig, shared: "Shared") -> None:
        self._shared = shared
        self.loop = shared.loop
        self.clock = shared.clock
        self.wall: Callable[[], float] = time.time
        self.responses = CachedResponses(config.cache.max_bytes, config.cache.max_variants)
        self.flights: Flights[ManagedExchange] = Flights(PATIENCE, MOST_WAITING)
        self.waiting: dict[ManagedExchange, tuple[Plan, Flight[ManagedExchange]]] = {}
        """Who waits for another one's response."""
        self.timed: set[Flight[ManagedExchange]] = set()
        """Flights that are looked at again."""
        self.persisted: S3Fifo[str, str] | None = None
        """GraphQL documents by their SHA-256, as clients have shown them; None where nobody has need of them."""
        self._pool: ThreadPoolExecutor | None = None
        self.apart = 0
        """Pieces of work that are done, or wait to be, in a thread."""
        self.refreshing = 0
        self.stored = 0
        """Responses that were taken in."""
        self.tier: CacheTier | None = None
        self._take_over(config)

    def _take_over(self, config: ProxyConfig) -> None:
        policy = config.cache
        self._config = config
        self.policy: CachePolicy = policy
        self.shadow = policy.mode == "Shadow"
        self.allowed = Allowances(
            largest=min(policy.max_body_bytes, policy.max_bytes // 4),
            while_revalidate=float(policy.stale_while_revalidate),
            if_error=float(policy.stale_if_error),
            set_cookie=policy.set_cookie,
        )

    def start(self) -> None:
        """See `Desk`."""
        self._attach()

    def configure(self, config: ProxyConfig) -> None:
        """Take over a new policy; what is kept stays, as far as it fits."""
        self._take_over(config)
        self.responses.configure(config.cache.max_bytes, config.cache.max_variants)
        self._attach()

    def _attach(self) -> None:
        """Have a tier where the policy wants one and there is a store; a store with other settings is another one."""
        store = self._shared.store if self.policy.tier == "Redis" else None
        former = self.tier
        if former is not None and former.store is not store:
            former.end()
            self.tier = None
        if self.tier is None and store is not None:
            from nova_sidecar.pipeline.cache_tier import CacheTier  # noqa: PLC0415 - only where there is one

            self.tier = CacheTier(store, self._config, self)
            if former is not None:
                self.tier.owed.take_over(former.owed)

    async def close(self) -> None:
        """See `Desk`."""
        self.responses.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        if self.tier is not None:
            self.tier.end()
            self.tier = None

    def do_apart(self, work: Callable[[], Result]) -> "asyncio.Future[Result]":
        """Do what would hold up the loop in a thread, one piece after the other. Cancelled when the desk closes."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "graphql")
        self.apart += 1
        future = self.loop.run_in_executor(self._pool, work)
        future.add_done_callback(self._done_apart)
        return future

    def _done_apart(self, _future: "asyncio.Future[Any]") -> None:
        self.apart -= 1

    def keep(self, resource: bytes, names: tuple[bytes, ...], stored: Stored) -> None:
        """Keep a response here."""
        if self.responses.keep(resource, names, stored):
            self.stored += 1

    def invalidate(self, target: bytes) -> int:
        """Forget what is stored about a target, here and everywhere; how many entries there were here."""
        gone = self.responses.invalidate(target)
        if self.tier is not None:
            self.tier.invalidate(target)
        return gone

    def purge(self, pattern: bytes) -> int:
        """Forget what is stored about targets that a pattern names, here and everywhere; how many entries there were
        here. Raises PatternError."""
        compiled(pattern)
        gone = self.responses.purge(pattern)
        if self.tier is not None:
            self.tier.purge(pattern)
        return gone

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        responses = self.responses
        return {
            "mode": self.policy.mode,
            "entries": len(responses),
            "bytes": responses.size,
            "maxBytes": self.policy.max_bytes,
            "stored": self.stored,
            "evictions": responses.evictions,
            "invalidations": responses.invalidated,
            "refreshing": self.refreshing,
            "reading": self.apart,
            "tier": self.tier.snapshot() if self.tier is not None else {},
        }
