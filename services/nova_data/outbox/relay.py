"""The relay: brings what waits in the outbox to Kafka, in order, at least once, for as long as it takes.

Rounds. A round reads what waits in the relay's slots, gives it to the producer, waits for Kafka's acknowledgements, and
marks in the database what was acknowledged. Nothing is on its way between rounds.

Why it is at least once. A row is marked only after Kafka has it on every replica in sync (acks=all). Whoever is killed
before that leaves the row as it was, and it is sent again.

Why the order of an aggregate holds, its first arrivals at least:

1. Whatever a relay sends of an aggregate in a round begins with the first event of it that waits, and leaves out none
   in between. Rows come ordered by position; behind an event that failed, the aggregate's later ones are not read at
   all (`session.FETCH`), and what failed is tried alone.
2. The producer hands the events of an aggregate, which have one key and so one partition, over in sequence without a
   gap, or stops (`publisher`).
3. So each sender puts a piece of the sequence into Kafka that begins with, or before, what is missing there. Pieces of
   two senders may mix: of a relay that has lost its session and does not know yet, and of the one that took over. But
   an event's first arrival then still follows that of the one before it, since its sender had put that one in first,
   or found it marked. Only repetitions come late, and consumers know those by their idempotency key.

`FOR UPDATE SKIP LOCKED` alone would break the first rule: a second relay skips the locked event and sends the one after
it. Hence slots: an aggregate belongs to one of 16, a slot to one relay, by an advisory lock that is tried and skipped
in the same way (`session`). Rule 3 says that the order does not even hang on that lock; it spares repetitions. Relays
share the slots evenly, and one that dies leaves its own to the others within a second of PostgreSQL's noticing.

What is late. Events become visible when their transaction commits, not in the order of their positions. Of one
aggregate they do not overtake each other (`schema`). So that what was published long ago is not read over and over, a
round begins at the position where rounds were 10 s ago (`rounds.LAG`); every 10 s one begins at the beginning, and
finds events of transactions that took longer than that.

When Kafka is gone a round ends without any acknowledgement. The breaker opens, the slots are left to relays that may
reach Kafka, and after a while Kafka is asked whether it is back. Events stay where they are: memory does not grow, and
no event is blamed. When PostgreSQL is gone the session begins anew.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from nova_data.backoff import Backoff
from nova_data.breaker import Breaker
from nova_data.errors import DatabaseError, KafkaUnavailableError
from nova_data.logs import get_logger
from nova_data.outbox import retention
from nova_data.outbox.event import Event
from nova_data.outbox.partitions import AHEAD, KEEP
from nova_data.outbox.policy import Pace, share
from nova_data.outbox.publisher import Outcome, Publisher, own_fault
from nova_data.outbox.relay_metrics import RelayMetrics
from nova_data.outbox.rounds import Floors, Found, first_failures, found
from nova_data.outbox.schema import SLOTS
from nova_data.outbox.session import Session, opened

BALANCE_EVERY: Final = 1.0
COUNT_EVERY: Final = 5.0
RETAIN_EVERY: Final = 3600.0
RETAIN_AGAIN: Final = 60.0
"""After a lock was not to be had."""
DUE_EVERY: Final = 0.2
DUE_MOST: Final = 1.0
DUE_REST: Final = 5.0
"""What failed before is looked for so often, gets so many seconds, and then five times as long nothing."""
MOST_ALONE: Final = 32
"""Events tried again in a round, one after the other."""


@dataclass(frozen=True)
class Settings:
    """How a relay works. Times in seconds."""

    database: str
    brokers: str
    name: str = "nova-relay"
    topic_prefix: str = ""
    """In front of an aggregate's type, which together are the topic of events that name none."""
    batch: int = 1000
    """Events in a round at most, from 16."""
    publish_timeout: float = 15.0
    """Longest time for a round's acknowledgements, and so for leaving after SIGTERM."""
    statement_timeout: float = 10.0
    backoff: Backoff = field(default_factory=Backoff)
    keep: float = KEEP
    """Days that published events are kept; 0: this relay looks after no partitions."""
    ahead: int = AHEAD
    lock_timeout: float = 0.5
    kafka: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of librdkafka."""
    kafka_file: Callable[[], Mapping[str, str]] = dict
    """Reads such settings, for each producer anew: a password that is exchanged is found when the old one fails."""


class Relay:
    """One relay; `run` until `stop`."""

    def __init__(
        self,
        settings: Settings,
        metrics: RelayMetrics,
        *,
        rng: Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # for its life
        self._settings = settings
        self._metrics = metrics
        self._rng = rng
        self._clock = clock
        self._publisher = Publisher(settings.brokers, settings.kafka, name=settings.name, file=settings.kafka_file)
        self.breaker = Breaker(rng)
        self._reached = False
        """Whether Kafka has answered yet."""
        self._stopping = False
        self.turned = clock()
        """The last instant at which it was seen to work, or to wait for a reason."""
        self._wake = asyncio.Event()
        self._retain_at = 0.0

        # until the session ends
        self._session: Session | None = None
        self._floors = Floors()
        self._count_at = self._balance_at = self._due_at = 0.0

    async def run(self) -> None:
        """Relay until `stop`. A database that is gone is waited for. Raises OutboxError where it has no outbox, and for
        settings that Kafka's client does not take."""
        self._publisher.open()
        failures = 0
        while not self._stopping:
            self.turned = self._clock()
            try:
                async with opened(
                    self._settings.database,
                    prefix=self._settings.topic_prefix,
                    command_timeout=self._settings.statement_timeout,
                    wake=self._wake,
                ) as session:
                    get_logger().info("database reached")
                    failures = 0
                    await self._serve(session)
            except DatabaseError as error:
                failures += 1
                self._metrics.database_errors.inc()
                wait = Backoff(0.2, 10.0).wait(failures, self._rng)
                get_logger().warning("database lost", error=str(error), retry_in=round(wait, 2))
                await self._sleep(wait, wakes=False)
            finally:
                self._forget()
        await self._publisher.abandon()

    @property
    def waits_for(self) -> str:
        """What does not answer, so that it cannot work: PostgreSQL or Kafka. Empty when it can."""
        if self._session is None:
            return "PostgreSQL"
        return "" if self._reached and self.breaker.state == "closed" else "Kafka"

    def stop(self) -> None:
        """Finish the round and leave."""
        self._stopping = True
        self._wake.set()

    async def _serve(self, session: Session) -> None:
        self._session = session
        pace = Pace()
        while not self._stopping:
            self.turned = self._clock()
            self._wake.clear()
            if (self.breaker.state != "closed" or not self._reached) and not await self._probe(session):
                continue
            await self._keep_house(session)
            there = await self._round(session)
            pace.looked(found=there is not Found.NOTHING)
            if there is not Found.MORE:
                self._publisher.look()
                await self._sleep(min(pace.wait, max(0.0, self._balance_at - self._clock())))
        await session.leave()

    async def _probe(self, session: Session) -> bool:
        """Before the first round, and while the breaker is not closed: own nothing, and ask Kafka now and then. Whether
        it answers."""
        if session.slots:
            await session.leave()
            self._show(session)
        if (wait := self.breaker.probe(self._clock())) > 0:
            await self._count(session)
            await self._sleep(min(wait, 1.0), wakes=False)
            return False
        self._metrics.breaker.show(self.breaker)
        try:
            await self._publisher.probe()
        except KafkaUnavailableError as error:
            await self._publisher.abandon()
            self._kafka_failed(str(error))
            return False
        self.breaker.succeeded()
        self._balance_at = 0.0
        self._metrics.breaker.show(self.breaker)
        if self._reached:
            get_logger().info("kafka is back")
        else:
            get_logger().info("kafka reached")
        self._reached = True
        return True

    async def _keep_house(self, session: Session) -> None:
        """What is done between rounds, each thing at its time: share slots, count, look after partitions."""
        now = self._clock()
        if now >= self._balance_at:
            self._balance_at = now + BALANCE_EVERY
            await session.balance(lambda relays: share(SLOTS, relays), self._rng.sample(range(SLOTS), SLOTS))
            self._floors.own(session.slots)
            self._show(session)
        await self._count(session)
        if self._settings.keep and now >= self._retain_at and 0 in session.slots:
            self._retain_at = now + await self._retain(session)

    async def _count(self, session: Session) -> None:
        now = self._clock()
        if now >= self._count_at:
            self._count_at = now + COUNT_EVERY
            self._metrics.counted(await session.counts())

    async def _retain(self, session: Session) -> float:
        """Seconds until the next time."""
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
        if made or dropped or kept:
            get_logger().info("partitions looked after", made=made, dropped=dropped, kept=kept)
        return RETAIN_EVERY

    async def _round(self, session: Session) -> Found:
        """One round."""
        now = self._clock()
        if now >= self._due_at:
            await self._try_again(session, now)
            self._due_at = now + max(DUE_EVERY, DUE_REST * (self._clock() - now))
        if not session.slots or self.breaker.state != "closed":
            return Found.NOTHING
        floors = self._floors.now(now)
        limit = max(1, self._settings.batch // len(floors))
        events = await session.waiting(floors, limit)
        if events:
            complete = await self._publish(session, events)
            self._floors.reached(events, now, complete=complete)
        return found(events, limit)

    async def _try_again(self, session: Session, now: float) -> None:
        """Send what failed before, each alone, so that nothing else suffers for it; for `DUE_MOST` seconds at most."""
        for event in await session.due(session.slots, MOST_ALONE) if session.slots else []:
            await self._publish(session, [event])
            self._floors.rewind()  # what waited behind it goes on
            if self.breaker.state != "closed" or self._clock() - now > DUE_MOST:
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
            self.breaker.succeeded()
            return True
        self._floors.rewind()
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
            self._kafka_failed(f"{named}, {self._publisher.complaint or 'no complaint'}")

    def _kafka_failed(self, reason: str) -> None:
        now = self._clock()
        self.breaker.failed(now)
        self._metrics.breaker.show(self.breaker)
        get_logger().warning("kafka lost", error=reason, retry_in=round(self.breaker.until - now, 2))

    async def _sleep(self, seconds: float, *, wakes: bool = True) -> None:
        """Wait so long, or until there is news or an end."""
        if self._stopping or seconds <= 0:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                while not wakes and not self._stopping:
                    self._wake.clear()
                    await self._wake.wait()

    def _show(self, session: Session) -> None:
        self._metrics.slots.set(len(session.slots))

    def _forget(self) -> None:
        """The session is over."""
        self._session = None
        self._floors = Floors()
        self._count_at = self._balance_at = self._due_at = 0.0
        self._metrics.slots.set(0)

    def __repr__(self) -> str:
        return f"<Relay {self._session!r} {self.breaker!r}>"
