"""Connections to one upstream: which one carries the next request. Decides at once and returns what to do.

Rules:

* Endpoints take turns (RoundRobin), or the one whose turn it is is held against another drawn at random, and the less
  busy of the two is taken (LeastRequest). Comparing two and not all costs O(1) and avoids the herd: where everybody
  sends to the one that is least busy of all, it is least busy no more when the requests arrive (Mitzenmacher, The power
  of two choices in randomized load balancing, 2001).
* The chosen endpoint gives its most recently used idle connection, or gets a new one; the idle connections of others
  are only used when no further connection may be opened.
* Ejected endpoints are not chosen (policy.ejection), and their connections are closed as they come back.
* `size` bounds what is open or being opened. Beyond it, callers wait in order; a connection that comes free goes
  straight to the first of them.
* Every step is O(1) in connections and endpoints, except taking over a new set of endpoints. Where there are many
  endpoints (`crowded`), the seats that got an idle connection back are noted, so that none is looked for in vain.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, Final, Generic, Protocol, TypeVar

from nova_api.policies import EndpointBreakerPolicy, PoolPolicy
from nova_sidecar.policy.ejection import Ejector
from nova_sidecar.policy.outcome import Outcome
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.transport.endpoints import Endpoint
from nova_sidecar.transport.seat import CloseReason, Seat

W = TypeVar("W")
C = TypeVar("C", bound="Pooled")

NO_EJECTION: Final = EndpointBreakerPolicy(mode="Off")
CROWD: Final = 16
"""Endpoints that are looked through one by one for an idle connection when the pool is full."""
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

    __slots__ = (
        "_at", "_least", "_policy", "_ring", "_rng", "_seats", "crowded", "ejector", "lifespan", "open", "queue",
        "spare",
    )  # fmt: skip

    def __init__(
        self, policy: PoolPolicy, lifespan: Lifespan, rng: Random, endpoints: EndpointBreakerPolicy = NO_EJECTION
    ) -> None:
        # for the life of the pool
        self.lifespan = lifespan
        self._rng = rng
        self.ejector: Ejector[Seat[C]] = Ejector(endpoints)
        self.queue: deque[W] = deque()
        self.open = 0
        """Connections open or being opened."""
        # until the next configuration
        self._policy = policy
        self._least = policy.balance == "LeastRequest"
        # until the next change of the endpoints
        self._ring: list[Seat[C]] = []
        self._seats: dict[Endpoint, Seat[C]] = {}
        self._at = 0
        self.crowded = False
        self.spare: dict[Seat[C], None] = {}
        """Where `crowded`: seats that got a connection back, the last at the end; theirs may be in use again."""

    # --- asking for a connection

    def checkout(self, avoid: Seat[C] | None = None) -> C | Seat[C] | None:
        """A connection to use now, or a seat to open one in (it counts already), or None: wait.

        `avoid` is not chosen while there is another. Where `out` says so, call `readmit` first.
        """
        ring = self._ring
        if len(ring) == 1:
            seat = ring[0]
        elif ring:
            seat = self._choose(ring, avoid)
        else:
            return None
        while seat.idle:
            connection = seat.idle.popitem()[0]
            if not connection.close_reason:
                return connection
        if self.open < self._policy.size:
            self.open += 1
            seat.open += 1
            return seat
        return self._any_idle()

    def _choose(self, ring: list[Seat[C]], avoid: Seat[C] | None) -> Seat[C]:
        """One of two endpoints or more."""
        size = len(ring)
        at = self._at + 1
        if at >= size:
            at = 0
        self._at = at
        seat = ring[at]
        if self._least:
            other = ring[(at + 1 + int(self._rng.random() * (size - 1))) % size]
            if other.open - len(other.idle) < seat.open - len(seat.idle):  # `active`, without the price of a call
                seat, other = other, seat
            return other if seat is avoid else seat
        return ring[(at + 1) % size] if seat is avoid else seat

    def _any_idle(self) -> C | None:
        if not self.crowded:
            return next((found for seat in self._ring if (found := _last_used(seat))), None)
        while self.spare:
            seat = self.spare.popitem()[0]
            found = _last_used(seat)
            if found is not None:
                self.spare[seat] = None
                return found
        return None

    def reserve(self) -> Seat[C] | None:
        """A seat for one more connection, whether idle ones are there or not (it counts already); None: no room."""
        ring = self._ring
        if not ring or self.open >= self._policy.size:
            return None
        return self._take(ring[0] if len(ring) == 1 else self._choose(ring, None))

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
        seat = connection.seat
        if seat.taken_away or (seat.ejected and self.ejector.acts(seat)):
            return "removed" if seat.taken_away else "ejected"
        if connection.requests >= self.lifespan.max_requests:
            return "requests"
        if now >= connection.retire_at and self.lifespan.may_retire(now, self.open):
            return "age"
        return None

    def put(self, connection: C) -> None:
        """Keep an idle connection."""
        connection.seat.idle[connection] = None
        if self.crowded:
            self.spare[connection.seat] = None

    def forget(self, connection: C) -> None:
        """A connection is closed."""
        connection.seat.idle.pop(connection, None)
        self.drop(connection.seat)

    def drop(self, seat: Seat[C]) -> None:
        """A connection that counted is gone, or was never made."""
        self.open -= 1
        seat.open -= 1

    # --- what is known of endpoints

    @property
    def out(self) -> bool:
        """Whether an endpoint is ejected, and may have to be let back in."""
        return bool(self.ejector.out)

    def readmit(self, now: float) -> None:
        """Let endpoints back in whose time is over."""
        self.ejector.readmit(now)
        self._ring = self.ejector.ring

    def judge(self, seat: Seat[C], outcome: Outcome, now: float) -> list[C]:
        """Take the outcome of an attempt at an endpoint, connecting included; returns idle connections to be closed.

        A success of a seat without `failures` need not be told.
        """
        if not self.ejector.record(seat, outcome, now):
            return []
        self._ring = self.ejector.ring
        return list(seat.idle) if self.ejector.acts(seat) else []

    # --- configuration

    def configure(self, policy: PoolPolicy, endpoints: EndpointBreakerPolicy = NO_EJECTION) -> None:
        """Take over new policies. Connections beyond a smaller size leave as they finish."""
        self._policy = policy
        self._least = policy.balance == "LeastRequest"
        self.lifespan.configure(policy)
        self.ejector.configure(endpoints)
        self._ring = self.ejector.ring

    def replace_endpoints(self, endpoints: Iterable[Endpoint]) -> list[C]:
        """Take over a set of endpoints; returns the idle connections to those that are gone, to be closed."""
        seats = {endpoint: self._seats.get(endpoint) or Seat[C](endpoint) for endpoint in endpoints}
        gone: list[C] = []
        for seat in self._seats.values():
            if seat.endpoint not in seats:
                seat.taken_away = True
                gone += seat.idle
        if not self._ring and seats:
            self._at = int(self._rng.random() * len(seats))  # else all sidecars would begin with the same endpoint
        self._seats = seats
        self.crowded = len(seats) > CROWD
        self.spare = {seat: None for seat in seats.values() if seat.idle} if self.crowded else {}
        self.ejector.replace(seats.values())
        self._ring = self.ejector.ring
        return gone

    @property
    def endpoints(self) -> list[Endpoint]:
        """All endpoints."""
        return list(self._seats)

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self.queue)

    @property
    def idle(self) -> int:
        """Idle connections."""
        return sum(len(seat.idle) for seat in self._seats.values())

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        self.readmit(now)
        idle = self.idle
        return {
            "size": self._policy.size,
            "open": self.open,
            "idle": idle,
            "active": self.open - idle,
            "waiting": len(self.queue),
            "endpoints": [self._shown(seat, now) for seat in self._seats.values()],
            "ejection": self.ejector.snapshot(),
        }

    def _shown(self, seat: Seat[C], now: float) -> dict[str, Any]:
        return {
            "address": f"{seat.endpoint[0]}:{seat.endpoint[1]}",
            "open": seat.open,
            "idle": len(seat.idle),
            **self.ejector.shown(seat, now),
        }

    def __repr__(self) -> str:
        return f"<Pool open={self.open} idle={self.idle} waiting={len(self.queue)}>"


def _last_used(seat: Seat[C]) -> C | None:
    """The most recently used idle connection of an endpoint, taken out."""
    while seat.idle:
        connection = seat.idle.popitem()[0]
        if not connection.close_reason:
            return connection
    return None
