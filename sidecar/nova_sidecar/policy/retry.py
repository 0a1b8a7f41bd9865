"""Whether a failed attempt is repeated, and after which wait.

Repeating is safe when the upstream cannot have acted on the request: the connection was never made, so nothing was
sent; or the method is idempotent, so acting twice is acting once (RFC 9110 section 9.2.2). It is possible when the
body can be sent again, when time is left, and when attempts and budget are. Every retry that is not made is counted
under the first condition that forbids it, in the order of `Suppressed`.

The wait is drawn evenly from 0 to a bound that doubles with every retry ("full jitter"): callers that failed together
do not come back together. A Retry-After of the upstream (RFC 9110 section 10.2.3) comes on top.
"""

from collections.abc import Callable
from enum import StrEnum
from math import inf
from random import Random
from typing import Any, Final

from nova_api.policies import RetryCondition, RetryPolicy
from nova_sidecar.policy.budget import RetryBudget
from nova_sidecar.policy.reasons import Reason

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))

_FAILURES: Final[dict[RetryCondition, Reason | int]] = {
    "connect-failure": Reason.CONNECT_FAILURE,
    "reset": Reason.UPSTREAM_RESET,
    "timeout": Reason.ATTEMPT_TIMEOUT,
    "502": 502,
    "503": 503,
    "504": 504,
    "resource-exhausted": 8,  # numbers below 100 are gRPC status codes
    "aborted": 10,
    "unavailable": 14,
}


class Suppressed(StrEnum):
    """Why a failed attempt is not repeated; in the order in which the reasons are looked at."""

    OFF = "off"
    NOT_RETRYABLE_CONDITION = "not_retryable_condition"  # this failure is not in retry.when
    NOT_IDEMPOTENT = "not_idempotent"
    BODY_NOT_REPLAYABLE = "body_not_replayable"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    DEADLINE = "deadline"  # the wait would not leave any time
    BUDGET_EXHAUSTED = "budget_exhausted"
    SHADOW = "shadow"  # it would have been repeated


class Retrier:
    """Decides about retries of one upstream.

    Usage: ``retrier.deposit(now)`` once per request; after a failed attempt ``retrier.next(…)``, which returns the
    seconds to wait or why there is no further attempt.
    """

    __slots__ = ("_failures", "_policy", "_rng", "budget", "deposit", "retries", "suppressed")

    def __init__(self, policy: RetryPolicy, rng: Random) -> None:
        self._rng = rng
        self.retries = 0
        self.suppressed: dict[Suppressed, int] = dict.fromkeys(Suppressed, 0)
        self.budget = RetryBudget(policy.budget, policy.min_per_second)
        self.deposit: Callable[[float], None] = self.budget.deposit
        self.configure(policy)

    def configure(self, policy: RetryPolicy) -> None:
        """Take over a new policy; the traffic counted by the budget stays."""
        self._policy = policy
        self._failures = frozenset(_FAILURES[condition] for condition in policy.when)
        self.budget.configure(policy.budget, policy.min_per_second)

    @property
    def body_limit(self) -> int:
        """Bytes of a request body worth keeping for a further attempt; 0 when there will be none."""
        return self._policy.max_body_bytes if self._policy.mode != "Off" and self._policy.attempts > 1 else 0

    def next(
        self,
        attempt: int,
        failure: Reason | int,
        *,
        method: bytes,
        replayable: bool,
        remaining: float,
        now: float,
        retry_after: float | None = None,
    ) -> float | Suppressed:
        """Seconds to wait before the next attempt, or why there is none.

        `attempt` counts from 1 and has just failed, with a reason or a status; `remaining` is what is left of the
        request's budget, in seconds; `retry_after` what the response asked for. A float returned is a retry counted.
        """
        wait = self._wait(attempt) + (retry_after or 0.0)
        why = self._forbidden(attempt, failure, method, replayable)
        if why is None and wait >= remaining:
            why = Suppressed.DEADLINE
        if why is None and not self.budget.withdraw(now):
            why = Suppressed.BUDGET_EXHAUSTED
        if why is None and self._policy.mode == "Shadow":
            why = Suppressed.SHADOW
        if why is None:
            self.retries += 1
            return wait
        self.suppressed[why] += 1
        return why

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "mode": self._policy.mode,
            "retries": self.retries,
            "suppressed": {str(why): count for why, count in self.suppressed.items()},
            "budget": self.budget.snapshot(now),
        }

    def __repr__(self) -> str:
        return f"<Retrier retries={self.retries} suppressed={sum(self.suppressed.values())}>"

    def _forbidden(self, attempt: int, failure: Reason | int, method: bytes, replayable: bool) -> Suppressed | None:
        if self._policy.mode == "Off":
            return Suppressed.OFF
        if failure not in self._failures:
            return Suppressed.NOT_RETRYABLE_CONDITION
        if failure is not Reason.CONNECT_FAILURE and method not in IDEMPOTENT:
            return Suppressed.NOT_IDEMPOTENT
        if not replayable:
            return Suppressed.BODY_NOT_REPLAYABLE
        if attempt >= self._policy.attempts:
            return Suppressed.ATTEMPTS_EXHAUSTED
        return None

    def _wait(self, attempt: int) -> float:
        backoff = self._policy.backoff
        return self._rng.random() * min(backoff.base * 2.0 ** (attempt - 1), backoff.max)


def parse_retry_after(value: bytes) -> float | None:
    """Seconds from a Retry-After header. A date is infinity: it is meant for people and crawlers, and later than any
    deadline here. None when it is neither (RFC 9110 section 10.2.3)."""
    if value.isdigit():
        return float(value) if len(value) <= 9 else inf
    return inf if value.endswith(b" GMT") else None
