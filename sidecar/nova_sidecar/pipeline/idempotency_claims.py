"""Who is under way with which key: the requests that lead or wait, and what is counted of them.

It is imported where the policy is on.
"""

import asyncio
import os

from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.policy.idempotency import Kept, Result
from nova_sidecar.store.keyed import Keeper


class Counts:
    """What is counted on one port."""

    __slots__ = ("kept", "results")

    def __init__(self) -> None:
        self.results: dict[Result, int] = dict.fromkeys(Result, 0)
        self.kept: dict[Kept, int] = dict.fromkeys(Kept, 0)


class Turn:
    """One request, and what it says."""

    __slots__ = ("claim", "counts", "exchange", "fingerprint", "timer")

    def __init__(self, exchange: ManagedExchange, fingerprint: bytes, counts: Counts) -> None:
        self.exchange = exchange
        self.fingerprint = fingerprint
        self.counts = counts
        self.claim: Claim | None = None
        """Where it waits, or did last."""
        self.timer: asyncio.TimerHandle | None = None

    def end(self, result: Result) -> bool:
        """It waits no longer; False where its caller, or its time, was gone before."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        waits = self.exchange.waits
        self.counts.results[result if waits else Result.ENDED] += 1
        return waits


class Claim:
    """One key that is under way here: leading, or waiting for somebody who does."""

    __slots__ = ("asked", "keeper", "leader", "lease", "name", "renewal", "renewing", "token", "waiting", "wanted")

    def __init__(self, name: str, keeper: Keeper) -> None:
        self.name = name
        self.keeper = keeper
        self.token = os.urandom(16)
        self.lease = b""
        self.wanted = b""
        """What the one whom the lease is for was asked."""
        self.asked: bytes | None = None
        """What the one who leads was asked, here or elsewhere; None while nobody is known to."""
        self.leader: Turn | None = None
        self.renewal: asyncio.TimerHandle | None = None
        self.renewing: asyncio.Task[None] | None = None
        """The renewal that is under way, or was last."""
        self.waiting: list[Turn] = []
