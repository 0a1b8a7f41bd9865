"""A partition's messages on the event loop: side by side, and in order within a key.

A key belongs to a lane, by its hash; a lane handles one message after the other, or a batch of them (`batches`). So
whatever one message waits for, a retry say, only the messages of its lane wait with it. Messages without a key have no
order and go to the lanes in turn.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from typing import Final, Protocol
from zlib import crc32

from nova_data.consumer.flow import Intake
from nova_data.consumer.ledger import Ledger
from nova_data.consumer.message import Message

UNWIND: Final = 2.0
"""Seconds for a handler that is broken off to come to its end."""


class Together(Protocol):
    """How several messages are handled in one call, `most` at most."""

    @property
    def most(self) -> int:
        """From 2."""

    async def handle(self, messages: Sequence[Message], lanes: "Lanes") -> int:
        """How many of the first are to be handled alone now; 0: all are done."""


class Lanes:
    """One partition, from its assignment to its revocation. `handle` returns when a message is done; what it raises,
    which should be nothing, `broken` is told. `together` handles several where they wait."""

    def __init__(
        self,
        intake: Intake,
        count: int,
        handle: Callable[[Message, "Lanes"], Awaitable[None]],
        broken: Callable[[BaseException], None],
        together: Together | None = None,
    ) -> None:
        self._intake = intake
        self._count = count
        self._handle = handle
        self._broken = broken
        self._together = together
        self._ledger = Ledger()
        self._queues: dict[int, deque[Message]] = {}
        """Of the lanes that have something to do."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_rest: set[asyncio.Task[object]] = set()
        self._begun = -1
        """The last offset of those that were begun."""

    def give(self, messages: Iterable[Message]) -> None:
        """Handle these when it is their turn."""
        for message in messages:
            if self._intake.gone:
                return
            if not self._ledger.take(message.offset):
                self._intake.finished += 1
                continue
            lane = self._lane(message)
            queue = self._queues.get(lane)
            if queue is None:
                self._queues[lane] = deque((message,))
                task = asyncio.get_running_loop().create_task(self._run(lane))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
            else:
                queue.append(message)

    def may_begin(self, message: Message) -> bool:
        """When the partition is to go, only what lies before a message that was begun is begun: else that one was done
        beyond what may be committed, and is done again."""
        return not self._intake.gone or message.offset <= self._begun

    def begin(self, message: Message) -> None:
        """It is its turn. Raises CancelledError where it may not be begun."""
        if not self.may_begin(message):
            raise asyncio.CancelledError
        self._begun = max(self._begun, message.offset)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """The message in hand waits in the block, and is doing nothing that would have to be finished."""
        task = asyncio.current_task()
        if task is None or self._intake.gone:
            raise asyncio.CancelledError
        self._at_rest.add(task)
        try:
            yield
        finally:
            self._at_rest.discard(task)

    async def leave(self, patience: float) -> int | None:
        """Begin nothing new, let what is under way, and what lies before it, come to its end within `patience` seconds,
        break off the rest; the position that may be committed then."""
        self._intake.gone = True
        for resting in tuple(self._at_rest):
            resting.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=UNWIND)
        return self._ledger.position

    def _lane(self, message: Message) -> int:
        return (message.offset if message.key is None else crc32(message.key)) % self._count

    async def _run(self, lane: int) -> None:
        queue, together, alone = self._queues[lane], self._together, 0
        while queue and self.may_begin(queue[0]):
            batch = [] if together is None or alone else self._batch(queue, together.most)
            if together is not None and len(batch) > 1:
                alone = await together.handle(batch, self)
                self._done(queue, 0 if alone else len(batch))
            else:
                await self._handle(queue[0], self)
                self._done(queue, 1)
                alone = max(0, alone - 1)
        if not queue:
            del self._queues[lane]

    def _batch(self, queue: deque[Message], most: int) -> list[Message]:
        return list(takewhile(self.may_begin, islice(queue, most)))

    def _done(self, queue: deque[Message], count: int) -> None:
        for _ in range(count):
            self._ledger.finish(queue.popleft().offset)
        self._intake.position = self._ledger.position
        self._intake.finished += count

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    def __repr__(self) -> str:
        return f"<Lanes {self._ledger!r} busy={len(self._queues)} at_rest={len(self._at_rest)}>"
