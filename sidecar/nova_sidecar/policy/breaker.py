"""A circuit breaker: callers of a failing upstream get a fast answer, and the upstream gets quiet to recover.

    closed ── failureThreshold consecutive failures ──▶ open
    open ── openDuration over, on the next request ──▶ half_open
    half_open ── successThreshold consecutive successes ──▶ closed
    half_open ── one failure ──▶ open, twice as long as before, up to maxOpenDuration

Rules:

* Only what was admitted in the present state counts. Every transition starts a new generation; `admit` hands out
  the generation as a ticket and `record` drops a result whose ticket is from an older one. Otherwise a slow success
  from before the outage could close the breaker, or a slow failure open it again after recovery.
* Every admission is followed by exactly one `record`, CANCELLED at least: a probe that never reports would keep
  its place in half_open for good.
* An open time is spread upwards by up to 10 %, so that many sidecars do not probe at the same instant. It is never
  shorter than openDuration nor longer than maxOpenDuration; near that end it is spread downwards.
* Shadow runs the same machine and refuses nothing. What it would have refused gets a ticket that never counts: the
  enforcing breaker would not have seen the result either.
"""

from collections.abc import Callable
from math import inf
from random import Random
from typing import Any, Final, Literal

from nova_api.policies import BreakerPolicy
from nova_sidecar.policy.outcome import FAILURE, SUCCESS, Outcome
from nova_sidecar.policy.reasons import Reason, Reject

State = Literal["closed", "open", "half_open"]
CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"

TRANSITIONS: Final[tuple[tuple[State, State], ...]] = (
    (CLOSED, OPEN),
    (OPEN, HALF_OPEN),
    (HALF_OPEN, OPEN),
    (HALF_OPEN, CLOSED),
    (OPEN, CLOSED),  # by configuration only: mode Off, or the end of ForcedOpen
)

Listener = Callable[[State, State, float], None]

_SPREAD: Final = 0.1
_MOST_DOUBLINGS: Final = 32
_NO_TICKET: Final = -1
_PROBE_RETRY_AFTER: Final = 1.0


class Breaker:
    """The state of one circuit breaker.

    Usage: ``reject = breaker.admit(now)``; when None, keep ``breaker.ticket`` at once (the next admission may change
    it) and later call ``breaker.record(outcome, now, ticket)`` exactly once. In Shadow, a negative ticket says
    that Enforce would have refused. Admitting and recording a success while closed cost 90 ns together, a refusal
    0.6 µs.
    """

    __slots__ = (
        "_doublings",
        "_failures",
        "_generation",
        "_open_seconds",
        "_open_until",
        "_opened_at",
        "_passing",
        "_policy",
        "_probes",
        "_rng",
        "_spread",
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
        self._rng = rng
        self.on_transition: list[Listener] = []
        self.transitions: dict[tuple[State, State], int] = dict.fromkeys(TRANSITIONS, 0)
        self.rejected = 0
        self.would_reject = 0
        self._open_seconds = 0.0  # of the open times that are over

        # until the next configuration
        self._policy = policy

        # until the next transition
        self.state: State = CLOSED
        self._passing = True  # closed: nothing to ask
        self._generation = 0
        self.ticket = 0
        self._failures = 0
        self._successes = 0
        self._probes = 0

        # from one opening to the next
        self._opened_at = now
        self._open_until = now
        self._spread = 0.0
        self._doublings = 0

        if policy.mode == "ForcedOpen":
            self._move(OPEN, now)

    def admit(self, now: float) -> Reject | None:
        """None: go on, and keep `ticket`. Otherwise circuit_open, with the seconds until a probe may pass."""
        if self._passing:
            return None
        if now >= self._open_until and self.state == OPEN:
            self._move(HALF_OPEN, now)
        if self.state == HALF_OPEN and self._probes < self._policy.half_open_probes:
            self._probes += 1
            self.ticket = self._generation
            return None
        return self._refuse(now)

    def record(self, outcome: Outcome, now: float, ticket: int) -> None:
        """Take the outcome of what was admitted with this ticket; results from before a transition are dropped."""
        if ticket != self._generation:
            return
        if outcome is SUCCESS and self._passing:
            self._failures = 0
        elif self.state == HALF_OPEN:
            self._record_probe(outcome, now)
        elif outcome is FAILURE and self._policy.mode != "Off":
            self._failures += 1
            if self._failures >= self._policy.failure_threshold:
                self._move(OPEN, now)

    def configure(self, policy: BreakerPolicy, now: float) -> None:
        """Take over a new policy. State and counts stay; an open time under way gets its new length.

        Off, and the end of ForcedOpen, close it: the first watches nothing, the second was a rehearsal.
        """
        was, self._policy = self._policy, policy
        rehearsed = was.mode == "ForcedOpen" and policy.mode != "ForcedOpen"
        if policy.mode == "Off":
            self._failures = 0
        if policy.mode == "ForcedOpen" and self.state != OPEN:
            self._move(OPEN, now)
        elif self.state != CLOSED and (policy.mode == "Off" or rehearsed):
            self._move(CLOSED, now)
        elif self.state == OPEN:
            self._open_until = self._opened_at + self._open_length()

    def open_seconds(self, now: float) -> float:
        """Seconds spent open since the start, the present open time included."""
        if self.state == OPEN:
            return self._open_seconds + (now - self._opened_at)
        return self._open_seconds

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "mode": self._policy.mode,
            "state": self.state,
            "failures": self._failures,
            "successes": self._successes,
            "probesInFlight": self._probes,
            "retryAfter": self._retry_after(now) if self.state == OPEN else None,
            "openSeconds": self.open_seconds(now),
            "rejected": self.rejected,
            "wouldReject": self.would_reject,
            "transitions": {f"{before}->{after}": count for (before, after), count in self.transitions.items()},
        }

    def __repr__(self) -> str:
        return (
            f"<Breaker {self.state} failures={self._failures} successes={self._successes} "
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
        if self.state == HALF_OPEN:
            return _PROBE_RETRY_AFTER
        return None if self._open_until == inf else max(0.0, self._open_until - now)

    def _record_probe(self, outcome: Outcome, now: float) -> None:
        self._probes -= 1
        if outcome is FAILURE:
            self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS)
            self._move(OPEN, now)
        elif outcome is SUCCESS:
            self._successes += 1
            if self._successes >= self._policy.success_threshold:
                self._move(CLOSED, now)

    def _move(self, to: State, now: float) -> None:
        before = self.state
        if before == OPEN:
            self._open_seconds += now - self._opened_at
        self.state = to
        self._passing = to == CLOSED
        self._generation += 1
        self.ticket = self._generation
        self._failures = self._successes = self._probes = 0
        if to == CLOSED:
            self._doublings = 0
        elif to == OPEN:
            self._opened_at = now
            self._spread = self._rng.random()
            self._open_until = now + self._open_length()
        self.transitions[before, to] += 1
        for listener in self.on_transition:
            listener(before, to, now)

    def _open_length(self) -> float:
        if self._policy.mode == "ForcedOpen":
            return inf
        shortest, longest = float(self._policy.open_duration), float(self._policy.max_open_duration)
        low = min(shortest * 2.0**self._doublings, longest)
        high = low * (1 + _SPREAD)
        if high > longest:
            low, high = max(shortest, longest / (1 + _SPREAD)), longest
        return min(high, low + self._spread * (high - low))  # the sum may round up
