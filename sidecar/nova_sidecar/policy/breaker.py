"""A circuit breaker: callers of a failing upstream get a fast answer, and the upstream gets quiet to recover.

    closed ── failureThreshold consecutive failures ──▶ open
    closed ── share of failed, or of slow calls in the window ──▶ open
    open ── openDuration over, on the next request ──▶ half_open
    half_open ── successThreshold consecutive successes ──▶ closed
    half_open ── one failure, or one slow call ──▶ open, twice as long as before, up to maxOpenDuration

Consecutive failures find an upstream that is dead, within a few calls and whatever the traffic. The share of failures
finds one that is half dead: one that fails every other call never fails five times in a row. The share of slow calls
finds one that still answers, but so late that its callers run out of places themselves. A share says nothing about
few calls, hence minimumCalls.

Rules:

* Only what was admitted in the present state counts. Every transition starts a new generation; `admit` hands out
  the generation as a ticket and `record` drops a result whose ticket is from an older one. Otherwise a slow success
  from before the outage could close the breaker, or a slow failure open it again after recovery.
* Every admission is followed by exactly one `record`, CANCELLED at least: a probe that never reports would keep
  its place in half_open for good.
* Open times are spread, so that many sidecars do not probe at the same instant (see `policy.opentime`).
* Most successes are only counted, up to the instant at which a rate may have risen (see `policy.rates`): this path is
  the price that every request pays.
* A call is slow when it succeeds after slowCall.duration or later; one that fails counts as failed only.
* Shadow runs the same machine and refuses nothing. What it would have refused gets a ticket that never counts: the
  enforcing breaker would not have seen the result either.
"""

import sys
from math import inf
from random import Random
from typing import Any, Final

from nova_api.policies import BreakerPolicy
from nova_sidecar.policy.opentime import OpenTime
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome
from nova_sidecar.policy.rates import Rates
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.transitions import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    TRANSITIONS,
    Cause,
    Listener,
    State,
    Transition,
    by_cause,
    by_step,
)

_NO_TICKET: Final = -1
_NEVER: Final = sys.maxsize
_PROBE_RETRY_AFTER: Final = 1.0


