"""How long a lock is waited for, how long it is held, and when it is tried again. Pure: no clock, no database.

A statement that waits for a strong lock makes everybody wait who comes after it, even those that the holder of the lock
would let pass: PostgreSQL's queue is in order of arrival. One long transaction of somebody else is so enough to stop a
table. So:

* A lock is waited for `lock_timeout`, and then given up, which lets the queue behind it go on.
* It is tried again after a pause, longer each time, and with jitter, so that it does not fall into step with whatever
  takes the lock at a rhythm.
* Once a lock that holds up traffic is had, the transaction must end within `hold`; what takes longer is rolled back.
* All tries together take `timeout` at most.
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from nova_data.backoff import Backoff

PAUSES: Final = Backoff(base=0.5, longest=15.0)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, all above 0. `hold` counts from the statement that takes the first lock that holds up traffic,
    the wait for it included."""

    lock_timeout: float = 0.5
    hold: float = 5.0
    timeout: float = 600.0

    def __post_init__(self) -> None:
        """Raises ValueError naming the time that is wrong."""
        for name in ("lock_timeout", "hold", "timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected a {name} above 0 s, got {getattr(self, name)}")

    def pause(self, tries: int, elapsed: float, random: Random) -> float | None:
        """Seconds until the next try, after so many that did not get the lock (from 1) and so many seconds; None when
        it is time to give up."""
        pause = PAUSES.wait(tries, random)
        return pause if elapsed + pause + self.lock_timeout < self.timeout else None

    def left(self, elapsed: float) -> float:
        """Seconds that are left of all; at least a moment, since a bound of 0 means none to PostgreSQL."""
        return max(0.001, self.timeout - elapsed)
