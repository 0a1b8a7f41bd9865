"""How much of the time may be spent on computing ahead, by the hour of the day. No clock.

Nobody waits for what is computed ahead, so it takes what others leave: after each piece of work a pause, by which work
has its share and no more, a small one while most people are there.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Shares of the time, above 0 and at most 1; `peak` are hours of the day in UTC, from 0 to 23. Raises ValueError,
    with field and rule, for others."""

    share: float = 0.25
    peak_share: float = 0.05
    peak: frozenset[int] = frozenset(range(17, 22))

    def __post_init__(self) -> None:
        for field in ("share", "peak_share"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(f"{field}: expected above 0 and at most 1, got {getattr(self, field)}")
        if not self.peak <= set(range(24)):
            raise ValueError("peak: expected hours from 0 to 23")

    def pause(self, cost: float, hour: int) -> float:
        """Seconds to pause after work that took `cost` seconds."""
        share = self.peak_share if hour in self.peak else self.share
        return cost * (1 / share - 1)


def hours(text: str) -> frozenset[int]:
    """From ``17-22``, the end not included, ``22-2`` over midnight, or nothing for no hours. Raises ValueError."""
    if not text:
        return frozenset()
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and int(first) < 24 and int(last) <= 24):
        raise ValueError(f"expected hours such as 17-22, got {text!r}")
    begin, end = int(first), int(last)
    return frozenset(range(begin, end) if begin < end else [*range(begin, 24), *range(end)])
