"""A concurrency limiter: overload is refused at the door, so that what is let in stays fast.

The limit is maxConcurrency, or what an `AdaptiveLimit` finds below it. Utilization is in flight / limit, looked at
before a request is let in. Two regimes, one field apart:

* threshold < 1, early rejection: utilization above the threshold is refused at once (overloaded). Nobody waits,
  since a queue in front of a full app only adds its own delay to every request behind it.
* threshold = 1, bounded wait: when all places are taken, a request waits in a queue of at most maxQueue, for at most
  acquireTimeout and never beyond its own deadline.

Priorities move the threshold: critical requests are let in up to 100 %, normal ones up to the threshold, sheddable
ones up to theirs. In the queue critical ones are served first, then normal ones, then sheddable ones, in the order of
their arrival within a class. Part of the queue is kept for the higher classes, since a queue full of what matters
less would refuse what matters most.

Rules:

* A place that comes free while somebody waits is handed over directly: it never becomes free in between, so nobody
  overtakes within a class and a tenant. While a live waiter exists, in flight is at least the limit.
* A waiter is any hashable object of the caller. It has a place if and only if `release`, `configure` or `resize`
  returned it. From `enqueue` until then the caller may `abandon` it at any time; after that it owes a `release`.
* The caller keeps the time: `enqueue` returns when the wait is over, and the caller abandons the waiter then and
  refuses (acquire_timeout or deadline_exceeded). A waiter whose time is over is never given a place, even if its
  timer is late.
* Who cannot be served in time is refused at once: when the waiters ahead, at the pace at which places have come free
  lately, take longer than the wait may last.
* Within a class tenants take turns (`policy.fair_queue`), where they are told apart. One tenant's waiters are never
  more than the room they leave to the others, so that whoever comes next finds some.
* Shadow lets everything in and counts. What Enforce would have refused stays in flight and weighs on the following
  requests, so ``would_reject`` is an upper bound.
"""

import sys
from collections.abc import Hashable
from enum import Enum
from typing import Any, Final, Generic, Literal, TypeVar

from nova_api.policies import BackpressurePolicy
from nova_sidecar.policy.adaptive import AdaptiveLimit
from nova_sidecar.policy.fair_queue import NOBODY, FairQueue, Flow
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject

W = TypeVar("W", bound=Hashable)


class Queued(Enum):
    """The third answer of `Limiter.admit`: no place now, but one may be waited for."""

    QUEUED = "queued"


QUEUED: Final = Queued.QUEUED

Priority = Literal[0, 1, 2]
CRITICAL: Final = 0
NORMAL: Final = 1
SHEDDABLE: Final = 2
PRIORITIES: Final[tuple[str, ...]] = ("critical", "normal", "sheddable")
"""Names of the classes, by number; the header's values and the metrics' labels."""

_OVERLOADED: Final = Reject(Reason.OVERLOADED, OVERLOAD_RETRY_AFTER)
_QUEUE_FULL: Final = Reject(Reason.QUEUE_FULL, OVERLOAD_RETRY_AFTER)
_NO_WAITING: Final = Reject(Reason.ACQUIRE_TIMEOUT, OVERLOAD_RETRY_AFTER)
_TOO_LATE: Final = Reject(Reason.DEADLINE_EXCEEDED)

_QUEUE_SHARES: Final[tuple[float, ...]] = (1.0, 0.875, 0.5)  # of maxQueue, by class
_PACE_CALLS: Final = 16  # places handed over from which on their pace is trusted,
_PACE_SECONDS: Final = 1.0  # and time over which it is taken; what is older counts half


