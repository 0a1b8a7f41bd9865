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
round begins at the position where rounds were 10 s ago (`rounds.LAG`), or, while a transaction that writes to the
outbox is open for longer than that, where they were before it began: else its event would be passed over, and the next
one of the aggregate, which was only waiting for that transaction's lock, would come first. Every 10 s a round begins at
the beginning all the same.

When Kafka is gone a round ends without any acknowledgement. The breaker opens, the slots are left to relays that may
reach Kafka, and after a while Kafka is asked whether it is back. Events stay where they are: memory does not grow, and
no event is blamed. When PostgreSQL is gone the session begins anew. So it does when PostgreSQL is there and refuses to
mark (a disk is full, the database is read only): then each attempt brings Kafka what it has already, so attempts are
ever further apart, until a round has come to its end.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

from nova_data.backoff import Backoff
from nova_data.breaker import Breaker
from nova_data.errors import DatabaseError, KafkaUnavailableError
from nova_data.logs import get_logger
from nova_data.outbox.housekeeping import Housekeeping
from nova_data.outbox.policy import Pace
from nova_data.outbox.publisher import Publisher
from nova_data.outbox.relay_metrics import RelayMetrics
from nova_data.outbox.rounds import Found
from nova_data.outbox.sending import Sender
from nova_data.outbox.session import Session, opened
from nova_data.outbox.settings import Settings


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
        self._house = Housekeeping(settings, metrics, rng=rng, clock=clock)
        self._sender = Sender(
            settings, self._publisher, self.breaker, metrics, lost=self._kafka_failed, rng=rng, clock=clock
        )

        # until a round comes to its end
        self._failures = 0
        """Sessions that were lost since, or not to be had: one in which no event can be marked is no success."""

        # until the session ends
        self._session: Session | None = None

    async def run(self) -> None:
        """Relay until `stop`. A database that is gone is waited for. Raises OutboxError where it has no outbox, and for
        settings that Kafka's client does not take."""
        self._publisher.open()
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
                    await self._serve(session)
            except DatabaseError as error:
                self._failures += 1
                self._metrics.database_errors.inc()
                wait = Backoff(0.2, 10.0).wait(self._failures, self._rng)
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
            if await self._house.keep(session):
                await self._sender.shared(session)
            there = await self._sender.round(session)
            self._failures = 0
            pace.looked(found=there is not Found.NOTHING)
            if there is not Found.MORE:
                self._publisher.look()
                await self._sleep(min(pace.wait, max(0.0, self._house.balance_at - self._clock())))
        await session.leave()

    async def _probe(self, session: Session) -> bool:
        """Before the first round, and while the breaker is not closed: own nothing, and ask Kafka now and then. Whether
        it answers."""
        if session.slots:
            await self._house.leave(session)
        if (wait := self.breaker.probe(self._clock())) > 0:
            await self._house.count(session)
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
        self._house.balance_at = 0.0
        self._metrics.breaker.show(self.breaker)
        if self._reached:
            get_logger().info("kafka is back")
        else:
            get_logger().info("kafka reached")
        self._reached = True
        return True

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

    def _forget(self) -> None:
        """The session is over."""
        self._session = None
        self._sender.forget()
        self._house.forget()

    def __repr__(self) -> str:
        return f"<Relay {self._session!r} {self.breaker!r}>"
