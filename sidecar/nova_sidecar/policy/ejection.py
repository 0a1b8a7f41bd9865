"""Takes single endpoints of an upstream out of rotation, so that one bad pod does not open the whole breaker.

    serving ── failureThreshold consecutive failures ──▶ ejected
    ejected ── its time is over, on the next look ──▶ serving

A breaker sees the upstream as a whole. When one pod of ten fails, its share of failures is a tenth: the breaker stays
closed, as it should, and a tenth of the callers get errors. Judged endpoint by endpoint the bad one stands out after a
few requests. Requests that are sent anyway are the health check, so nothing is asked in addition.

Rules:

* An endpoint is out for ejectDuration times the number of times in a row, up to maxEjectDuration. It is in a row when
  it is ejected again within as long as it had been out.
* At most maxEjected of the endpoints are out at once, rounded down, but one at least where there are two or more: where
  all fail, it is not the endpoints. Of a single endpoint none is taken out. The breaker is there for both.
* Panic: where fewer than panicThreshold of the endpoints are left, or none, all of them are used. Those that are out
  stay so until their time is over; what happens to them in the meantime says nothing new and is not counted.
* Shadow runs the same machine and takes nothing out.
* Every step is O(1), except that the time at which endpoints come back is kept in a heap: O(log n) for an ejection, and
  taking over a new set of endpoints.
"""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from math import floor, inf
from typing import Any, Final, Generic, TypeVar

from nova_api.policies import EndpointBreakerPolicy
from nova_sidecar.policy.outcome import FAILURE, SUCCESS, Outcome

H = TypeVar("H", bound="Health")

_ROUNDING: Final = 1e-9
_GONE: Final = -1


class Health:
    """What is known of one endpoint. A success of one without `failures` needs no `record`."""

    __slots__ = ("back_at", "ejected", "ejections", "failures", "member", "out_for", "place", "row")

    def __init__(self) -> None:
        self.failures = 0
        """Consecutive ones."""
        self.ejected = False
        """Out now, or would be in Shadow."""
        self.ejections = 0
        """Times it was taken out, or would have been in Shadow."""
        self.back_at = -inf
        """The instant at which it comes, or came, back."""
        self.out_for = 0.0
        self.row = 0
        self.member = False
        self.place = _GONE  # among those that serve


