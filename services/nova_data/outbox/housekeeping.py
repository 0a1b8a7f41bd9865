"""What a relay does between rounds, each thing at its time: share slots, count what waits, look after partitions."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Final

import asyncpg

from nova_data.database import GONE
from nova_data.logs import get_logger
from nova_data.outbox import retention
from nova_data.outbox.policy import share
from nova_data.outbox.relay_metrics import RelayMetrics
from nova_data.outbox.schema import SLOTS
from nova_data.outbox.session import Session
from nova_data.outbox.settings import Settings

BALANCE_EVERY: Final = 1.0
COUNT_EVERY: Final = 5.0
RETAIN_EVERY: Final = 3600.0
RETAIN_AGAIN: Final = 60.0
"""Seconds; the last one after a lock was not to be had."""
ADVICE: Final = "run `nova-data outbox retain` as the owner of outbox_events, and the relay with --no-retain"


class Housekeeping:
    """Of one relay. Times in seconds of `clock`."""

    def __init__(
        self, settings: Settings, metrics: RelayMetrics, *, rng: Random, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # for its life
        self._settings = settings
        self._metrics = metrics
        self._rng = rng
        self._clock = clock
        self._retain_at = 0.0

        # until the session ends
        self.balance_at = 0.0
        """When slots are shared next."""
        self._count_at = 0.0

    async def keep(self, session: Session) -> bool:
        """Do what is due; whether the session's slots were shared anew."""
        now = self._clock()
        shared = now >= self.balance_at
        if shared:
            self.balance_at = now + BALANCE_EVERY
            await session.balance(lambda relays: share(SLOTS, relays), self._rng.sample(range(SLOTS), SLOTS))
            self._metrics.slots.set(len(session.slots))
        await self.count(session)
        if self._settings.keep and now >= self._retain_at and 0 in session.slots:
            self._retain_at = now + await self._retain(session)
        return shared

    async def count(self, session: Session) -> None:
        """Show what waits."""
        now = self._clock()
        if now >= self._count_at:
            self._count_at = now + COUNT_EVERY
            self._metrics.counted(await session.counts())

    async def leave(self, session: Session) -> None:
        """Own nothing, until Kafka answers."""
        await session.leave()
        self._metrics.slots.set(0)

    def forget(self) -> None:
        """The session is over."""
        self._count_at = self.balance_at = 0.0
        self._metrics.slots.set(0)

    async def _retain(self, session: Session) -> float:
        """Seconds until the next time. Events do not wait for it: what PostgreSQL refuses, as to a relay that does not
        own the table, and what takes too long, is logged and left until then."""
        now, patience = datetime.now(UTC), self._settings.lock_timeout
        try:
            made = await retention.make_partitions(
                session.owner, now, lock_timeout=patience, ahead=self._settings.ahead
            )
            dropped, kept = await retention.drop_partitions(
                session.owner, now, lock_timeout=patience, keep=self._settings.keep
            )
        except retention.BUSY as error:
            get_logger().warning("partitions are in use", error=str(error), retry_in=RETAIN_AGAIN)
            return RETAIN_AGAIN
        except (asyncpg.PostgresError, TimeoutError) as error:
            if isinstance(error, GONE) and not isinstance(error, TimeoutError):  # which is an OSError
                raise
            words = str(error) or "not done within the time of a statement"
            get_logger().error("partitions not looked after", error=f"{words}; {ADVICE}", retry_in=RETAIN_EVERY)
            return RETAIN_EVERY
        if made or dropped or kept:
            get_logger().info("partitions looked after", made=made, dropped=dropped, kept=kept)
        return RETAIN_EVERY

    def __repr__(self) -> str:
        return f"<Housekeeping balance_at={self.balance_at}>"