class Limiter(Generic[W]):
    """Counts requests in flight and decides who may join them.

    Usage: on None go on and call `release` once at the end; on QUEUED call `enqueue` at once; on a Reject answer it.
    In Shadow, `shadowed` then holds the reason for which Enforce would have refused; who counts it sets it back to
    None. Admission and release cost 110 ns together, a refusal 0.2 µs.
    """

    __slots__ = (
        "_ceiling",
        "_ceilings",
        "_pace_calls",
        "_pace_from",
        "_pace_seconds",
        "_policy",
        "_queues",
        "_rehearsed",
        "_rooms",
        "abandoned",
        "adaptive",
        "expired",
        "high_water",
        "in_flight",
        "limit",
        "queued",
        "refused_by_priority",
        "rejected",
        "shadowed",
        "waiting",
        "would_queue",
        "would_reject",
    )

    def __init__(self, policy: BackpressurePolicy, now: float = 0.0) -> None:
        self.in_flight = 0
        self.high_water = 0
        self.queued = 0
        self.waiting = 0
        """Waiters in the queue."""
        self.abandoned = 0
        self.expired = 0
        self.would_queue = 0
        self.would_reject = 0
        self.shadowed: Reason | None = None
        self.rejected: dict[Reason, int] = dict.fromkeys(
            (Reason.OVERLOADED, Reason.QUEUE_FULL, Reason.ACQUIRE_TIMEOUT, Reason.DEADLINE_EXCEEDED), 0
        )
        self.refused_by_priority = [0, 0, 0]
        self.adaptive: AdaptiveLimit | None = None
        """Finds the limit, where the policy says so; tell it of every call, and `resize` when it says that."""
        self._queues: tuple[FairQueue[W], ...] = (FairQueue(), FairQueue(), FairQueue())
        self._pace_calls = 0
        self._pace_seconds = 0.0
        self._pace_from = 0.0
        self._take_over(policy, now)

    def admit(self, now: float) -> Reject | Literal[Queued.QUEUED] | None:
        """None: in. QUEUED: call `enqueue` before anything else. Reject: overloaded, queue_full or acquire_timeout."""
        in_flight = self.in_flight
        if in_flight < self._ceiling:
            self.in_flight = in_flight + 1
            if in_flight >= self.high_water:
                self.high_water = in_flight + 1
            return None
        return self._full(NORMAL)

    def admit_as(self, priority: Priority, now: float) -> Reject | Literal[Queued.QUEUED] | None:
        """The same for a request of this class."""
        in_flight = self.in_flight
        if in_flight >= self._ceilings[priority]:
            return self._full(priority)
        if in_flight >= self._rehearsed[priority]:
            self.would_reject += 1
            self.shadowed = Reason.OVERLOADED
        self._enter()
        return None

    def enqueue(
        self, waiter: W, now: float, deadline_at: float, priority: Priority = NORMAL, flow: Flow = NOBODY
    ) -> float | Reject:
        """Let it wait, at most acquireTimeout and until `deadline_at`; returns the instant at which to give up. `flow`
        is its tenant.

        Reject, and it does not wait: acquire_timeout or deadline_exceeded, since it could not be served in time, or
        queue_full, since its tenant's requests already fill half of the queue's room.
        """
        until = min(deadline_at, now + self._policy.acquire_timeout)
        if self.waiting == 0:
            self._begin_queue(now)
        elif now + self._expected_wait(priority, flow) > until:
            answer = _TOO_LATE if until == deadline_at else _NO_WAITING
            self._count(answer, priority)
            return answer
        queue = self._queues[priority]
        if flow is not NOBODY and queue.waiting(flow) >= max(1, self._rooms[priority] - self.waiting):
            self._count(_QUEUE_FULL, priority)
            return _QUEUE_FULL
        queue.put(waiter, until, flow)
        self.waiting += 1
        self.queued += 1
        return until

    def release(self, now: float) -> W | None:
        """Give a place back. A waiter returned here has it now: let it go on (its own release comes later).

        Raises RuntimeError when nothing is in flight: a place given back twice would lift the limit for good.
        """
        if self.waiting:
            self._keep_pace(now)
            if self.in_flight <= self._ceiling:
                waiter = self._next_live(now)
                if waiter is not None:
                    return waiter
        if self.in_flight <= 0:
            raise RuntimeError("release without an admission")
        self.in_flight -= 1
        return None

    def abandon(self, waiter: W) -> None:
        """It no longer waits: its time is over or its caller went away. O(1); unknown waiters are ignored."""
        if not self.waiting:
            return
        for queue in self._queues:
            if queue.discard(waiter):
                self.waiting -= 1
                self.abandoned += 1
                return

    def configure(self, policy: BackpressurePolicy, now: float) -> list[W]:
        """Take over a new policy. Returns the waiters for whom there is room now, in order.

        A lower limit cuts nobody off: the surplus leaves as it finishes. Waits under way keep their end.
        """
        self._take_over(policy, now)
        return self._grant(now, room_for_all=policy.mode != "Enforce")

    def resize(self, now: float) -> list[W]:
        """Take over what the adaptive limit has found. Returns the waiters for whom there is room now, in order."""
        self._set_limit()
        return self._grant(now) if self.waiting else []

    @property
    def utilization(self) -> float:
        """In flight / limit; above 1 in Shadow or Off, and after the limit was lowered."""
        return self.in_flight / self.limit

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        shown: dict[str, Any] = {
            "mode": self._policy.mode,
            "inFlight": self.in_flight,
            "maxConcurrency": self._policy.max_concurrency,
            "limit": self.limit if self.adaptive is None else int(self.adaptive.limit),
            "utilization": self.utilization,
            "highWater": self.high_water,
            "waiting": self.waiting,
            "queued": self.queued,
            "abandoned": self.abandoned,
            "expired": self.expired,
            "rejected": {str(reason): count for reason, count in self.rejected.items()},
            "refusedByPriority": dict(zip(PRIORITIES, self.refused_by_priority, strict=True)),
            "wouldQueue": self.would_queue,
            "wouldReject": self.would_reject,
        }
        if self.adaptive is not None:
            shown["adaptive"] = {"mode": self._policy.adaptive.mode, **self.adaptive.snapshot()}
        return shown

    def __repr__(self) -> str:
        return f"<Limiter {self.in_flight}/{self.limit} waiting={self.waiting}>"

    # --- limits

    def _take_over(self, policy: BackpressurePolicy, now: float) -> None:
        self._policy = policy
        if policy.mode == "Off" or policy.adaptive.mode == "Off":
            self.adaptive = None
        elif self.adaptive is None:
            self.adaptive = AdaptiveLimit(policy, now, self.in_flight)
        else:
            self.adaptive.configure(policy)
        shares = _QUEUE_SHARES if policy.priority.mode == "Enforce" else (1.0, 1.0, 1.0)
        self._rooms = tuple(int(policy.max_queue * share) for share in shares)
        self._set_limit()

    def _set_limit(self) -> None:
        policy, adaptive = self._policy, self.adaptive
        found = adaptive is not None and policy.adaptive.mode == "Enforce"
        self.limit = int(adaptive.limit) if adaptive is not None and found else policy.max_concurrency
        if policy.mode == "Off":
            self._ceiling = sys.maxsize
            self._ceilings = self._rehearsed = (sys.maxsize,) * 3
            return
        self._ceiling = normal = _ceiling(policy.threshold, self.limit)
        by_class = (self.limit, normal, min(normal, _ceiling(policy.priority.sheddable, self.limit)))
        self._ceilings = by_class if policy.priority.mode == "Enforce" else (normal,) * 3
        self._rehearsed = by_class if policy.priority.mode == "Shadow" else (sys.maxsize,) * 3

    # --- when it is full

    def _enter(self) -> None:
        self.in_flight += 1
        self.high_water = max(self.high_water, self.in_flight)

    def _full(self, priority: Priority) -> Reject | Literal[Queued.QUEUED] | None:
        if self._policy.mode == "Shadow":
            self._count_shadow(priority)
            self._enter()
            return None
        answer = self._answer_when_full(priority, self.waiting)
        if isinstance(answer, Reject):
            self._count(answer, priority)
        return answer

    def _answer_when_full(self, priority: Priority, waiting: int) -> Reject | Literal[Queued.QUEUED]:
        policy = self._policy
        if policy.threshold < 1:
            return _OVERLOADED
        if priority == SHEDDABLE and policy.priority.mode == "Enforce" and policy.priority.sheddable < 1:
            return _OVERLOADED
        if waiting >= self._rooms[priority]:
            return _QUEUE_FULL
        if policy.acquire_timeout <= 0:
            return _NO_WAITING
        return QUEUED

    def _count(self, answer: Reject, priority: Priority) -> None:
        self.rejected[answer.reason] += 1
        self.refused_by_priority[priority] += 1
        if self.adaptive is not None:
            self.adaptive.press()

    def _count_shadow(self, priority: Priority) -> None:
        answer = self._answer_when_full(priority, max(0, self.in_flight - self.limit))
        if answer is QUEUED:
            self.would_queue += 1
        else:
            self.would_reject += 1
            self.shadowed = answer.reason

    # --- the queue

    def _grant(self, now: float, *, room_for_all: bool = False) -> list[W]:
        granted: list[W] = []
        while self.waiting and (room_for_all or self.in_flight < self._ceiling):
            waiter = self._next_live(now)
            if waiter is not None:
                self._enter()
                granted.append(waiter)
        return granted

    def _next_live(self, now: float) -> W | None:
        for queue in self._queues:
            while queue:
                waiter, until = queue.pop()
                self.waiting -= 1
                if now < until:
                    return waiter
                self.expired += 1
        return None

    def _begin_queue(self, now: float) -> None:
        if now - self._pace_from > self._policy.acquire_timeout:  # the app may be another one by now
            self._pace_calls, self._pace_seconds = 0, 0.0
        self._pace_from = now

    def _keep_pace(self, now: float) -> None:
        """A place came free while somebody waited."""
        self._pace_calls += 1
        self._pace_seconds += now - self._pace_from
        self._pace_from = now
        if self._pace_seconds > _PACE_SECONDS and self._pace_calls > 2 * _PACE_CALLS:
            self._pace_calls //= 2
            self._pace_seconds /= 2

    def _expected_wait(self, priority: Priority, flow: Flow) -> float:
        """Seconds until a new waiter of this class and tenant has a place; 0 while the pace is not known."""
        if self._pace_calls < _PACE_CALLS:
            return 0.0
        ahead = sum(len(queue) for queue in self._queues[:priority]) + self._queues[priority].ahead(flow)
        return (ahead + 1) * self._pace_seconds / self._pace_calls


def _ceiling(threshold: float, limit: int) -> int:
    """The number in flight at which a request is no longer simply let in."""
    if threshold >= 1:
        return limit
    allowed = int(threshold * limit)
    while (allowed + 1) / limit <= threshold:  # 0.29 * 100 is 28.999…
        allowed += 1
    return min(allowed + 1, limit)
