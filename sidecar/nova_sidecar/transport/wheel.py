"""Deadlines for many connections at the price of an attribute.

A timer per request would cost more than the request's policies. Instead every connection sits in one slot of a wheel
and carries the instant at which something must happen. Moving that instant later is a plain assignment: when the slot
comes up, the connection is put into the slot that fits. Only an earlier instant needs `place`.

Rules: an expiry comes at or after its deadline, at most two ticks (100 ms) late on a loop that is not overloaded.
The wheel ticks while there is something in it and sleeps otherwise. `now` is the instant of the last tick.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

TICK: Final = 0.05
"""Seconds between two looks at the wheel."""


class Timed:
    """Something with a deadline. `wakes` is the instant at which the wheel looks at it, infinity when it does not."""

    __slots__ = ("deadline", "wakes")

    def __init__(self) -> None:
        self.deadline = inf
        self.wakes = inf

    def expire(self, now: float) -> None:
        """The deadline is over; called once, with `deadline` set to infinity before."""
        raise NotImplementedError


class Wheel:
    """The slots, by tick number, and the one timer of the event loop that turns them."""

    __slots__ = ("_clock", "_handle", "_loop", "_next", "_slots", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._slots: dict[int, set[Timed]] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._next = 0
        self.now = clock()

    def arm(self, timed: Timed, deadline: float) -> None:
        """Set a deadline, earlier or later than the present one."""
        timed.deadline = deadline
        if deadline < timed.wakes:
            self.place(timed)

    def place(self, timed: Timed) -> None:
        """Make sure the wheel looks at it in time; needed when `deadline` is earlier than `wakes`."""
        if timed.wakes != inf:
            self._take_out(timed)
        if self._handle is None:
            self._wake_up()
        slot = max(int(timed.deadline / TICK) + 1, self._next)
        timed.wakes = slot * TICK
        self._slots.setdefault(slot, set()).add(timed)

    def after(self, seconds: float) -> float:
        """The instant so many seconds from now. `now + seconds` is the same while there is something in the wheel; when
        it slept, `now` is an instant of long ago."""
        if self._handle is None:
            self._wake_up()
        return self.now + seconds

    def remove(self, timed: Timed) -> None:
        """Forget it; it never expires."""
        timed.deadline = inf
        if timed.wakes != inf:
            self._take_out(timed)
            timed.wakes = inf

    def close(self) -> None:
        """Stop; nothing expires any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots.clear()

    def _take_out(self, timed: Timed) -> None:
        slot = self._slots.get(round(timed.wakes / TICK))
        if slot is not None:
            slot.discard(timed)

    def _wake_up(self) -> None:
        self.now = self._clock()
        self._next = int(self.now / TICK)
        self._handle = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = self.now = self._clock()
        current = int(now / TICK)
        for number in range(self._next, current + 1):
            for timed in self._slots.pop(number, ()):
                self._look(timed, now)
        self._next = current + 1
        self._handle = self._loop.call_later(TICK, self._tick) if self._slots else None

    def _look(self, timed: Timed, now: float) -> None:
        if timed.wakes == inf:  # removed by another one of this tick
            return
        timed.wakes = inf
        if timed.deadline <= now:
            timed.deadline = inf
            timed.expire(now)
        elif timed.deadline != inf:
            self.place(timed)
