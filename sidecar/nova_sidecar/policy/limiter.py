"""A concurrency limiter: overload is refused at the door, so that what is let in stays fast.

Utilization is in flight / maxConcurrency, looked at before a request is let in. Two regimes, one field apart:

* threshold < 1, early rejection: utilization above the threshold is refused at once (overloaded). Nobody waits,
  since a queue in front of a full app only adds its own delay to every request behind it.
* threshold = 1, bounded wait: when all places are taken, a request waits in a queue (first in, first out) of at
  most maxQueue, for at most acquireTimeout and never beyond its own deadline.

Rules:

* A place that comes free while somebody waits is handed over directly: it never becomes free in between, so nobody
  overtakes. While a live waiter exists, in flight is at least the ceiling.
* A waiter is any hashable object of the caller. It has a place if and only if `release` or `configure` returned it.
  From `enqueue` until then the caller may `abandon` it at any time; after that it owes a `release`.
* The caller keeps the time: `enqueue` returns when the wait is over, and the caller abandons the waiter then and
  refuses (acquire_timeout or deadline_exceeded). A waiter whose time is over is never given a place, even if its
  timer is late.
* Shadow lets everything in and counts. What Enforce would have refused stays in flight and weighs on the following
  requests, so ``would_reject`` is an upper bound.
"""

import sys
from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum
from typing import Any, Final, Generic, Literal, TypeVar

from nova_api.policies import BackpressurePolicy
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject

W = TypeVar("W", bound=Hashable)


class Queued(Enum):
    """The third answer of `Limiter.admit`: no place now, but one may be waited for."""

    QUEUED = "queued"


QUEUED: Final = Queued.QUEUED

_OVERLOADED: Final = Reject(Reason.OVERLOADED, OVERLOAD_RETRY_AFTER)
_QUEUE_FULL: Final = Reject(Reason.QUEUE_FULL, OVERLOAD_RETRY_AFTER)
_NO_WAITING: Final = Reject(Reason.ACQUIRE_TIMEOUT, OVERLOAD_RETRY_AFTER)


