"""Nova's breaker beside resilience4j's: the same calls, the same states, wherever both mean the same.

Thousands of random calls are replayed on both: Count and Time windows, minimum calls, failure rate, slow-call rate,
open times, a single probe that succeeds, fails, is slow or is cancelled, several probes at once that succeed, and
results that come late and out of order. What differs on purpose is kept out of them and shown one by one in
`DIFFERENCES`; there both sides are asserted, so that the list stays true.

Not compared, because resilience4j has no such thing: consecutive failures, open times that grow, jitter, Shadow.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from tests.bench.tools import Unavailable
from tests.oracles.resilience4j.library import replay
from tests.oracles.resilience4j.vectors import SECOND, Settings, Vector, random_vector

SEED = 20_260
VECTORS = 400
LENGTH = 150
BASE = Settings(size=4, minimum=4)
REACHED = (
    "closed open failure_rate",
    "closed open slow_rate",
    "open half_open probe",
    "half_open open probe",
    "half_open closed probe",
)


def a_late_result() -> Vector:
    """Nova drops what was admitted before a transition: it says nothing about the state that follows. resilience4j
    counts it, here a success from before the outage as the success of a probe that is still under way."""
    vector = Vector(BASE)
    slow = vector.ask()
    assert slow is not None
    vector.play("FFFF")
    vector.ask(6 * SECOND)
    vector.tell(slow, "K")
    return vector


def the_first_failed_probe() -> Vector:
    """Nova opens again on the first failed probe, as an upstream that fails one call of three has not recovered;
    resilience4j lets the third call through too, and takes the failure rate of all three."""
    vector = Vector(replace(BASE, probes=3))
    vector.play("FFFF6SFS")
    return vector


def probes_in_all() -> Vector:
    """halfOpenProbes bounds the probes in flight, permittedNumberOfCallsInHalfOpenState those in all: when one of three
    has succeeded, Nova lets a fourth one through, which costs nothing and proves more."""
    vector = Vector(replace(BASE, probes=3))
    vector.play("FFFF")
    probes = [vector.ask(6 * SECOND), vector.ask(), vector.ask()]
    assert probes[0] is not None
    vector.tell(probes[0], "S")
    vector.ask()
    return vector


def fewer_calls_than_probes() -> Vector:
    """resilience4j judges the probes as soon as there are minimumNumberOfCalls of them; Nova wants successThreshold
    successes whatever the window's minimum is."""
    vector = Vector(replace(BASE, minimum=1, probes=3))
    vector.play("F6S")
    return vector


def slow_failures() -> Vector:
    """A failed call that also took long is slow for resilience4j; for Nova it has failed, and each call counts once."""
    vector = Vector(replace(BASE, failures=100, slow=50))
    for result in "FFSS":
        call = vector.ask()
        assert call is not None
        vector.tell(call, result, SECOND + 1 if result == "F" else 0)
    return vector


def exactly_as_slow() -> Vector:
    """slowCall.duration is the time from which on a call is slow; resilience4j wants it to be longer."""
    vector = Vector(replace(BASE, slow=50))
    for _ in range(4):
        call = vector.ask()
        assert call is not None
        vector.tell(call, "S", SECOND)
    return vector


def the_very_instant() -> Vector:
    """At the very end of the open time Nova lets a probe through; resilience4j a nanosecond later."""
    vector = Vector(BASE)
    vector.play("FFFF5S")
    return vector


DIFFERENCES = {  # the states of Nova, and those of resilience4j
    a_late_result: ("CCcCcCcCoHh", "CCcCcCcCoHc"),
    the_first_failed_probe: ("CcCcCcCoHhHoo", "CcCcCcCoHhHhH"),
    probes_in_all: ("CcCcCcCoHHHhH", "CcCcCcCoHHHhh"),
    fewer_calls_than_probes: ("CoHh", "CoHc"),
    slow_failures: ("CcCcCcCc", "CcCcCcCo"),
    exactly_as_slow: ("CcCcCcCo", "CcCcCcCc"),
    the_very_instant: ("CcCcCcCoHc", "CcCcCcCooo"),
}


@pytest.fixture(scope="module")
def replayed() -> tuple[list[tuple[Vector, str]], dict[str, tuple[str, str]]]:
    """Every vector with what resilience4j made of it: one call of the virtual machine for all."""
    vectors = [random_vector(Random(SEED + number), LENGTH) for number in range(VECTORS)]
    shown = [build() for build in DIFFERENCES]
    try:
        states = replay("\n".join(vector.text for vector in [*vectors, *shown]) + "\n")
    except Unavailable as why:
        pytest.skip(str(why))
    assert len(states) == VECTORS + len(shown)
    differing = zip(DIFFERENCES, shown, states[VECTORS:], strict=True)
    pairs = {build.__name__: (vector.states, theirs) for build, vector, theirs in differing}
    return list(zip(vectors, states[:VECTORS], strict=True)), pairs


Replayed = tuple[list[tuple[Vector, str]], dict[str, tuple[str, str]]]


def test_the_states_agree_where_both_mean_the_same(replayed: Replayed) -> None:
    for number, (vector, theirs) in enumerate(replayed[0]):
        same = next((at for at, (a, b) in enumerate(zip(vector.states, theirs, strict=True)) if a != b), None)
        assert same is None, f"vector {number}, {vector.settings}: after {vector.events[: same + 1][-8:]}"


def test_the_vectors_reach_every_transition_often(replayed: Replayed) -> None:
    counts = Counter[str]()
    for vector, _ in replayed[0]:
        for (before, after, cause), count in vector.breaker.transitions.items():
            counts[f"{before} {after} {cause}"] += count
    assert min(counts[step] for step in REACHED) >= 100, counts


@pytest.mark.parametrize("case", DIFFERENCES, ids=lambda build: build.__name__)
def test_what_differs_on_purpose(replayed: Replayed, case: Callable[[], Vector]) -> None:
    assert replayed[1][case.__name__] == DIFFERENCES[case], case.__doc__
