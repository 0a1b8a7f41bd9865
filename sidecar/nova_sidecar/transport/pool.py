"""Connections to one upstream: which one carries the next request. Decides at once and returns what to do.

Rules:

* Endpoints take turns. The one whose turn it is gives its most recently used idle connection, or gets a new one; the
  idle connections of others are only used when no further connection may be opened.
* `size` bounds what is open or being opened. Beyond it, callers wait in order; a connection that comes free goes
  straight to the first of them.
* Every step is O(1) in connections and endpoints, except taking over a new set of endpoints, and looking for any idle
  connection when the pool is full.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from nova_api.policies import PoolPolicy
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.transport.endpoints import Endpoint
from nova_sidecar.transport.seat import CloseReason, Seat

W = TypeVar("W")
C = TypeVar("C", bound="Pooled")

LOOK_AHEAD: Final = 8
"""Endpoints looked at to find another one than those that did not answer."""


class Pooled(Protocol):
    """What the pool looks at in a connection."""

    seat: Any
    retire_at: float
    requests: int
    reusable: bool
    close_reason: CloseReason | None


class Pool(Generic[C, W]):
    """See the module. C is a connection, W whoever waits for one."""

    __slots__ = ("_at", "_policy", "_ring", "_seats", "lifespan", "open", "queue")

    def __init__(self, policy: PoolPolicy, lifespan: Lifespan) -> None:
        self._policy = policy
        self.lifespan = lifespan
        self._ring: list[Seat[C]] = []
        self._seats: dict[Endpoint, Seat[C]] = {}
        self._at = 0
        self.queue: deque[W] = deque()
        self.open = 0
        """Connections open or being opened."""

    # --- asking for a connection

    def checkout(self) -> C | Seat[C] | None:
        """A connection to use now, or a seat to open one in (it counts already), or None: wait."""
        ring = self._ring
        if not ring:
            return None
        at = self._at + 1
        if at >= len(ring):
            at = 0
        self._at = at
        seat = ring[at]
        while seat.idle:
            connection = seat.idle.popitem()[0]
            if not connection.close_reason:
                return connection
        if self.open < self._policy.size:
            self.open += 1
            seat.open += 1
            return seat
        return self._any_idle()

    def _any_idle(self) -> C | None:
        for seat in self._ring:
            while seat.idle:
                connection = seat.idle.popitem()[0]
                if not connection.close_reason:
                    return connection
        return None

    def reserve(self) -> Seat[C] | None:
        """A seat for one more connection, whether idle ones are there or not (it counts already); None: no room."""
        ring = self._ring
        if not ring or self.open >= self._policy.size:
            return None
        self._at = at = (self._at + 1) % len(ring)
        return self._take(ring[at])

    def another(self, tried: Sequence[Seat[C]]) -> Seat[C] | None:
        """A seat to open a connection in where those tried did not answer (it counts already), of the other family
        than the last one before others; None: there is none among the next few, or no room."""
        ring, size = self._ring, len(self._ring)
        if self.open >= self._policy.size:
            return None
        near = [ring[(self._at + step) % size] for step in range(1, min(size, LOOK_AHEAD) + 1)]
        fresh = [seat for seat in near if seat not in tried]
        if not fresh:
            return None
        family = ":" in tried[-1].endpoint[0]
        return self._take(next((seat for seat in fresh if (":" in seat.endpoint[0]) is not family), fresh[0]))

    def _take(self, seat: Seat[C]) -> Seat[C]:
        self.open += 1
        seat.open += 1
        return seat

    def wait(self, waiter: W) -> None:
        """Put a caller into the queue."""
        self.queue.append(waiter)

    def leave(self, waiter: W) -> bool:
        """Take a caller out of the queue; False when it was not in it."""
        try:
            self.queue.remove(waiter)
        except ValueError:
            return False
        return True

    def next_waiter(self) -> W | None:
        """The caller whose turn it is, taken out of the queue."""
        return self.queue.popleft() if self.queue else None

    # --- giving it back

    def retire(self, connection: C, now: float) -> CloseReason | None:
        """Why a connection that has finished a request must be closed; None when it is used further."""
        if not connection.reusable:
            return "peer"
        if connection.close_reason:
            return connection.close_reason
        if connection.seat.taken_away:
            return "removed"
        if connection.requests >= self.lifespan.max_requests:
            return "requests"
        if now >= connection.retire_at and self.lifespan.may_retire(now, self.open):
            return "age"
        return None

    def put(self, connection: C) -> None:
        """Keep an idle connection."""
        connection.seat.idle[connection] = None

    def forget(self, connection: C) -> None:
        """A connection is closed."""
        connection.seat.idle.pop(connection, None)
        self.drop(connection.seat)

    def drop(self, seat: Seat[C]) -> None:
        """A connection that counted is gone, or was never made."""
        self.open -= 1
        seat.open -= 1

    # --- configuration

    def configure(self, policy: PoolPolicy) -> None:
        """Take over a new policy. Connections beyond a smaller size leave as they finish."""
        self._policy = policy
        self.lifespan.configure(policy)

    def replace_endpoints(self, endpoints: Iterable[Endpoint]) -> list[C]:
        """Take over a set of endpoints; returns the idle connections to those that are gone, to be closed."""
        seats = {endpoint: self._seats.get(endpoint) or Seat[C](endpoint) for endpoint in endpoints}
        gone: list[C] = []
        for seat in self._seats.values():
            if seat.endpoint not in seats:
                seat.taken_away = True
                gone += seat.idle
        self._seats = seats
        self._ring = list(seats.values())
        return gone

    @property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints that take turns."""
        return [seat.endpoint for seat in self._ring]

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self.queue)

    @property
    def idle(self) -> int:
        """Idle connections."""
        return sum(len(seat.idle) for seat in self._ring)

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        idle = self.idle
        return {
            "size": self._policy.size,
            "open": self.open,
            "idle": idle,
            "active": self.open - idle,
            "waiting": len(self.queue),
            "endpoints": [
                {"address": f"{s.endpoint[0]}:{s.endpoint[1]}", "open": s.open, "idle": len(s.idle)} for s in self._ring
            ],
        }

    def __repr__(self) -> str:
        return f"<Pool open={self.open} idle={self.idle} waiting={len(self.queue)}>"