class Breaker:
    """The state of one circuit breaker.

    Usage: ``reject = breaker.admit(now)``; when None, keep ``breaker.ticket`` at once (the next admission may change
    it) and later call ``breaker.record(outcome, now, ticket, seconds)`` exactly once. In Shadow, a negative ticket says
    that Enforce would have refused. Admitting and recording a success while closed cost 120 ns together, a refusal
    0.6 µs.
    """

    __slots__ = (
        "_cause",
        "_failures",
        "_generation",
        "_most_failures",
        "_open_time",
        "_passed",
        "_passing",
        "_policy",
        "_probes",
        "_quiet_until",
        "_rates",
        "_slow_from",
        "_successes",
        "on_transition",
        "rejected",
        "state",
        "ticket",
        "transitions",
        "would_reject",
    )

    def __init__(self, policy: BreakerPolicy, rng: Random, now: float) -> None:
        # for the life of the sidecar
        self.on_transition: list[Listener] = []
        self.transitions: dict[Transition, int] = dict.fromkeys(TRANSITIONS, 0)
        self.rejected = 0
        self.would_reject = 0
        self._open_time = OpenTime(rng, now)
        self._cause: Cause | None = None  # of the last transition

        # until the next configuration
        self._rates = Rates(policy, now)
        self._take_over(policy)

        # until the next transition
        self.state: State = CLOSED
        self._passing = True  # closed: nothing to ask
        self._generation = 0
        self.ticket = 0
        self._quiet_until = -inf  # closed: until then plain successes are only counted
        self._failures = 0
        self._passed = 0  # plain successes of late, which neither the rates nor `_failures` know yet
        self._successes = 0
        self._probes = 0

        if policy.mode == "ForcedOpen":
            self._move(OPEN, "configuration", now)
        self._calm()

    def admit(self, now: float) -> Reject | None:
        """None: go on, and keep `ticket`. Otherwise circuit_open, with the seconds until a probe may pass."""
        if self._passing:
            return None
        if now >= self._open_time.until and self.state == OPEN:
            self._move(HALF_OPEN, "probe", now)
        if self.state == HALF_OPEN and self._probes < self._policy.half_open_probes:
            self._probes += 1
            self.ticket = self._generation
            return None
        return self._refuse(now)

    def record(self, outcome: Outcome, now: float, ticket: int, seconds: float = 0.0) -> None:
        """Take the outcome of what was admitted with this ticket; results from before a transition are dropped.

        `seconds` is the time to the response head, for a success; it decides whether the call was slow.
        """
        if ticket != self._generation:
            return
        if outcome is SUCCESS and now < self._quiet_until and seconds < self._slow_from:
            self._passed += 1
        elif self.state == HALF_OPEN:
            self._record_probe(outcome, now, slow=seconds >= self._slow_from)
        elif outcome is not CANCELLED and self._passing and self._policy.mode != "Off":
            self._record_call(now, failed=outcome is FAILURE, slow=outcome is SUCCESS and seconds >= self._slow_from)

    def configure(self, policy: BreakerPolicy, now: float) -> None:
        """Take over a new policy. State and counts stay; an open time under way gets its new length.

        A window of another type or length begins empty. Off, and the end of ForcedOpen, close it: the first watches
        nothing, the second was a rehearsal.
        """
        was = self._policy
        self._settle(now)
        self._rates.configure(policy, now)
        self._take_over(policy)
        rehearsed = was.mode == "ForcedOpen" and policy.mode != "ForcedOpen"
        if policy.mode == "Off":
            self._failures = 0
        if policy.mode == "ForcedOpen" and self.state != OPEN:
            self._move(OPEN, "configuration", now)
        elif self.state != CLOSED and (policy.mode == "Off" or rehearsed):
            self._move(CLOSED, "configuration", now)
        elif self.state == OPEN:
            self._open_time.configure(policy)
        self._calm()

    def refuses(self, now: float) -> bool:
        """Whether a request would be refused for an open breaker; unlike `admit` it changes nothing."""
        return self.state == OPEN and now < self._open_time.until and self._policy.mode not in ("Shadow", "Off")

    def open_seconds(self, now: float) -> float:
        """Seconds spent open since the start, the present open time included."""
        return self._open_time.total(now, under_way=self.state == OPEN)

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        self._settle(now)
        return {
            "mode": self._policy.mode,
            "state": self.state,
            "cause": self._cause,
            "failures": self._failures,
            "successes": self._successes,
            **self._rates.snapshot(),
            "probesInFlight": self._probes,
            "retryAfter": self._retry_after(now) if self.state == OPEN else None,
            "openSeconds": self.open_seconds(now),
            "rejected": self.rejected,
            "wouldReject": self.would_reject,
            "transitions": by_step(self.transitions),
            "transitionsByCause": by_cause(self.transitions),
        }

    def __repr__(self) -> str:
        return (
            f"<Breaker {self.state} failures={0 if self._passed else self._failures} successes={self._successes} "
            f"probes={self._probes} generation={self._generation}>"
        )

    def _refuse(self, now: float) -> Reject | None:
        if self._policy.mode == "Shadow":
            self.would_reject += 1
            self.ticket = _NO_TICKET
            return None
        self.rejected += 1
        return Reject(Reason.CIRCUIT_OPEN, self._retry_after(now))

    def _retry_after(self, now: float) -> float | None:
        return _PROBE_RETRY_AFTER if self.state == HALF_OPEN else self._open_time.left(now)

    def _record_call(self, now: float, *, failed: bool, slow: bool) -> None:
        """Everything but a plain success in a quiet time."""
        self._settle(now)
        self._failures = self._failures + 1 if failed else 0
        self._rates.count(failed=failed, slow=slow)
        cause: Cause | None = "consecutive" if self._failures >= self._most_failures else self._rates.reached()
        if cause is None:
            self._calm()
        else:
            self._move(OPEN, cause, now)

    def _record_probe(self, outcome: Outcome, now: float, *, slow: bool) -> None:
        self._probes -= 1
        if outcome is FAILURE or (outcome is SUCCESS and slow):
            self._open_time.double()
            self._move(OPEN, "probe", now)
        elif outcome is SUCCESS:
            self._successes += 1
            if self._successes >= self._policy.success_threshold:
                self._move(CLOSED, "probe", now)

    def _settle(self, now: float) -> None:
        """Tell the rates what they have not been told, and the time."""
        self._rates.settle(self._passed, now)
        if self._passed:
            self._failures = self._passed = 0

    def _calm(self) -> None:
        """Until when plain successes are only counted."""
        self._quiet_until = self._rates.quiet_until if self._passing else -inf

    def _take_over(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._most_failures = policy.failure_threshold or _NEVER
        self._slow_from = self._rates.slow_from

    def _move(self, to: State, cause: Cause, now: float) -> None:
        before = self.state
        if before == OPEN:
            self._open_time.end(now)
        self.state = to
        self._passing = to == CLOSED
        self._generation += 1
        self.ticket = self._generation
        self._failures = self._passed = self._successes = self._probes = 0
        self._rates.clear(now)
        self._calm()
        if to == CLOSED:
            self._open_time.forget()
        elif to == OPEN:
            self._open_time.begin(self._policy, now)
        self._cause = cause
        self.transitions[before, to, cause] += 1
        for listener in self.on_transition:
            listener(before, to, cause, now)
