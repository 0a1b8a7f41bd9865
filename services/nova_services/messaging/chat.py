"""One WebSocket: what its user sends is stored, and what lies in the user's stream goes out, in order and once.

    client ─▶ send ─▶ PostgreSQL ─▶ sent            one frame at a time: who sends faster waits in TCP
    client ◀─ message ◀─ a page of the stream ◀─ PostgreSQL, whenever there may be something

Rules:

* Nothing is queued for a WebSocket. It reads its stream from PostgreSQL a page at a time, and the next page when this
  one is with the client's kernel. So a client that does not read costs a page, and its place is where it stopped.
* A client that takes nothing for `PATIENCE` seconds is closed with 1013 (try again later), and reads on from where it
  was when it comes back.
* At the end of the process a frame in hand is finished, and then the close frame goes out between two messages: 1012
  (service restart), which tells clients to come back. What they sent and got no `sent` for, they send again.
* It ends in the same way when it may not stay any longer (`staying`).
* A stream begins somewhere: what has long been read is removed. A client that was away for so long is told where it
  goes on by another `ready`, and reads what was before in the conversations.
* While the database is away, or users where a block must be known, the WebSocket stays: a message is answered by an
  error with `retryAfter`, and the stream is asked for again.

Codes are those of https://www.iana.org/assignments/websocket.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from random import Random
from time import time
from typing import Any, Final
from uuid import UUID

from aiohttp import WSMsgType, web

from nova_data.backoff import Backoff
from nova_services.backing import lasting, said
from nova_services.errors import ForbiddenError, NotFoundError
from nova_services.logs import get_logger
from nova_services.messaging import frames
from nova_services.messaging.conversations import Conversations, Message
from nova_services.messaging.frames import Failed, Frame
from nova_services.messaging.metrics import MessagingMetrics
from nova_services.messaging.sending import Sending
from nova_services.messaging.staying import CODES, Closed

PAGE: Final = 100
"""Messages that are in memory for a WebSocket, at most."""
PATIENCE: Final = 10.0
"""Seconds that a client may leave a message untaken."""
ANSWER: Final = 5.0
"""Seconds that a client has for its own close frame."""
_AGAIN: Final = Backoff(base=0.2, longest=5.0)


class SlowReaderError(Exception):
    """A client takes nothing."""


class Chat:
    """See the module. `place` is how far the client has read, `session` the login that it came with; `started_at` is in
    seconds since 1970."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        user: UUID,
        place: int,
        *,
        session: UUID | None,
        conversations: Conversations,
        sending: Sending,
        metrics: MessagingMetrics,
        random: Random,
        transport: asyncio.Transport | None,
        patience: float = PATIENCE,
    ) -> None:
        self.user = user
        self.place = place
        self.session = session
        self._socket = socket
        self._conversations = conversations
        self._sending = sending
        self._metrics = metrics
        self._random = random
        self._transport = transport
        self._patience = patience
        self._started_at = time()
        self._news = asyncio.Event()
        self._ending = asyncio.Event()
        self._end: Closed = "ending"
        self._hand = asyncio.Lock()
        """Held while a frame of the client's is dealt with."""

    def wake(self) -> None:
        """There may be something in the stream."""
        self._news.set()

    def end(self, why: Closed) -> None:
        """Close in good order; the first reason is the one that the client hears."""
        if not self._ending.is_set():
            self._end = why
            self._ending.set()

    async def run(self) -> Closed:
        """Until one of the two leaves; why."""
        tasks = [asyncio.ensure_future(one) for one in (self._hear(), self._deliver(), self._ending.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            async with self._hand:  # a message in hand is stored and answered first
                why = self._why(tasks)
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
        await self._close(why)
        return why

    def _why(self, tasks: "Sequence[asyncio.Future[Any]]") -> Closed:
        hearing, delivering, _ = tasks
        error = delivering.exception() if delivering.done() else hearing.exception() if hearing.done() else None
        if isinstance(error, SlowReaderError):
            return "slow"
        if error is not None and not isinstance(error, ConnectionError):
            get_logger().error("chat failed", exc_info=error)
            return "failed"
        return "left" if error is not None or hearing.done() else self._end

    async def _close(self, why: Closed) -> None:
        code, reason = CODES[why]
        with suppress(ConnectionError):
            await self._socket.close(code=code, message=reason.encode(), drain=why != "slow")
        if self._transport is not None and why == "slow":
            self._transport.abort()  # it holds what the client did not take, and would wait for it as long as TCP does

    # --- from the client

    async def _hear(self) -> None:
        async for frame in self._socket:
            async with self._hand:
                if frame.type is not WSMsgType.TEXT:
                    await self._put(Failed("expected text"))
                    continue
                await self._put(await self._answer(frame.data))

    async def _answer(self, data: str) -> Frame:
        try:
            given = frames.decode(data)
        except ValueError as error:
            return Failed(str(error))
        try:
            return frames.stored((await self._sending.send(given.draft(self.user))).message)
        except (NotFoundError, ForbiddenError) as error:
            return Failed(str(error), given.client_id)
        except Exception as error:
            if (after := lasting(error)) is None:
                raise
            return Failed(said(error), given.client_id, max(1, ceil(after)))

    # --- to the client

    async def _deliver(self) -> None:
        await self._put(frames.Ready(self.place))
        failures = 0
        while True:
            self._news.clear()  # before reading, so that what comes meanwhile is read after
            try:
                begin, page = await self._read()
            except Exception as error:
                if lasting(error) is None:
                    raise
                failures += 1
                await asyncio.sleep(_AGAIN.wait(failures, self._random))
                continue
            failures = 0
            if begin > self.place:
                self.place = begin
                await self._put(frames.Ready(begin))
                continue
            for place, message in page:
                await self._put(frames.told(place, message))
                self.place = place
                self._metrics.delivered.inc()
                if (stored_at := message.sent_at.timestamp()) >= self._started_at:
                    self._metrics.delay.observe(max(0.0, time() - stored_at))
            if len(page) < PAGE:
                await self._news.wait()

    async def _read(self) -> tuple[int, Sequence[tuple[int, Message]]]:
        """The place after which the stream begins, where that may be farther than the client is, and what comes."""
        page = await self._conversations.stream(self.user, self.place, limit=PAGE)
        if not page or page[0][0] == self.place + 1:
            return self.place, page
        return (await self._conversations.extent(self.user)).begin, page  # else it was somebody's who is erased

    async def _put(self, frame: Frame) -> None:
        """Write a frame, whole; then wait until the client has taken most of what was written."""
        try:
            async with asyncio.timeout(self._patience):
                await self._socket.send_str(frames.encode(frame))
        except TimeoutError:
            raise SlowReaderError from None

    def __repr__(self) -> str:
        return f"<Chat place={self.place} news={self._news.is_set()} ending={self._ending.is_set()}>"
