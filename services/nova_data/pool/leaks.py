"""Connections that nobody gives back: who took them, told once each; no clock, no pool.

A connection that is forgotten, or held while its holder waits for something else (a call, a lock, a sleep), is missing
to all others, and when the last one is gone the service stands still with an idle database. Then it is too late to ask
who has them. So each is noted with the place in the code that took it, and told when it has been held for `after`
seconds.

Noted are places alone, file, line and function, and no variable: values of variables are what customers entrusted.
"""

import sys
from types import CodeType, FrameType
from typing import Final

MOST_FRAMES: Final = 12
"""Of the code that took a connection, the innermost ones."""
_MOST_CALLS: Final = 64
"""Frames that are looked at for them."""
_SKIPPED: Final = ("/nova_data/pool/", "/nova_data/split/", "/nova_data/pool_guard.py", "/contextlib.py", "/asyncio/")
Frame = tuple[str, int, str]
"""A file, a line in it, the function."""
Call = tuple[CodeType, int]
"""A function and how far it has come; which line that is, is looked up for what is told alone."""


class Hold:
    """A connection that is in use. `since` and `told` are instants in seconds, `told` None until it was told."""

    __slots__ = ("_calls", "since", "told")

    def __init__(self, since: float, calls: tuple[Call, ...]) -> None:
        self.since = since
        self.told: float | None = None
        self._calls = calls

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Where it was taken, innermost first, without what stands between the app and its pool."""
        own = ((code, at) for code, at in self._calls if not any(part in code.co_filename for part in _SKIPPED))
        return tuple((code.co_filename, _line(code, at), code.co_qualname) for code, at in own)[:MOST_FRAMES]

    @property
    def stack(self) -> str:
        """The frames in words, innermost first."""
        return " < ".join(f"{function} ({file}:{line})" for file, line, function in self.frames)

    def __repr__(self) -> str:
        return f"<Hold since={self.since:g} told={self.told is not None}>"


class LeakWatch:
    """All connections of a pool that are in use. `after` in seconds, above 0. Every step is O(1) for each hold."""

    __slots__ = ("_told", "_young", "after", "leaks")

    def __init__(self, after: float) -> None:
        self.after = after
        self.leaks = 0
        """Connections that were told, since the start."""
        self._young: dict[Hold, None] = {}  # in the order in which they were taken, so the first is due first
        self._told: dict[Hold, None] = {}

    def took(self, now: float, calls: tuple[Call, ...]) -> Hold:
        """A connection is in use; give it back with `gave_back`."""
        hold = Hold(now, calls)
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
            return max(0.0, self.after - (now - hold.since))  # 0 exactly where `overdue` finds it
        return self.after

    @property
    def missing(self) -> int:
        """Connections that were told and are not back."""
        return len(self._told)

    def __repr__(self) -> str:
        return f"<LeakWatch held={len(self._young) + len(self._told)} missing={self.missing} leaks={self.leaks}>"


def calls() -> tuple[Call, ...]:
    """Where the caller is; one short step for each frame, since this is done for every connection."""
    found: list[Call] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < _MOST_CALLS:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def _line(code: CodeType, at: int) -> int:
    """The line of an instruction."""
    return next((line or 0 for start, end, line in code.co_lines() if start <= at < end), code.co_firstlineno)
