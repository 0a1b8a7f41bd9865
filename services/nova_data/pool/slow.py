"""Which slow statements are told, and how often: the decision alone, without a clock or a log.

When a database is overloaded every statement is slow, and a line for each of them is the next load. So statements that
differ in values alone are one, and each is told once in `EVERY` seconds, with how many there were since.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from nova_data.pool.statements import normalised

EVERY: Final = 10.0
"""Seconds between two lines of one statement."""
REMEMBERED: Final = 256
"""Statements that are told apart."""


@dataclass(frozen=True, kw_only=True)
class SlowStatement:
    """What is told: a statement without values, seconds, and how many of it were slow since it was told last."""

    statement: str
    seconds: float
    longest: float
    count: int


class _Seen:
    __slots__ = ("count", "longest", "told")

    def __init__(self, told: float) -> None:
        self.told = told
        self.count = 0
        self.longest = 0.0


class SlowLog:
    """All slow statements of a pool; `after` in seconds, above 0."""

    __slots__ = ("_seen", "after", "count")

    def __init__(self, after: float) -> None:
        self.after = after
        self.count = 0
        """Statements that were slow, since the start."""
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def record(self, statement: str, seconds: float, now: float) -> SlowStatement | None:
        """A statement was run: what is to be told of it, where it was slow and is due."""
        if seconds < self.after:
            return None
        self.count += 1
        text = normalised(statement)
        seen = self._seen.pop(text, None)
        due = seen is None or now - seen.told >= EVERY
        seen = seen or _Seen(now)
        self._seen[text] = seen
        seen.count += 1
        seen.longest = max(seen.longest, seconds)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if not due:
            return None
        told = SlowStatement(statement=text, seconds=seconds, longest=seen.longest, count=seen.count)
        seen.told, seen.count, seen.longest = now, 0, 0.0
        return told

    def __repr__(self) -> str:
        return f"<SlowLog after={self.after:g} statements={len(self._seen)} count={self.count}>"
