"""A queue in which tenants take turns by their weights, instead of whoever brings most being served most.

Start-time fair queueing with requests of one size: each flow has a tag, the virtual time at which its next waiter is
due, and whoever has the smallest tag goes next; its flow's next one is due 1 / weight later. A flow that was away
begins at the present virtual time: nobody saves up turns by being idle. Within a flow the order is that of arrival, so
with a single flow this is a plain queue.

A step takes time in the number of flows that wait, as a logarithm, however many waiters there are. Flows without
waiters are not kept.
"""

from collections import OrderedDict
from collections.abc import Hashable
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Final, Generic, TypeVar

W = TypeVar("W", bound=Hashable)

_SPARE: Final = 32
"""Entries of flows that have left, beyond as many as there are flows, after which they are swept out."""


class Flow:
    """Whose waiters take turns with others'; `weight` of its own go for one of a flow of weight 1."""

    __slots__ = ("weight",)

    def __init__(self, weight: int = 1) -> None:
        self.weight = weight


NOBODY: Final = Flow()
"""The flow of all who are not told apart."""


class _Lane(Generic[W]):
    """The waiters of a flow that has some."""

    __slots__ = ("flow", "waiters", "weight")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.weight = flow.weight
        self.waiters: OrderedDict[W, float] = OrderedDict()


class FairQueue(Generic[W]):
    """Waiters with the instant at which each gives up. See the module."""

    __slots__ = ("_due", "_lane_of", "_lanes", "_numbers", "_time", "_weights")

    def __init__(self) -> None:
        self._lanes: dict[Flow, _Lane[W]] = {}
        self._lane_of: dict[W, _Lane[W]] = {}
        self._due: list[tuple[float, int, _Lane[W]]] = []  # a heap; of equal tags the older one goes first
        self._numbers = count()
        self._time = 0.0
        self._weights = 0

    def put(self, waiter: W, until: float, flow: Flow = NOBODY) -> None:
        """Let it wait, behind the others of its flow."""
        lane = self._lanes.get(flow)
        if lane is None:
            lane = self._lanes[flow] = _Lane(flow)
            self._weights += lane.weight
            heappush(self._due, (self._time + 1 / lane.weight, next(self._numbers), lane))
        lane.waiters[waiter] = until
        self._lane_of[waiter] = lane

    def pop(self) -> tuple[W, float]:
        """Who goes next, and until when it would have waited. Raises IndexError when nobody waits."""
        while True:
            tag, _, lane = self._due[0]
            if lane.waiters:
                break
            heappop(self._due)
        self._time = tag
        waiter, until = lane.waiters.popitem(last=False)
        del self._lane_of[waiter]
        if lane.waiters:
            heapreplace(self._due, (tag + 1 / lane.weight, next(self._numbers), lane))
        else:
            heappop(self._due)
            self._leave(lane)
        return waiter, until

    def discard(self, waiter: W) -> bool:
        """It no longer waits; whether it did."""
        lane = self._lane_of.pop(waiter, None)
        if lane is None:
            return False
        del lane.waiters[waiter]
        if not lane.waiters:
            self._leave(lane)
            if len(self._due) > 2 * len(self._lanes) + _SPARE:
                self._due = [entry for entry in self._due if entry[2].waiters]
                heapify(self._due)
        return True

    def _leave(self, lane: _Lane[W]) -> None:
        del self._lanes[lane.flow]
        self._weights -= lane.weight
        if not self._lanes:
            self._due.clear()
            self._time = 0.0

    def waiting(self, flow: Flow) -> int:
        """Waiters of a flow."""
        lane = self._lanes.get(flow)
        return 0 if lane is None else len(lane.waiters)

    def ahead(self, flow: Flow) -> int:
        """About how many go before one more of this flow."""
        lane = self._lanes.get(flow)
        if lane is None:
            own, weight, weights = 0, flow.weight, self._weights + flow.weight
        else:
            own, weight, weights = len(lane.waiters), lane.weight, self._weights
        return min(len(self), (own + 1) * weights // weight - 1)

    def __len__(self) -> int:
        return len(self._lane_of)

    def __repr__(self) -> str:
        return f"<FairQueue {len(self)} of {len(self._lanes)} flows>"
