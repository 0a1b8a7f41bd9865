"""What the two versions did in a step: sums of differences of their sidecars' counters.

Counters count since the process began. A pod that is seen for the first time says where it begins; one whose counters
fell was restarted, and all it says now is new.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from nova_operator.sidecars import Traffic

Track = Literal["stable", "canary"]


class Figures(msgspec.Struct, frozen=True):
    """Requests to one version."""

    requests: int = 0
    failed: int = 0
    bounds: tuple[float, ...] = ()
    """Upper bounds of the durations, in seconds, rising."""

    durations: tuple[int, ...] = ()
    """Requests by duration, one count for each bound and one for what is longer; not cumulated. Fewer in sum than
    `requests`: upgrades have none, and a new leader knows only the other sums of the one before."""

    def plus(self, other: Figures) -> Figures:
        """Both together. Durations with other bounds, those of another version of the sidecar, are left out."""
        bounds = self.bounds or other.bounds
        parts = [one.durations for one in (self, other) if one.bounds == bounds]
        durations = tuple(sum(counts) for counts in zip(*parts, strict=True))
        return Figures(self.requests + other.requests, self.failed + other.failed, bounds, durations)

    def longer_than(self, bound: float) -> int:
        """Requests that took longer than one of the bounds."""
        return sum(self.durations[self.bounds.index(bound) + 1 :])


class Evidence:
    """The figures of one step. `begin` tells which; a new one starts with nothing."""

    __slots__ = ("_figures", "_last", "_step")

    def __init__(self) -> None:
        self._step: object = None
        self._last: dict[str, Figures] = {}
        self._figures: dict[Track, Figures] = {"stable": Figures(), "canary": Figures()}

    def __repr__(self) -> str:
        return f"<Evidence {self._step} {self._figures}>"

    def begin(self, step: object, stable: Figures, canary: Figures) -> None:
        """Start anew where this is another step than before, from figures that were written down of it."""
        if step != self._step:
            self._step = step
            self._figures = {"stable": stable, "canary": canary}

    def take(self, counters: Iterable[tuple[str, Track | None, Traffic]]) -> None:
        """Count what is new: the sidecars' counters by pod uid, with the version that the pod runs."""
        seen: dict[str, Figures] = {}
        for uid, track, traffic in counters:
            now = Figures(traffic.requests, traffic.failed, traffic.bounds, traffic.durations)
            before = self._last.get(uid)
            seen[uid] = now
            if before is not None and track is not None:
                self._figures[track] = self._figures[track].plus(_difference(before, now))
        self._last = seen

    def of(self, track: Track) -> Figures:
        """The sum so far."""
        return self._figures[track]


def _difference(before: Figures, now: Figures) -> Figures:
    known = before.durations if before.bounds == now.bounds else ()
    durations = tuple(new - old for new, old in zip(now.durations, known, strict=False))
    requests, failed = now.requests - before.requests, now.failed - before.failed
    if min(requests, failed, *durations) < 0 or not durations:
        return Figures(now.requests, min(now.failed, now.requests), now.bounds, now.durations)
    return Figures(requests, min(failed, requests), now.bounds, durations)  # a share above 1 has no bounds (`judge`)