class Limiter(Generic[W]):
    """Counts requests in flight and decides who may join them.

    Usage: on None go on and call `release` once at the end; on QUEUED call `enqueue` at once; on a Reject answer it.
    In Shadow, `shadowed` then holds the reason for which Enforce would have refused; who counts it sets it back to
    None. Admission and release cost 110 ns together, a refusal 0.2 µs.
    """

    __slots__ = (
        "_ceiling",
        "_policy",
        "_waiting",
        "abandoned",
        "expired",
        "high_water",
        "in_flight",
        "queued",
        "rejected",
        "shadowed",
        "would_queue",
        "would_reject",
    )

    def __init__(self, policy: BackpressurePolicy) -> None:
        self.in_flight = 0
        self.high_water = 0
        self.queued = 0
        self.abandoned = 0
        self.expired = 0
        self.would_queue = 0
        self.would_reject = 0
        self.shadowed: Reason | None = None
        self.rejected: dict[Reason, int] = dict.fromkeys(
            (Reason.OVERLOADED, Reason.QUEUE_FULL, Reason.ACQUIRE_TIMEOUT), 0
        )
        self._policy = policy
        self._ceiling = _ceiling(policy)
        self._waiting: OrderedDict[W, float] = OrderedDict()  # waiter -> when its wait is over

    def admit(self, now: float) -> Reject | Literal[Queued.QUEUED] | None:
        """None: in. QUEUED: call `enqueue` before anything else. Reject: overloaded, queue_full or acquire_timeout."""
        in_flight = self.in_flight
        if in_flight < self._ceiling:
            self.in_flight = in_flight + 1
            if in_flight >= self.high_water:
                self.high_water = in_flight + 1
            return None
        return self._full()

    def enqueue(self, waiter: W, now: float, deadline_at: float) -> float:
        """Let it wait, at most acquireTimeout and until `deadline_at`; returns the instant at which to give up."""
        until = min(deadline_at, now + self._policy.acquire_timeout)
        self._waiting[waiter] = until
        self.queued += 1
        return until

    def release(self, now: float) -> W | None:
        """Give a place back. A waiter returned here has it now: let it go on (its own release comes later).

        Raises RuntimeError when nothing is in flight: a place given back twice would lift the limit for good.
        """
        if self._waiting and self.in_flight <= self._ceiling:
            waiter = self._next_live(now)
            if waiter is not None:
                return waiter
        if self.in_flight <= 0:
            raise RuntimeError("release without an admission")
        self.in_flight -= 1
        return None

    def abandon(self, waiter: W) -> None:
        """It no longer waits: its time is over or its caller went away. O(1); unknown waiters are ignored."""
        if self._waiting.pop(waiter, None) is not None:
            self.abandoned += 1

    def configure(self, policy: BackpressurePolicy, now: float) -> list[W]:
        """Take over a new policy. Returns the waiters for whom there is room now, in order.

        A lower limit cuts nobody off: the surplus leaves as it finishes. Waits under way keep their end.
        """
        self._policy = policy
        self._ceiling = _ceiling(policy)
        granted: list[W] = []
        room_for_all = policy.mode != "Enforce"
        while self._waiting and (room_for_all or self.in_flight < self._ceiling):
            waiter = self._next_live(now)
            if waiter is not None:
                self._enter()
                granted.append(waiter)
        return granted

    @property
    def waiting(self) -> int:
        """Waiters in the queue."""
        return len(self._waiting)

    @property
    def utilization(self) -> float:
        """In flight / maxConcurrency; above 1 in Shadow or Off, and after the limit was lowered."""
        return self.in_flight / self._policy.max_concurrency

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "mode": self._policy.mode,
            "inFlight": self.in_flight,
            "maxConcurrency": self._policy.max_concurrency,
            "utilization": self.utilization,
            "highWater": self.high_water,
            "waiting": self.waiting,
            "queued": self.queued,
            "abandoned": self.abandoned,
            "expired": self.expired,
            "rejected": {str(reason): count for reason, count in self.rejected.items()},
            "wouldQueue": self.would_queue,
            "wouldReject": self.would_reject,
        }

    def __repr__(self) -> str:
        return f"<Limiter {self.in_flight}/{self._policy.max_concurrency} waiting={self.waiting}>"

    def _enter(self) -> None:
        self.in_flight += 1
        self.high_water = max(self.high_water, self.in_flight)

    def _full(self) -> Reject | Literal[Queued.QUEUED] | None:
        if self._policy.mode == "Shadow":
            self._count_shadow()
            self._enter()
            return None
        answer = self._answer_when_full(len(self._waiting))
        if isinstance(answer, Reject):
            self.rejected[answer.reason] += 1
        return answer

    def _answer_when_full(self, waiting: int) -> Reject | Literal[Queued.QUEUED]:
        if self._policy.threshold < 1:
            return _OVERLOADED
        if waiting >= self._policy.max_queue:
            return _QUEUE_FULL
        if self._policy.acquire_timeout <= 0:
            return _NO_WAITING
        return QUEUED

    def _count_shadow(self) -> None:
        answer = self._answer_when_full(self.in_flight - self._ceiling)
        if answer is QUEUED:
            self.would_queue += 1
        else:
            self.would_reject += 1
            self.shadowed = answer.reason

    def _next_live(self, now: float) -> W | None:
        while self._waiting:
            waiter, until = self._waiting.popitem(last=False)
            if now < until:
                return waiter
            self.expired += 1
        return None


def _ceiling(policy: BackpressurePolicy) -> int:
    """The number in flight at which a request is no longer simply let in."""
    if policy.mode == "Off":
        return sys.maxsize
    if policy.threshold >= 1:
        return policy.max_concurrency
    allowed = int(policy.threshold * policy.max_concurrency)
    while (allowed + 1) / policy.max_concurrency <= policy.threshold:  # 0.29 * 100 is 28.999…
        allowed += 1
    return min(allowed + 1, policy.max_concurrency)
