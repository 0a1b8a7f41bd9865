"""Identical requests that are under way at once share one call to the app.

    first ──────── leads ──────▶ app ──── head ──▶ all who follow get the same response, as it comes
    second, third ─ follow ───── wait ──────┘

The first request of its kind leads: it goes to the app as if nobody followed. The others wait for the head of its
response. From that moment the flight is over: a request that comes later leads a new one, so nobody gets a response
that was begun before it asked for it by more than one call.

What happens to the leader must not happen to those who follow:

* It fails, or its client leaves: the first of those who follow leads in its place. When that fails too, all who are
  left go by themselves: they must not wait one after the other for the same error.
* It is slow: after each `patience` one more of them goes as well; whichever call has a head first ends the waiting. So
  a call that hangs holds nobody up for long, and an app that is slow gets one call more per `patience`, not a herd.
* Its response turns out to be one client's alone: all go by themselves, and for `REMEMBER` seconds requests like it do
  not wait again.
"""

from collections import OrderedDict
from collections.abc import Hashable
from enum import StrEnum
from math import inf
from typing import Final, Generic, TypeVar

M = TypeVar("M", bound=Hashable)

FAILURES: Final = 2
"""Calls of one flight that may fail before everybody goes alone."""
REMEMBER: Final = 10.0
"""Seconds for which a kind of request whose responses cannot be shared is not made to wait."""
REMEMBERED: Final = 1024
"""Such kinds, at most."""


class Shared(StrEnum):
    """What became of a request; the value is what people see in metrics."""

    LED = "led"  # it went to the app, and others could follow
    FOLLOWED = "followed"  # it got the response of another's call
    PROMOTED = "promoted"  # it waited, and then went to the app for all who still waited
    ALONE = "alone"  # it waited, and then went by itself: the response was not to be shared, or too many failed
    FULL = "full"  # too many waited already
    CUT = "cut"  # it read a shared response too slowly for the others
    WOULD_FOLLOW = "would_follow"  # Shadow


class Flight(Generic[M]):
    """One kind of request under way: who asks the app, and who waits."""

    __slots__ = ("due", "failures", "followers", "key", "leaders")

    def __init__(self, key: bytes, leader: M) -> None:
        self.key = key
        self.leaders: dict[M, None] = {leader: None}
        self.followers: dict[M, None] = {}
        """In the order in which they came."""
        self.failures = 0
        self.due = inf
        """When one more of them goes; infinite while nobody waits."""

    def __repr__(self) -> str:
        return f"<Flight {len(self.leaders)} lead, {len(self.followers)} follow>"


class Flights(Generic[M]):
    """All flights of a port. `patience` in seconds; `most` bounds those who wait in one flight."""

    __slots__ = ("_by_key", "_most", "_patience", "_unshareable")

    def __init__(self, patience: float, most: int) -> None:
        self._by_key: dict[bytes, Flight[M]] = {}
        self._unshareable: OrderedDict[bytes, float] = OrderedDict()
        self.configure(patience, most)

    def configure(self, patience: float, most: int) -> None:
        """Take over other bounds; who waits goes on waiting by the old ones until then."""
        self._patience = patience
        self._most = most

    def enter(self, key: bytes, member: M, now: float) -> tuple[Flight[M] | None, Shared]:
        """A request comes. With LED and FOLLOWED it is a member of the flight, with ALONE and FULL of none."""
        flight = self._by_key.get(key)
        if flight is not None:
            if len(flight.followers) >= self._most:
                return None, Shared.FULL
            if not flight.followers:
                flight.due = now + self._patience
            flight.followers[member] = None
            return flight, Shared.FOLLOWED
        until = self._unshareable.get(key)
        if until is not None:
            if now < until:
                return None, Shared.ALONE
            del self._unshareable[key]
        self._by_key[key] = flight = Flight(key, member)
        return flight, Shared.LED

    def next_due(self, flight: Flight[M], now: float) -> M | None:
        """Who goes to the app in addition, since those who went are slow; None while that is not due."""
        if now < flight.due:
            return None
        return self._promote(flight, now)

    def failed(self, flight: Flight[M], leader: M, now: float) -> list[M]:
        """A leader has no response to share, or left. Who goes now: one in its place, which leads, or all; `flight` is
        over when it has no leader any more."""
        flight.leaders.pop(leader, None)
        flight.failures += 1
        if flight.failures >= FAILURES:
            return self.close(flight)
        if flight.leaders:
            return []
        promoted = self._promote(flight, now)
        if promoted is None:
            self._remove(flight)
            return []
        return [promoted]

    def left(self, flight: Flight[M], leader: M, now: float) -> list[M]:
        """A leader's client has gone: nothing of the app's doing. Who goes in its place."""
        flight.failures -= 1
        return self.failed(flight, leader, now)

    def abandon(self, flight: Flight[M], follower: M) -> None:
        """One who waits has gone."""
        flight.followers.pop(follower, None)
        if not flight.followers:
            flight.due = inf

    def close(self, flight: Flight[M]) -> list[M]:
        """The waiting is over: a head has come. Those who waited, no members any more."""
        self._remove(flight)
        waiting = list(flight.followers)
        flight.followers.clear()
        flight.leaders.clear()
        flight.due = inf
        return waiting

    def remember(self, key: bytes, now: float) -> None:
        """Responses to this kind of request cannot be shared."""
        self._unshareable[key] = now + REMEMBER
        self._unshareable.move_to_end(key)
        if len(self._unshareable) > REMEMBERED:
            self._unshareable.popitem(last=False)

    def _promote(self, flight: Flight[M], now: float) -> M | None:
        for first in flight.followers:
            del flight.followers[first]
            flight.leaders[first] = None
            flight.due = now + self._patience if flight.followers else inf
            return first
        return None

    def _remove(self, flight: Flight[M]) -> None:
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]

    def __len__(self) -> int:
        return len(self._by_key)

    def __repr__(self) -> str:
        return f"<Flights {len(self)}>"
