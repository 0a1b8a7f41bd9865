"""Which partitions the outbox should have: policy alone, without a clock or a database.

A partition holds the events of one day in UTC. They are made `ahead` days before they are needed, and may go `keep`
days after they ended, if nothing in them waits: what was not published is never dropped, however old it is.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

KEEP: Final = 7
AHEAD: Final = 7
_NAME: Final = re.compile(r"outbox_events_p(\d{4})(\d{2})(\d{2})")


@dataclass(frozen=True)
class Partition:
    """The events of a day."""

    day: date

    @property
    def name(self) -> str:
        """Of its table."""
        return f"outbox_events_p{self.day:%Y%m%d}"

    @property
    def begin(self) -> str:
        """The first instant in it, as PostgreSQL reads it."""
        return f"{self.day:%Y-%m-%d} 00:00:00+00"

    @property
    def end(self) -> str:
        """The first instant after it."""
        return f"{self.day + timedelta(days=1):%Y-%m-%d} 00:00:00+00"

    @classmethod
    def named(cls, name: str) -> "Partition | None":
        """The partition whose table is called so; None where it is none of ours."""
        match = _NAME.fullmatch(name)
        try:
            return cls(date(*map(int, match.groups()))) if match else None
        except ValueError:
            return None


def wanted(now: datetime, ahead: int = AHEAD) -> Sequence[Partition]:
    """The partitions of today and of `ahead` days (from 0) after it."""
    today = now.astimezone(UTC).date()
    return [Partition(today + timedelta(days=days)) for days in range(ahead + 1)]


def missing(now: datetime, there: Collection[str], ahead: int = AHEAD) -> Sequence[Partition]:
    """Those that are still to be made; `there` has the names of the tables that exist."""
    return [partition for partition in wanted(now, ahead) if partition.name not in there]


def over(now: datetime, there: Collection[str], keep: float = KEEP) -> Sequence[Partition]:
    """Those that ended more than `keep` days ago, oldest first."""
    last = now.astimezone(UTC) - timedelta(days=keep)
    known = (Partition.named(name) for name in sorted(there))
    return [
        one
        for one in known
        if one and datetime(one.day.year, one.day.month, one.day.day, tzinfo=UTC) + timedelta(days=1) <= last
    ]