class Ejector(Generic[H]):
    """The endpoints of one upstream. `ring` are those to choose from; it may be another list after every call."""

    __slots__ = (
        "_heap", "_most", "_policy", "_serving", "_turn", "ejections", "members", "on_change", "out", "panic", "ring",
        "would_eject",
    )  # fmt: skip

    def __init__(self, policy: EndpointBreakerPolicy) -> None:
        # for the life of the upstream
        self.on_change: list[Callable[[H], None]] = []
        """Called with an endpoint that was ejected or has come back; its `ejected` says which."""
        self.ejections = 0
        self.would_eject = 0
        """The same in Shadow."""
        # until the next configuration
        self._policy = policy
        self._most = 0
        # until the next set of endpoints
        self.members: list[H] = []
        self._serving: list[H] = []
        # until the next change
        self.ring: list[H] = self._serving
        self.out = 0
        """Endpoints that are out, or would be in Shadow."""
        self.panic = False
        self._heap: list[tuple[float, int, H]] = []
        self._turn = 0  # tells entries of the same instant apart

    def record(self, health: H, outcome: Outcome, now: float) -> bool:
        """Take the outcome of an attempt at an endpoint; True when that ejected it (in Shadow: would have)."""
        if outcome is SUCCESS:
            health.failures = 0
            return False
        if outcome is not FAILURE or health.ejected or not health.member or self._policy.mode == "Off":
            return False
        health.failures += 1
        if health.failures < self._policy.failure_threshold or self.out >= self._most:
            return False
        self._eject(health, now)
        return True

    def readmit(self, now: float) -> None:
        """Let those back in whose time is over. Worth a call only while some are `out`."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, health = heappop(heap)
            if health.ejected and health.back_at <= now:
                self._back(health)

    def replace(self, members: Iterable[H]) -> None:
        """Take over a set of endpoints; those that stay keep their state."""
        for health in self.members:
            health.member = False
        self.members = list(members)
        for health in self.members:
            health.member = True
        self._take_stock()

    def configure(self, policy: EndpointBreakerPolicy) -> None:
        """Take over a new policy. Whoever is out stays so for its time; in another mode all come back."""
        changed, self._policy = policy.mode != self._policy.mode, policy
        if changed:
            for health in self.members:
                if health.ejected:
                    self._back(health)
                health.failures = 0
        self._take_stock()

    @property
    def enforced(self) -> bool:
        """Whether it takes endpoints out."""
        return self._policy.mode == "Enforce"

    def acts(self, health: H) -> bool:
        """Whether an endpoint is kept from requests now."""
        return health.ejected and self.enforced and not self.panic

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "mode": self._policy.mode,
            "ejected": self.out if self.enforced else 0,
            "ejections": self.ejections,
            "wouldEject": self.would_eject,
            "panic": self.panic,
        }

    def shown(self, health: H, now: float) -> dict[str, Any]:
        """One endpoint, for the same."""
        return {
            "failures": health.failures,
            "ejected": health.ejected and self.enforced,
            "wouldBeEjected": health.ejected and not self.enforced,
            "ejections": health.ejections,
            "backIn": max(0.0, health.back_at - now) if health.ejected else None,
        }

    def __repr__(self) -> str:
        return f"<Ejector endpoints={len(self.members)} out={self.out}{' panic' if self.panic else ''}>"

    def _eject(self, health: H, now: float) -> None:
        policy = self._policy
        health.row = health.row + 1 if now - health.back_at <= health.out_for else 1
        health.out_for = min(policy.eject_duration * health.row, float(policy.max_eject_duration))
        health.back_at = now + health.out_for
        health.failures = 0
        health.ejected = True
        health.ejections += 1
        self.out += 1
        self._remember(health)
        if self.enforced:
            self.ejections += 1
            self._leave(health)
            self._choose_ring()
        else:
            self.would_eject += 1
        for listener in self.on_change:
            listener(health)

    def _back(self, health: H) -> None:
        health.ejected = False
        self.out -= 1
        if health.place == _GONE:
            health.place = len(self._serving)
            self._serving.append(health)
            self._choose_ring()
        for listener in self.on_change:
            listener(health)

    def _leave(self, health: H) -> None:
        """Out of those that serve; the last of them takes its place."""
        last = self._serving.pop()
        if last is not health:
            self._serving[health.place] = last
            last.place = health.place
        health.place = _GONE

    def _remember(self, health: H) -> None:
        self._turn += 1
        heappush(self._heap, (health.back_at, self._turn, health))

    def _take_stock(self) -> None:
        """Everything anew after a change of endpoints or of the policy."""
        out = [health for health in self.members if health.ejected]
        self.out = len(out)
        self._most = _most_ejected(self._policy.max_ejected, len(self.members))
        self._heap.clear()
        for health in out:
            self._remember(health)
        self._serving = [health for health in self.members if not (self.enforced and health.ejected)]
        for health in self.members:
            health.place = _GONE
        for place, health in enumerate(self._serving):
            health.place = place
        while self.out > self._most:
            self._back(heappop(self._heap)[2])
        self._choose_ring()

    def _choose_ring(self) -> None:
        few = len(self._serving) + _ROUNDING < self._policy.panic_threshold * len(self.members)
        self.panic = bool(self.members) and (few or not self._serving)
        self.ring = self.members if self.panic else self._serving


def _most_ejected(share: float, endpoints: int) -> int:
    """How many of so many endpoints may be out at once."""
    if endpoints < 2 or share <= 0:
        return 0
    return max(1, floor(share * endpoints + _ROUNDING))
