"""How old an answer may be: whether it is served as it is, served and loaded anew, or gone. No clock, no loop.

    loaded ──── fresh ────▶ ttl ──── stale ────▶ ttl + stale ──▶ gone
                 served           served, and loaded
                                  anew behind it

So nobody ever gets an answer older than `ttl + stale`, whatever fails. An answer that says there is nothing is kept for
`negative_ttl` and never stale: what was missing is created one day, and should then be found.

When a popular answer expires, all who want it would load it in the same moment, in every process. Within one process
they share one load; between processes each loads anew with a probability that grows towards the end (`early`), so that
mostly one of them does, before it expires: "Optimal Probabilistic Cache Stampede Prevention" (Vattani, Chierichetti,
Lowenstein, VLDB 2015). A load that took longer begins earlier.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, log
from random import Random
from typing import Any, Final

PAUSE: Final = 1.0
"""Seconds between two attempts to load a stale answer anew when that fails."""


class State(StrEnum):
    """What an answer is good for."""

    FRESH = "fresh"
    STALE = "stale"
    GONE = "gone"


class Entry:
    """An answer; `loaded` and `again` are instants and `cost` is how long the load took, in seconds."""

    __slots__ = ("again", "cost", "loaded", "value")

    def __init__(self, value: Any, loaded: float, cost: float = 0.0) -> None:
        self.value = value
        """None says that there is nothing."""
        self.loaded = loaded
        self.cost = cost
        self.again = loaded
        """Before this instant it is not loaded anew: somebody does it, or has just failed to."""

    def __repr__(self) -> str:
        return f"<Entry loaded={self.loaded:g} absent={self.value is None}>"


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """Seconds; `early` is how eagerly answers are loaded before they expire, from 0, at which none is.

    Raises ValueError, with field and rule, for others.
    """

    ttl: float
    stale: float = 0.0
    negative_ttl: float = 1.0
    early: float = 1.0

    def __post_init__(self) -> None:
        if not (self.ttl > 0 and isfinite(self.ttl)):
            raise ValueError(f"ttl: expected seconds above 0, got {self.ttl}")
        for field in ("stale", "negative_ttl", "early"):
            if not (getattr(self, field) >= 0 and isfinite(getattr(self, field))):
                raise ValueError(f"{field}: expected a number from 0, got {getattr(self, field)}")

    def lifetime(self, *, absent: bool) -> float:
        """Seconds after which an answer is gone."""
        return self.negative_ttl if absent else self.ttl + self.stale

    def state(self, entry: Entry, now: float, random: Random) -> State:
        """What an answer is good for now; a stale one is served, and loaded anew."""
        age = now - entry.loaded
        if age >= self.lifetime(absent=entry.value is None):
            return State.GONE
        if entry.value is None or now < entry.again:
            return State.FRESH
        gap = -log(1.0 - random.random()) * entry.cost * self.early
        return State.FRESH if age + gap < self.ttl else State.STALE
