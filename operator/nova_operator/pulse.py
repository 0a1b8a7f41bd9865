"""Whether the watches are alive: when each of them was last heard. Pure.

A watch that is quiet and one whose connection died silently look the same to whoever reads from it: a machine that
loses power sends no goodbye, nor does a firewall that forgets a connection. The API server sends a bookmark on every
watch about once a minute, so silence tells (allowWatchBookmarks,
https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks). Three things follow from it, one later
than the other: the watch is opened anew, the replica is no longer ready, the kubelet starts it anew.
"""

from __future__ import annotations

from typing import Final

SILENCE: Final = 70.0
"""Seconds without a word after which a watch is opened anew; bookmarks come every 60."""

UNREADY: Final = 1.6
DEAD: Final = 5.0
"""That many times as long, and the probes speak of it."""


class Pulse:
    """The watches of a replica by the path of their collection. Times in monotonic seconds."""

    def __init__(self, silence: float = SILENCE) -> None:
        self.silence = silence
        self._heard: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Pulse watches={len(self._heard)}>"

    def opened(self, watch: str, now: float) -> None:
        """A watch was opened; that it could be says nothing if it was open before and silent."""
        self._heard.setdefault(watch, now)

    def heard(self, watch: str, now: float) -> None:
        """Something came over a watch."""
        self._heard[watch] = now

    def begin(self) -> None:
        """All watches are set up anew, perhaps of other kinds."""
        self._heard.clear()

    def longest(self, now: float) -> float:
        """Seconds for which the most silent watch was not heard; 0 without any."""
        return max((now - heard for heard in self._heard.values()), default=0.0)

    def silent(self, now: float, times: float) -> str | None:
        """A watch that was not heard for so many times the silence that is normal, and for how long; None for none."""
        for watch, heard in self._heard.items():
            if now - heard > times * self.silence:
                return f"the watch of {watch} has been silent for {now - heard:.0f} s"
        return None
