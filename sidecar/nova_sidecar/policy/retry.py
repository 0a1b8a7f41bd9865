"""Whether a failed attempt is repeated, and after which wait.

Repeating is safe when the upstream cannot have acted on the request: the connection was never made, so nothing was
sent, or an HTTP/2 upstream refused the stream unseen (RFC 9113 section 8.7); or when acting twice is acting once: the
method is idempotent (RFC 9110 section 9.2.2), the request carries an Idempotency-Key, or the policy lists its path.
It is possible when the body can be sent again, when time is left, and when attempts and budget are. Every retry that
is not made is counted under the first condition that forbids it, in the order of `Suppressed`.

The wait is drawn evenly from 0 to a bound that doubles with every retry ("full jitter"): callers that failed together
do not come back together. A Retry-After of the upstream (RFC 9110 section 10.2.3) comes on top. A gRPC server's
pushback replaces the wait, or forbids the retry (gRPC proposal A6).

Retries of several layers multiply: three attempts at each of three layers are 27 calls to what fails. So only the layer
next to a failure repeats, and two marks tell the others. A request that is itself a repetition says so
(``x-nova-attempt``) and is not repeated further down; a failure that was repeated in vain, or that the budget did not
let be repeated, says so (``x-nova-retried``) and is not repeated further up.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from math import inf
from random import Random
from typing import Any, Final

from nova_api.policies import RetryCondition, RetryPolicy
from nova_sidecar.policy.budget import RetryBudget
from nova_sidecar.policy.reasons import Reason

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))
KEY: Final = b"idempotency-key"
"""Field of a request that makes it repeatable, whatever its method."""
ATTEMPT: Final = b"x-nova-attempt"
"""Field of a request that is a repetition: which attempt it is, from 2 on."""
RETRIED: Final = b"x-nova-retried"
"""Field of a failure that a layer further down has repeated already: the attempts it took."""
PUSHBACK: Final = b"grpc-retry-pushback-ms"
"""Trailer of a gRPC response: when to repeat the call, or, where it is no number from 0, not to."""

_MOST_DIGITS: Final = 9
_AMBIGUOUS: Final = re.compile(r"//|\\|%(?:2e|2f|5c|25)|/\.\.?(?:[/;]|\Z)", re.IGNORECASE)
"""Paths that an upstream may take for another one: dot segments (RFC 3986 section 5.2.4), plain or encoded, empty
segments, and slashes that are encoded or the wrong way round."""

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
    NESTED = "nested"  # another layer repeats, or has repeated, this request
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    PUSHBACK = "pushback"  # the gRPC server asks not to be called again
    DEADLINE = "deadline"  # the wait would not leave any time
    BUDGET_EXHAUSTED = "budget_exhausted"
    SHADOW = "shadow"  # it would have been repeated


class Retrier:
    """Decides about retries of one upstream.

    Usage: ``retrier.deposit(now)`` once per request; after a failed attempt ``retrier.next(…)``, which returns the
    seconds to wait or why there is no further attempt.
    """

    __slots__ = ("_failures", "_listed", "_policy", "_prefixes", "_rng", "budget", "deposit", "retries", "suppressed")

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
        paths = policy.idempotent_paths
        self._listed = frozenset(path for path in paths if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in paths if path.endswith("*"))
        self.budget.configure(policy.budget, policy.min_per_second)

    @property
    def on(self) -> bool:
        """Whether there may ever be a further attempt, if only in Shadow mode."""
        return self._policy.mode != "Off" and self._policy.attempts > 1

    def listed(self, path: str) -> bool:
        """Whether the policy says that this path, or gRPC method, is safe to repeat; for readers to remember. A path
        that only begins like a listed one, and may lead elsewhere (``/orders/../payments``), is not."""
        return path in self._listed or (path.startswith(self._prefixes) and not _AMBIGUOUS.search(path))

    @property
    def body_limit(self) -> int:
        """Bytes of a request body worth keeping for a further attempt; 0 when there will be none."""
        return self._policy.max_body_bytes if self.on else 0

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
        repeatable: bool = False,
        unseen: bool = False,
        nested: bool = False,
        pushback: bytes | None = None,
    ) -> float | Suppressed:
        """Seconds to wait before the next attempt, or why there is none.

        `attempt` counts from 1 and has just failed, with a reason, an HTTP status, or a gRPC code (below 100);
        `remaining` is what is left of the request's budget, in seconds; `retry_after` what the response asked for.
        `repeatable`: a key or the policy makes the request so, whatever its method. `unseen`: the upstream has not
        looked at it, so it is safe to repeat, and as good as no connection. `nested`: the request or the failure
        carries the mark of another layer's retry. `pushback` is the value of that trailer. A float returned is a retry
        counted.
        """
        safe = unseen or repeatable or failure is Reason.CONNECT_FAILURE or method in IDEMPOTENT
        why = self._uncovered(failure, unseen=unseen, safe=safe)
        if why is None:
            why = self._impossible(attempt, replayable=replayable, nested=nested)
        wait = self._wait(attempt) + (retry_after or 0.0)
        if why is None and pushback is not None:
            if pushback.isdigit():
                wait = float(pushback) / 1000 if len(pushback) <= _MOST_DIGITS else inf
            else:
                why = Suppressed.PUSHBACK
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

    def _uncovered(self, failure: Reason | int, *, unseen: bool, safe: bool) -> Suppressed | None:
        """Why the policy does not cover this failure of this request."""
        if self._policy.mode == "Off":
            return Suppressed.OFF
        if failure not in self._failures and not (unseen and Reason.CONNECT_FAILURE in self._failures):
            return Suppressed.NOT_RETRYABLE_CONDITION
        return None if safe else Suppressed.NOT_IDEMPOTENT

    def _impossible(self, attempt: int, *, replayable: bool, nested: bool) -> Suppressed | None:
        """Why there is no further attempt though the policy covers the failure."""
        if not replayable:
            return Suppressed.BODY_NOT_REPLAYABLE
        if nested:
            return Suppressed.NESTED
        return Suppressed.ATTEMPTS_EXHAUSTED if attempt >= self._policy.attempts else None

    def _wait(self, attempt: int) -> float:
        backoff = self._policy.backoff
        return self._rng.random() * min(backoff.base * 2.0 ** (attempt - 1), backoff.max)


def is_repetition(attempt: bytes | None) -> bool:
    """Whether the value of `ATTEMPT`, None without one, says that the request was sent before."""
    return attempt is not None and attempt.isdigit() and attempt.lstrip(b"0") not in (b"", b"1")


def parse_retry_after(value: bytes) -> float | None:
    """Seconds from a Retry-After header. A date is infinity: it is meant for people and crawlers, and later than any
    deadline here. None when it is neither (RFC 9110 section 10.2.3)."""
    if value.isdigit():
        return float(value) if len(value) <= 9 else inf
    return inf if value.endswith(b" GMT") else None
