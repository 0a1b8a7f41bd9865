"""Of rounds: where one begins, whether there is more, and whom to blame; without a clock, a database or a broker."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final

from nova_data.outbox.event import Event
from nova_data.outbox.publisher import Outcome

LAG: Final = 10.0
"""Seconds that a position must have been behind the rounds, to be below a floor."""


class Found(Enum):
    """What a round found."""

    NOTHING = auto()
    ALL = auto()
    """All there was."""
    MORE = auto()
    """As much as it takes: there is more."""


def found(events: Sequence[Event], limit: int) -> Found:
    """What a round of these events found, which took at most `limit` of each slot."""
    if not events:
        return Found.NOTHING
    return Found.MORE if max(Counter(event.slot for event in events).values()) >= limit else Found.ALL


def first_failures(events: Sequence[Event], outcomes: Mapping[int, Outcome]) -> list[tuple[Event, Outcome]]:
    """Of each aggregate the first event that Kafka has not, with its error where there is one. Later ones are not
    looked at: to try one of them before it would turn the order round."""
    first: dict[tuple[str, str], tuple[Event, Outcome]] = {}
    for event in events:
        arrived = event.position in outcomes and outcomes[event.position] is None
        if not arrived:
            first.setdefault(event.aggregate, (event, outcomes.get(event.position)))
    return list(first.values())


class Floors:
    """Where rounds begin: by slot, a position up to which everything was settled `LAG` seconds ago or more."""

    def __init__(self) -> None:
        self._floors: dict[int, int] = {}
        self._reached: deque[tuple[float, dict[int, int]]] = deque()
        self._sweep_at = 0.0

    def own(self, slots: set[int]) -> None:
        """These are the slots; a new one begins at the beginning."""
        self._floors = {slot: self._floors.get(slot, 0) for slot in slots}

    def now(self, now: float) -> dict[int, int]:
        """Where a round of this instant begins."""
        while self._reached and self._reached[0][0] <= now - LAG:
            for slot, position in self._reached.popleft()[1].items():
                if slot in self._floors:
                    self._floors[slot] = max(self._floors[slot], position)
        if now >= self._sweep_at:
            self._sweep_at = now + LAG
            return dict.fromkeys(self._floors, 0)
        return self._floors

    def reached(self, events: Sequence[Event], now: float, *, complete: bool) -> None:
        """A round of this instant sent these, `complete` where all of them are settled."""
        if complete:
            self._reached.append((now, {event.slot: event.position for event in events}))

    def rewind(self) -> None:
        """Something earlier is still to be sent: the next round begins at the beginning."""
        self._reached.clear()
        self._floors = dict.fromkeys(self._floors, 0)
