"""Connections that nobody gives back: who took them, told once each; no clock, no pool.

A connection that is forgotten, or held while its holder waits for something else (a call, a lock, a sleep), is missing
to all others, and when the last one is gone the service stands still with an idle database. Then it is too late to ask
who has them. So each is noted with the place in the code that took it, and told when it has been held for `after`
seconds.

Noted are places alone, file, line and function, and no variable: values of variables are what customers entrusted.
"""

import sys
from types import FrameType
from typing import Final

MOST_FRAMES: Final = 12
"""Of the code that took a connection, the innermost ones."""
_SKIPPED: Final = ("/nova_data/pool/", "/nova_data/split/", "/nova_data/pool_guard.py", "/contextlib.py", "/asyncio/")
Frame = tuple[str, int, str]
"""A file, a line in it, the function."""


class Hold:
    """A connection that is in use. `since` and `told` are instants in seconds, `told` None until it was told."""

    __slots__ = ("frames", "since", "told")

    def __init__(self, since: float, frames: tuple[Frame, ...]) -> None:
        self.since = since
        self.frames = frames
        """Where it was taken, innermost first."""
        self.told: float | None = None

    @property
    def stack(self) -> str:
        """The frames in words, innermost first."""
        return " < ".join(f"{function} ({file}:{line})" for file, line, function in self.frames)

    def __repr__(self) -> str:
        return f"<Hold since={self.since:g} told={self.told is not None} frames={len(self.frames)}>"


class LeakWatch:
    """All connections of a pool that are in use. `after` in seconds, above 0. Every step is O(1) for each hold."""

    __slots__ = ("_told", "_young", "after", "leaks")

    def __init__(self, after: float) -> None:
        self.after = after
        self.leaks = 0
        """Connections that were told, since the start."""
        self._young: dict[Hold, None] = {}  # in the order in which they were taken, so the first is due first
        self._told: dict[Hold, None] = {}

    def took(self, now: float, frames: tuple[Frame, ...]) -> Hold:
        """A connection is in use; give it back with `gave_back`."""
        hold = Hold(now, frames)
        self._young[hold] = None
        return hold

    def gave_back(self, hold: Hold) -> None:
        """It is back."""
        self._young.pop(hold, None)
        self._told.pop(hold, None)

    def overdue(self, now: float) -> list[Hold]:
        """Those held for too long that were not told yet."""
        found: list[Hold] = []
        for hold in self._young:
            if now - hold.since < self.after:
                break
            hold.told = now
            found.append(hold)
        for hold in found:
            del self._young[hold]
            self._told[hold] = None
        self.leaks += len(found)
        return found

    def pause(self, now: float) -> float:
        """Seconds until one can be overdue at the earliest, whatever is taken meanwhile."""
        for hold in self._young:
            return max(0.0, hold.since + self.after - now)
        return self.after

    @property
    def missing(self) -> int:
        """Connections that were told and are not back."""
        return len(self._told)

    def __repr__(self) -> str:
        return f"<LeakWatch held={len(self._young) + len(self._told)} missing={self.missing} leaks={self.leaks}>"


def frames() -> tuple[Frame, ...]:
    """Where the caller is, without the frames of this package and of what calls it; about 2 µs."""
    found: list[Frame] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < MOST_FRAMES:
        code = frame.f_code
        if not any(part in code.co_filename for part in _SKIPPED):
            found.append((code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    return tuple(found)
