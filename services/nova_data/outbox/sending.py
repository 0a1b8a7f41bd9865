"""A round: what waits is sent, and marked with what became of it (`relay` says why that keeps the order)."""

import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from nova_data.breaker import Breaker
from nova_data.logs import get_logger
from nova_data.outbox.event import Event
from nova_data.outbox.publisher import Outcome, Publisher, own_fault
from nova_data.outbox.relay_metrics import RelayMetrics
from nova_data.outbox.rounds import Floors, Found, first_failures, found
from nova_data.outbox.session import Session
from nova_data.outbox.settings import Settings

DUE_EVERY: Final = 0.2
DUE_MOST: Final = 1.0
DUE_REST: Final = 5.0
"""What failed before is looked for so often, gets so many seconds, and then five times as long nothing."""
MOST_ALONE: Final = 32
"""Events tried again in a round, one after the other."""


class Sender:
    """Of one relay. `lost` is told why Kafka took nothing of a round."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        breaker: Breaker,
        metrics: RelayMetrics,
        *,
        lost: Callable[[str], None],
        rng: Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # for its life
        self._settings = settings
        self._publisher = publisher
        self._breaker = breaker
        self._metrics = metrics
        self._lost = lost
        self._rng = rng
        self._clock = clock

        # until the session ends
        self.floors = Floors()
        self._due_at = 0.0

    def forget(self) -> None:
        """The session is over."""
        self.floors = Floors()
        self._due_at = 0.0

    async def shared(self, session: Session) -> None:
        """The slots were shared among relays anew: rounds begin where the session's own, and the transactions that
        write at this moment, allow."""
        self.floors.own(session.slots)
        now = self._clock()
        self.floors.writing(await session.writers(), now)

    async def round(self, session: Session) -> Found:
        """One round: what failed before and is due, and what waits."""
        now = self._clock()
        if now >= self._due_at:
            await self._try_again(session, now)
            self._due_at = now + max(DUE_EVERY, DUE_REST * (self._clock() - now))
        if not session.slots or self._breaker.state != "closed":
            return Found.NOTHING
        floors = self.floors.now(now)
        limit = max(1, self._settings.batch // len(floors))
        events = await session.waiting(floors, limit)
        complete = await self._publish(session, events) if events else True
        self.floors.reached(events, now, complete=complete)
        return found(events, limit)

    async def _try_again(self, session: Session, now: float) -> None:
        """Send what failed before, each alone, so that nothing else suffers for it; for `DUE_MOST` seconds at most."""
        for event in await session.due(session.slots, MOST_ALONE) if session.slots else []:
            await self._publish(session, [event])
            self.floors.rewind()  # what waited behind it goes on
            if self._breaker.state != "closed" or self._clock() - now > DUE_MOST:
                break

    async def _publish(self, session: Session, events: Sequence[Event]) -> bool:
        """Send these and mark what became of them; whether all of them are in Kafka."""
        begun = self._clock()
        outcomes = await self._publisher.send(events, self._settings.publish_timeout)
        took = self._clock() - begun
        done = [event for event in events if event.position in outcomes and outcomes[event.position] is None]
        await session.published(done)
        self._metrics.published(done, took, self._clock() - begun)
        if len(done) == len(events):
            self._breaker.succeeded()
            return True
        self.floors.rewind()
        await self._failed(session, events, outcomes, anything=bool(done))
        return False

    async def _failed(
        self, session: Session, events: Sequence[Event], outcomes: Mapping[int, Outcome], *, anything: bool
    ) -> None:
        """Blame each event that was refused for what it is; what suffered with it is simply sent again.

        A round in which Kafka took nothing and blamed nobody is Kafka's failure.
        """
        guilty = [(event, error) for event, error in first_failures(events, outcomes) if error and own_fault(error)]
        for event, error in guilty:
            wait = self._settings.backoff.next(event.retry_count + 1, self._rng)
            await session.failed(event, error.name(), wait)
            self._metrics.failed(quarantined=wait is None)
            fields = {"error": error.name(), "aggregate": event.aggregate[0], "topic": event.topic}
            if wait is None:
                get_logger().error("event quarantined", attempts=event.retry_count + 1, **fields)
            else:
                get_logger().warning("event refused", retry_in=round(wait, 2), **fields)
        if not guilty and not anything:
            named = next((error.name() for error in outcomes.values() if error), "no acknowledgement in time")
            self._lost(f"{named}, {self._publisher.complaint or 'no complaint'}")

    def __repr__(self) -> str:
        return f"<Sender {self._breaker!r}>"
