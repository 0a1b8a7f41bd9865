"""Messages of a lane that are handled in one call: all of them in one transaction, say.

    nothing is away ─▶ a slot is free ─▶ one call ─┬─ returned ──────▶ all of them are done
                                                   ├─ an outage ─────▶ the first one alone, then batches again
                                                   └─ anything else ─▶ each of them alone, then batches again

A call for several messages has an effect for all of them or for none: that is the handler's promise, and a transaction
keeps it (`nova_data.dedup.postgres`, `once_of`). So when it fails nothing is known of any of them, and each is handled
alone, by the same handler with a list of one: whose fault it was is found out, and attempts, waits and dead letters are
each message's own (`handling`). That a batch failed counts as no attempt of its messages.

A batch is what waits in a lane, `most` at most. Nothing is waited for: where messages come one by one, they are handled
one by one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nova_data.consumer.attempt import Ended, attempted
from nova_data.consumer.lanes import Lanes
from nova_data.consumer.message import Message
from nova_data.consumer.metrics import ConsumerMetrics
from nova_data.consumer.outage import Outage
from nova_data.logs import get_logger

BatchHandler = Callable[[Sequence[Message]], Awaitable[Sequence[object] | None]]
"""Handles messages of one partition, in their order, all or nothing. It may return one answer for each, of which
`False` says that this one had been handled before."""


class Batches:
    """Of a consumer. `timeout` bounds a call, in seconds; `slots` are shared with messages that are handled alone."""

    def __init__(
        self,
        handler: BatchHandler,
        most: int,
        *,
        slots: asyncio.Semaphore,
        timeout: float,
        pause_on: tuple[type[BaseException], ...],
        outage: Outage,
        metrics: ConsumerMetrics,
        looked: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler = handler
        self.most = most
        self._slots = slots
        self._timeout = timeout
        self._pause_on = pause_on
        self._outage = outage
        self._metrics = metrics
        self._looked = looked
        self._clock = clock

    async def handle(self, messages: Sequence[Message], lanes: Lanes) -> int:
        """Handle these in one call. How many of the first must be handled alone before there is another batch: 0 where
        it is done."""
        async with self._slots:
            if self._outage.there or not lanes.may_begin(messages[-1]):
                return 1
            lanes.begin(messages[-1])
            begun = self._clock()
            ended = await attempted(lambda: self._handler(messages), within=self._timeout, pause_on=self._pause_on)
        self._metrics.attempted(messages[0].topic, self._clock() - begun)
        if ended.kind == "done":
            self._done(messages, ended.said)
            return 0
        self._failed(messages, ended)
        return 1 if ended.kind == "outage" else len(messages)

    def _done(self, messages: Sequence[Message], said: Any) -> None:
        self._outage.succeeded()
        self._looked()
        before = sum(one is False for one in _answers(said))
        self._metrics.batch(messages[0].topic, len(messages), duplicates=before)

    def _failed(self, messages: Sequence[Message], ended: Ended) -> None:
        first = messages[0]
        if ended.kind == "outage":
            self._outage.failed(first.position, self._clock(), outage=True)
            self._looked()
            self._metrics.outages.inc()
        self._metrics.batch_failed(first.topic)
        get_logger().warning(
            "batch failed",
            topic=first.topic,
            partition=first.partition,
            offset=first.offset,
            messages=len(messages),
            error=type(ended.error).__name__,
        )

    def __repr__(self) -> str:
        return f"<Batches most={self.most}>"


def alone(handler: BatchHandler) -> Callable[[Message], Awaitable[object]]:
    """The same handler for one message."""

    async def handle(message: Message) -> object:
        said = _answers(await handler([message]))
        return said[0] if said else None

    return handle


def _answers(said: Any) -> Sequence[object]:
    """One for each message, or none. What else a handler returns says nothing: its effect took place."""
    return said if isinstance(said, Sequence) else ()
