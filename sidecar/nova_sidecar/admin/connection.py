"""One connection to an admin server: requests one after the other, each answered by a task of its own.

The wire reads the heads, as strictly as on the data path. Three rules bound what a hostile client can do:

* What it sends is kept only up to one head (8 KiB). Behind a request whose answer is not written, reading pauses.
* No page looks at a body. It is read past, up to 16 KiB, so that what follows on the connection is the next request
  and nothing that a body smuggles; a longer one is answered 413.
* An answer is written in slices and waits for the client between them. Whenever it is the client's turn, the guard's
  clock runs.

After a request that cannot be trusted, or with more sent than was read, closing at once would make the kernel reset the
connection and destroy the answer on its way (RFC 9112 section 9.6): then only our side ends, and what still comes is
thrown away for a second.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final, cast

from nova_sidecar.admin.guard import HEAD_TIMEOUT, KEEP_ALIVE, STALL_TIMEOUT, ConnectionGuard
from nova_sidecar.admin.message import Answer, Request, request_of, response_head, text
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.wire.chunked import LAST_CHUNK, ChunkedReader, chunk
from nova_sidecar.wire.fields import CHUNKED
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.head import check_start, head_end, without_empty_lines
from nova_sidecar.wire.request import RequestHead, RequestReader

MAX_HEAD: Final = 8 * 1024
MAX_BODY: Final = 16 * 1024
SLICE: Final = 64 * 1024
LINGER_TIMEOUT: Final = 1.0
LINGER_BYTES: Final = 1 << 20

Respond = Callable[[Request], Awaitable[Answer]]
"""Finds and runs the page; raises nothing."""


class _TooLargeError(Exception):
    """A body longer than is read past."""


class _Body:
    """The body of one request on its way to nowhere."""

    def __init__(self, length: int) -> None:
        self._left = length
        self._reader = ChunkedReader() if length == CHUNKED else None
        self._fed = 0
        if length > MAX_BODY:
            raise _TooLargeError

    def skip(self, data: bytes) -> bytes | None:
        """What follows the body, or None when it goes on. Raises Malformed or _TooLargeError."""
        if self._reader is None:
            self._left -= len(data)
            return None if self._left > 0 else data[len(data) + self._left :]
        self._reader.feed(data)
        if self._reader.done:
            return self._reader.rest
        self._fed += len(data)
        if self._fed > MAX_BODY:
            raise _TooLargeError
        return None


class Connection(asyncio.Protocol):
    """Reads requests, writes answers; `gone` is called at its end."""

    def __init__(
        self, respond: Respond, reader: RequestReader, guard: ConnectionGuard, gone: Callable[["Connection"], None]
    ) -> None:
        self._respond = respond
        self._reader = reader
        self._guard = guard
        self._gone = gone
        # of the connection
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # connection_made comes before all else
        self._writable = asyncio.Event()
        self._eof = False
        self._kept = False  # it waits for its next request
        self._last = False
        self._linger = 0
        # of the request that is being read
        self._buffer = b""
        self._head: RequestHead | None = None
        self._body: _Body | None = None
        # of the answer that is being written
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "lingering" if self._linger else "answering" if self._task else "reading"
        return f"<Connection {state} buffered={len(self._buffer)}>"

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: there it is."""
        self._transport = cast("asyncio.Transport", transport)  # what stream servers give; uvloop's is no subclass
        self._writable.set()
        self._guard.opened(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is gone, and nobody waits for the answer."""
        self._guard.closed(self._transport)
        if self._task is not None:
            self._task.cancel()
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        if self._linger:
            self._linger -= len(data)
            if self._linger <= 0:
                self._transport.abort()
            return
        self._buffer += data
        if self._task is not None:
            self._transport.pause_reading()
            return
        if self._kept:
            self._kept = False
            self._guard.waits(self._transport, HEAD_TIMEOUT)
        self._read()

    def eof_received(self) -> bool:
        """asyncio: the client sends no more; True keeps the connection open for the answer."""
        self._eof = True
        return self._task is not None

    def pause_writing(self) -> None:
        """asyncio: the client does not read as fast as is written."""
        self._writable.clear()
        self._guard.stalls(self._transport)

    def resume_writing(self) -> None:
        """asyncio: it has caught up."""
        self._writable.set()
        if self._task is not None:
            self._guard.busy(self._transport)

    # what the server calls

    def end(self) -> None:
        """Close now, or when the answer that is under way is written."""
        self._last = True
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # requests

    def _read(self) -> None:
        """Begin to answer if there is a whole request."""
        try:
            head = self._next()
        except Malformed as error:
            self._refuse(text(400, error.why))
        except _TooLargeError:
            self._refuse(text(413, f"no page takes a body of more than {MAX_BODY} bytes"))
        else:
            if head is not None:
                self._guard.busy(self._transport)
                self._task = asyncio.get_running_loop().create_task(self._answer(head))
            elif self._eof:
                self._transport.close()

    def _next(self) -> RequestHead | None:
        """The next request, its body behind us, or None when more must come. Raises Malformed, _TooLargeError."""
        if self._head is None:
            self._head = self._next_head()
            if self._head is None:
                return None
            self._body = _Body(self._head.length)
            if self._head.expects and not self._buffer:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, body = self._head, self._body
        rest = self._buffer if body is None else body.skip(self._buffer)
        self._buffer = rest or b""
        if rest is None:
            return None
        self._head = self._body = None
        return head

    def _next_head(self) -> RequestHead | None:
        data = self._buffer = without_empty_lines(self._buffer)
        if data in (b"", b"\r"):
            return None
        end = head_end(data)
        if max(end, len(data) if end < 0 else 0) > MAX_HEAD:
            raise Malformed(f"the request head is longer than {MAX_HEAD} bytes")
        if end < 0:
            check_start(data)
            return None
        self._buffer = data[end:]
        return self._reader.read(data[:end])

    def _refuse(self, answer: Answer) -> None:
        """Answer what is no request, and trust nothing that follows."""
        self._transport.write(response_head(answer, keep=False, http10=False) + cast("bytes", answer.body))
        self._close(linger=True)

    # answers

    async def _answer(self, head: RequestHead) -> None:
        try:
            keep = await self._write(head, await self._respond(request_of(head)))
        except Exception as error:  # the head may be out already: nothing can be said to the client any more
            get_logger().error("admin page failed", path=head.path, exc_info=error)
            self._transport.abort()
            return
        self._task = None
        if self._transport.is_closing():
            return
        if not keep or self._last:
            self._close(linger=bool(self._buffer))
        elif self._buffer or self._eof:
            self._go_on()
        else:
            self._kept = True
            self._guard.waits(self._transport, KEEP_ALIVE)

    def _go_on(self) -> None:
        """Look at what was sent meanwhile."""
        self._guard.waits(self._transport, HEAD_TIMEOUT)
        self._transport.resume_reading()
        self._read()

    async def _write(self, head: RequestHead, answer: Answer) -> bool:
        """Write the answer; whether the connection can be kept."""
        body = answer.body
        if isinstance(body, bytes):
            keep = head.keep_alive and not self._last
            start = response_head(answer, keep=keep, http10=head.http10)
            await self._send(start if head.is_head else start + body)
            return keep
        keep = head.keep_alive and not head.http10
        async with aclosing(body):
            await self._send(response_head(answer, keep=keep, http10=head.http10))
            async for piece in body:
                await self._send(piece if head.http10 else chunk(piece))
        if not head.http10:
            await self._send(LAST_CHUNK + b"\r\n")
        return keep

    async def _send(self, data: bytes) -> None:
        """Write, as fast as the client reads."""
        for at in range(0, len(data), SLICE):
            self._transport.write(data[at : at + SLICE])
            await self._writable.wait()

    def _close(self, *, linger: bool) -> None:
        """Close when what is written has gone; the guard ends it where a client never takes it."""
        self._buffer = b""
        if linger and not self._eof:
            self._linger = LINGER_BYTES
            self._guard.waits(self._transport, LINGER_TIMEOUT)
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._guard.waits(self._transport, STALL_TIMEOUT)
            self._transport.close()
