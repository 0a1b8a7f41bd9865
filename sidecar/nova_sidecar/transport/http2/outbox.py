"""Writes are collected: what the frames of one read cause, on whatever connections, goes out as one write to each.

A read brings the frames of dozens of streams, and each may answer on its own connection and go on over another. One
system call a frame would cost ten times the work of passing it on. So frames are appended to the connection's list,
the connection is noted as touched, and whoever opened the box (a read, an expiry) closes it with one write for each.
What is written with no box open (a timer, a place granted) goes out in the next turn of the event loop.
"""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nova_sidecar.transport.http2.session import Session


class Outbox:
    """The connections of one port that have something to write. As a context it is open, and flushed at the end."""

    __slots__ = ("_loop", "_scheduled", "open", "touched")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.touched: list[Session] = []
        self.open = False
        """Whether somebody is going to call `flush` in this turn."""
        self._scheduled = False

    def touch(self, session: "Session") -> None:
        """A connection has something to write now and had nothing before."""
        self.touched.append(session)
        if not (self.open or self._scheduled):
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def flush(self) -> None:
        """Write what there is; closes the box."""
        self.open = False
        touched = self.touched
        for session in touched:  # grows while it is walked through where a write fails at once
            out = session.out
            if out:
                session.out = []
                session.put(b"".join(out))
        touched.clear()

    def __enter__(self) -> None:
        self.open = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.flush()

    def _turn(self) -> None:
        self._scheduled = False
        self.flush()

    def __repr__(self) -> str:
        return f"<Outbox {'open' if self.open else 'closed'} touched={len(self.touched)}>"
