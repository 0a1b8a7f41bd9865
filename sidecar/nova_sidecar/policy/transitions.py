"""What a breaker can be, what makes it move, and every move there is."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

State = Literal["closed", "open", "half_open"]
CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"

Cause = Literal["consecutive", "failure_rate", "slow_rate", "probe", "configuration"]
"""Why the state changed: failures in a row, one of the rates, a probe (let through, failed, or the last one needed), or
a new configuration."""

Transition = tuple[State, State, Cause]

TRANSITIONS: Final[tuple[Transition, ...]] = (
    (CLOSED, OPEN, "consecutive"),
    (CLOSED, OPEN, "failure_rate"),
    (CLOSED, OPEN, "slow_rate"),
    (CLOSED, OPEN, "configuration"),
    (OPEN, HALF_OPEN, "probe"),
    (HALF_OPEN, OPEN, "probe"),
    (HALF_OPEN, OPEN, "configuration"),
    (HALF_OPEN, CLOSED, "probe"),
    (HALF_OPEN, CLOSED, "configuration"),
    (OPEN, CLOSED, "configuration"),  # mode Off, or the end of ForcedOpen
)

Listener = Callable[[State, State, Cause, float], None]
"""Told of each transition: from, to, why, and when (monotonic seconds)."""


def by_step(counts: Mapping[Transition, int]) -> dict[str, int]:
    """Transitions by where they lead, ``closed->open``, whatever their cause."""
    steps: dict[str, int] = {}
    for (before, after, _), count in counts.items():
        step = f"{before}->{after}"
        steps[step] = steps.get(step, 0) + count
    return steps


def by_cause(counts: Mapping[Transition, int]) -> dict[str, int]:
    """The same with the cause, ``closed->open failure_rate``."""
    return {f"{before}->{after} {cause}": count for (before, after, cause), count in counts.items()}
