"""Of rounds: where one begins, whether there is more, and whom to blame; without a clock, a database or a broker."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from math import inf
from typing import Final

from nova_data.outbox.event import Event
from nova_data.outbox.publisher import Outcome

LAG: Final = 10.0
"""Seconds that a position must have been behind the rounds, at least, to be below a floor."""
MOST_REACHED: Final = 4096
"""Rounds that are remembered, however long a transaction is open; each further one is joined to the last of them."""


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
    """Where rounds begin: by slot, a position up to which everything is settled.

    A position that a round has reached is below a floor once `LAG` seconds are over, every transaction has ended that
    may have drawn an earlier one (`writing`), and a round after that has read from below it. Else an event whose
    transaction took long would be passed over, and the next one of its aggregate sent before it.
    """

    def __init__(self) -> None:
        self._floors: dict[int, int] = {}
        self._reached: deque[tuple[float, dict[int, int]]] = deque()
        self._sweep_at = 0.0
        self._looked = -inf
        self._writers: dict[str, float] = {}
        """Who writes, and an instant at which they had not begun to."""

    def own(self, slots: set[int]) -> None:
        """These are the slots; a new one begins at the beginning."""
        self._floors = {slot: self._floors.get(slot, 0) for slot in slots}

    def writing(self, transactions: Iterable[str], now: float) -> None:
        """These have written and not ended, at the instant of the question."""
        self._writers = {one: self._writers.get(one, self._looked) for one in transactions}
        self._looked = now

    def now(self, now: float) -> dict[int, int]:
        """Where a round of this instant begins."""
        if now >= self._sweep_at:
            self._sweep_at = now + LAG
            return dict.fromkeys(self._floors, 0)
        return self._floors

    def reached(self, events: Sequence[Event], now: float, *, complete: bool) -> None:
        """A round of this instant found and sent these, `complete` where all of them are settled."""
        if not complete:
            return
        last = {event.slot: event.position for event in events}
        if last:
            former = self._reached.pop()[1] if len(self._reached) == MOST_REACHED else {}
            self._reached.append((now, former | last))
        before = min(self._writers.values(), default=inf)
        while self._reached and self._reached[0][0] <= now - LAG and self._reached[0][0] < before:
            self._raise(self._reached.popleft()[1], last)

    def _raise(self, positions: Mapping[int, int], last: Mapping[int, int]) -> None:
        """No higher than the round came that has just ended: what is beyond may wait there."""
        for slot, position in positions.items():
            if slot in self._floors:
                self._floors[slot] = max(self._floors[slot], min(position, last.get(slot, position)))

    def rewind(self) -> None:
        """Something earlier is still to be sent: the next round begins at the beginning."""
        self._reached.clear()
        self._floors = dict.fromkeys(self._floors, 0)
