"""Connections that are there before somebody needs them: a number kept open when nobody calls, and successors.

A connection that is due for renewal, by age or because it was idle for long, goes when its successor is there, so that
no request waits for a connect. Where the pool is full there is no room for two; then it goes first.

Connecting in advance to an upstream that refuses is repeated after a wait that doubles, with jitter: it is nobody's
request, so nobody needs it now.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Bounds on the seconds between two tries; the actual wait is drawn from the upper half of the bound."""


class Warmth:
    """Opens what is missing: `missing` tells how many, `open_one` begins to open one and returns whether it could."""

    __slots__ = ("_handle", "_loop", "_missing", "_open_one", "_rng", "_wait")

    def __init__(self, missing: Callable[[], int], open_one: Callable[[], bool], rng: Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._missing = missing
        self._open_one = open_one
        self._rng = rng
        self._wait = FIRST_WAIT
        self._handle: asyncio.TimerHandle | None = None

    def top_up(self) -> None:
        """Begin to open as many connections as are missing, unless a wait is under way."""
        if self._handle is not None:
            return
        for _ in range(self._missing()):
            if not self._open_one():
                return

    def succeeded(self) -> None:
        """The upstream takes connections."""
        self._wait = FIRST_WAIT

    def failed(self) -> None:
        """A connection in advance failed, or was closed at once: try again later."""
        if self._handle is None:
            seconds = self._wait * (0.5 + self._rng.random() / 2)
            self._wait = min(self._wait * 2, LONGEST_WAIT)
            self._handle = self._loop.call_later(seconds, self._again)

    def close(self) -> None:
        """Open nothing any more."""
        self._missing = lambda: 0
        if self._handle is not None:
            self._handle.cancel()

    def _again(self) -> None:
        self._handle = None
        self.top_up()

    def __repr__(self) -> str:
        return f"<Warmth missing={self._missing()}>"
