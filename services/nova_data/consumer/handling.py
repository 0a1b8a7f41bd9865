"""One message: attempts, waits, and what becomes of it. It returns when the message is done, and not before.

    no outage ─▶ a slot is free ─▶ attempt ─┬─ returned ─────────────────────▶ done (False: it was done before)
        ▲                                   ├─ DownstreamError, `pause_on` ──▶ an outage: wait for its end, again
        │                                   ├─ ClaimedError ─────────────────▶ another one is at it: wait, again
        │                                   ├─ RejectedError ────────────────▶ dead letter
        └──────────── wait (backoff) ◀──────┴─ anything else ─┬─ so often ───▶ dead letter
                                                              └─ else ───────▶ again

A dead letter that Kafka does not take is an outage too: the message stays in hand until it is somewhere.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from nova_data import correlation
from nova_data.backoff import Backoff
from nova_data.consumer.attempt import Ended, attempted
from nova_data.consumer.batches import Batches, BatchHandler
from nova_data.consumer.dead_letters import DeadLetters, Reason
from nova_data.consumer.lanes import Lanes
from nova_data.consumer.message import Message
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.consumer.outage import Outage
from nova_data.errors import DownstreamError, KafkaUnavailableError
from nova_data.logs import get_logger

Handler = Callable[[Message], Awaitable[object]]
"""Handles a message and returns; False says that it had been handled before. What it raises decides what comes next."""
PAUSE_ON: Final[tuple[type[BaseException], ...]] = (DownstreamError, ConnectionError)
_TURN: Final = 0.05
"""Seconds between looks while another message is tried in an outage."""


class Handling:
    """All messages of a consumer. `timeout` bounds an attempt, in seconds; `slots` how many there are at once."""

    def __init__(
        self,
        handler: Handler,
        *,
        slots: int,
        timeout: float,
        retry: Backoff,
        pause_on: tuple[type[BaseException], ...],
        outage: Outage,
        dead_letters: DeadLetters,
        metrics: ConsumerMetrics,
        rng: Random,
        turned: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler = handler
        self._slots = asyncio.Semaphore(slots)
        self._timeout = timeout
        self._retry = retry
        self._pause_on = pause_on
        self.outage = outage
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._rng = rng
        self._turned = turned
        self._clock = clock

    def batches(self, handler: BatchHandler, most: int) -> Batches:
        """For several messages in one call, in the same slots and with the same outages."""
        return Batches(
            handler,
            most,
            slots=self._slots,
            timeout=self._timeout,
            pause_on=self._pause_on,
            outage=self.outage,
            metrics=self._metrics,
            looked=self._look,
            clock=self._clock,
        )

    async def handle(self, message: Message, lanes: Lanes) -> None:
        """Until it is done, or cancelled because its partition is to go."""
        failures = 0
        while True:
            await self._slots.acquire()
            try:
                probe = await self._admitted(lanes)
                ended = await self._attempt(message, lanes, probe=probe)
            finally:
                self._slots.release()
            if ended.kind == "done":
                return
            if ended.kind == "claimed":
                await self._rest(lanes, ended.wait)
            elif ended.kind == "rejected":
                await self._set_aside(message, lanes, "rejected", ended.error, failures + 1)
                return
            elif ended.kind == "failed":
                failures += 1
                wait = self._retry.next(failures, self._rng)
                if wait is None:
                    await self._set_aside(message, lanes, "exhausted", ended.error, failures)
                    return
                self._again(message, ended.error, failures, wait)
                await self._rest(lanes, wait)

    async def _admitted(self, lanes: Lanes) -> bool:
        """Wait while there is an outage; whether this message is the one that is tried."""
        while self.outage.there:
            wait = self.outage.probe(self._clock())
            if wait == 0:
                self._look()
                return True
            await self._rest(lanes, _TURN if wait is None else min(wait, 1.0))
        return False

    async def _attempt(self, message: Message, lanes: Lanes, *, probe: bool) -> Ended:
        begun = self._clock()
        ended = Ended("outage")
        try:
            lanes.begin(message)
            ended = await self._call(message)
        finally:  # also where it is cancelled: a probe that says nothing is one that failed
            if ended.kind in ("done", "rejected"):
                self.outage.succeeded()
            elif ended.kind in ("outage", "failed"):
                if ended.error is not None or probe:
                    self.outage.failed(message.position, self._clock(), outage=ended.kind == "outage")
            elif probe:
                self.outage.succeeded()
            self._look()
        self._metrics.attempted(message.topic, self._clock() - begun)
        if ended.kind == "outage" and ended.error is not None:
            self._metrics.outages.inc()
            get_logger().warning("downstream lost", topic=message.topic, error=type(ended.error).__name__)
        return ended

    async def _call(self, message: Message) -> Ended:
        with correlation.bound(message.correlation_id, message.traceparent):
            ended = await attempted(lambda: self._handler(message), within=self._timeout, pause_on=self._pause_on)
        if ended.kind == "done":
            self._metrics.handled(message.topic, duplicate=ended.said is False)
        return ended

    async def _set_aside(
        self, message: Message, lanes: Lanes, reason: Reason, error: BaseException | None, attempts: int
    ) -> None:
        """Put it among the dead letters, however long Kafka takes to accept it."""
        get_logger().error(
            "message set aside",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            correlation_id=message.correlation_id,
            reason=reason,
            attempts=attempts,
            exc_info=error,
        )
        while True:
            probe = await self._admitted(lanes)
            kept = refused = False
            try:
                await self._dead_letters.add(message, reason=reason, error=error, attempts=attempts)
                kept = True
            except KafkaUnavailableError as failure:
                refused = True
                get_logger().warning("dead letter refused", topic=message.topic, error=str(failure))
            finally:
                if kept and probe:
                    self.outage.succeeded()
                elif refused or (probe and not kept):
                    self.outage.failed(message.position, self._clock(), outage=True)
                self._look()
            if kept:
                self._metrics.dead_lettered(message.topic, reason)
                return

    def _again(self, message: Message, error: BaseException | None, failures: int, wait: float) -> None:
        self._metrics.retried(message.topic)
        get_logger().warning(
            "message failed",
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            correlation_id=message.correlation_id,
            error=type(error).__name__,
            attempts=failures,
            retry_in=round(wait, 2),
        )

    async def _rest(self, lanes: Lanes, seconds: float) -> None:
        with lanes.at_rest():
            await asyncio.sleep(seconds)

    def _look(self) -> None:
        """The outage may have begun, or be over."""
        self._metrics.breaker.show(self.outage.breaker)
        self._turned()

    def __repr__(self) -> str:
        return f"<Handling {self.outage!r}>"
