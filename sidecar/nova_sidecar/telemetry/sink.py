"""Log lines on their way out of the process, without ever stopping the event loop.

A container's stdout is a pipe. When its reader stalls, a plain write blocks, and with it every request of the pod.
``O_NONBLOCK`` is no way out: the flag belongs to the open file, which other processes share (the app under
``nova dev``, a shell), and they would get errors from it. So this writer asks `poll` first and writes at most
``PIPE_BUF`` bytes, which POSIX promises will then neither block nor be torn (write(2), pipe(7)). An empty pipe takes as
much as it holds, and a file anything: then a whole batch goes by one call, and wakes the reader once. What does not fit
waits in a bounded buffer; beyond it lines are dropped and counted, because logs must not take the service down.
"""

import asyncio
import fcntl
import os
import select
import stat
import termios
import time
from typing import Final

CHUNK: Final = 4096  # PIPE_BUF of Linux
LIMIT: Final = 1 << 20
RETRY: Final = 0.005


class LineSink:
    """Takes whole lines and writes them in order to one file descriptor.

    `dropped` counts the lines that were lost because the reader was too slow or gone.
    """

    __slots__ = ("_capacity", "_fd", "_is_pipe", "_limit", "_loop", "_pending", "_poll", "_timer", "dropped")

    def __init__(self, descriptor: int, *, limit: int = LIMIT) -> None:
        self._fd = descriptor
        self._limit = limit
        self._pending = bytearray()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        self._capacity = _capacity(descriptor, is_pipe=self._is_pipe)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def __repr__(self) -> str:
        return f"<LineSink fd={self._fd} pending={len(self._pending)} dropped={self.dropped}>"

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Retry on this loop what the reader did not take at once. Without a loop, the next write retries."""
        self._loop = loop

    def write(self, lines: bytes, count: int = 1) -> None:
        """Write `count` lines, each with its line end, as far as the reader takes them; the rest follows."""
        if len(self._pending) + len(lines) > self._limit:
            self.dropped += count
        else:
            self._pending += lines
        if self._timer is None:
            self._push()

    def drain(self, timeout: float) -> None:
        """Write what is left, waiting at most `timeout` seconds for the reader. Blocks; for the end of the process.

        Later lines are written without the loop, which may be closed by then.
        """
        deadline = time.monotonic() + timeout
        while self._pending and (left := deadline - time.monotonic()) > 0:
            self._poll.poll(left * 1000)
            self._write_ready()
        self.dropped += self._pending.count(b"\n")
        self._pending.clear()
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _push(self) -> None:
        self._timer = None
        self._write_ready()
        if self._pending and self._loop is not None:
            self._timer = self._loop.call_later(RETRY, self._push)

    def _write_ready(self) -> None:
        """Write chunk by chunk while the reader takes them."""
        pending = self._pending
        start = 0
        try:
            while start < len(pending) and (room := self._room()):
                start += os.write(self._fd, bytes(pending[start : _chunk_end(pending, start, room)]))
        except OSError:  # the reader is gone; there is nobody left to tell but the counter
            self.dropped += pending.count(b"\n", start)
            start = len(pending)
        del pending[:start]

    def _room(self) -> int:
        """Bytes that a write takes now without waiting; 0 when it would wait."""
        if not self._poll.poll(0):
            return 0
        return CHUNK if self._is_pipe and _unread(self._fd) else self._capacity


def _capacity(descriptor: int, *, is_pipe: bool) -> int:
    """Bytes that fit where nothing is unread; of what is neither a pipe nor a file, what POSIX promises."""
    if is_pipe:
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else CHUNK
    found = os.fstat(descriptor)
    unbounded = stat.S_ISREG(found.st_mode) or found.st_rdev == os.stat(os.devnull).st_rdev
    return LIMIT if unbounded else CHUNK


def _unread(descriptor: int) -> bool:
    return any(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))


def _chunk_end(pending: bytearray, start: int, room: int) -> int:
    """End of the last whole line within the room, so that lines of several writers do not mix; of the room for a
    line longer than that."""
    return pending.rfind(b"\n", start, start + room) + 1 or start + room
