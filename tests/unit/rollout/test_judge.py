"""Verdicts on simulated traffic: no false alarms however often is looked, and real regressions found soon."""

from bisect import bisect_left
from collections.abc import Callable
from random import Random

import pytest

from nova_api.rollout import RolloutChecks
from nova_api.units import Share
from nova_operator.rollout.evidence import Figures
from nova_operator.rollout.judge import Judgement, judge, p99

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CHECKS = RolloutChecks()

Latency = Callable[[Random], float]


def usual(random: Random) -> float:
    """About 8 ms, p99 about 40 ms."""
    return random.lognormvariate(-4.8, 0.7)


def traffic(random: Random, requests: int, errors: float, latency: Latency = usual) -> Figures:
    """Requests that fail with this probability."""
    durations = [0] * (len(BOUNDS) + 1)
    for _ in range(requests):
        durations[bisect_left(BOUNDS, latency(random))] += 1
    failed = sum(random.random() < errors for _ in range(requests))
    return Figures(requests, failed, BOUNDS, tuple(durations))


def verdict(stable: Figures, canary: Figures, checks: RolloutChecks = CHECKS, *, alone: bool = False) -> Judgement:
    return judge(checks, stable, canary, steps=3, alone=alone)


def requests_until_bad(random: Random, stable: float, canary: float, slow: Latency = usual, looks: int = 100) -> int:
    """Requests to the canary until it is found out, looking after each 20; 0 if it never is. It gets one tenth."""
    ours, theirs = Figures(), Figures()
    for _ in range(looks):
        ours = ours.plus(traffic(random, 180, stable))
        theirs = theirs.plus(traffic(random, 20, canary, slow))
        if verdict(ours, theirs).outcome == "bad":
            return theirs.requests
    return 0


@pytest.mark.parametrize("errors", [0.0, 0.01, 0.05, 0.3])
def test_equal_versions_are_hardly_ever_told_apart(errors: float) -> None:
    """With the default confidence of 99 % one canary in a hundred may be taken back; here 40 looks at each of 60."""
    random = Random(f"{errors}")
    found = sum(requests_until_bad(random, errors, errors, looks=40) > 0 for _ in range(60))
    assert found <= 2


def test_what_the_checks_allow_is_allowed() -> None:
    random = Random("allowed")
    found = sum(requests_until_bad(random, 0.01, 0.019, looks=40) > 0 for _ in range(60))
    assert found <= 2


@pytest.mark.parametrize(("errors", "within"), [(1.0, 100), (0.5, 100), (0.2, 160), (0.1, 400), (0.05, 1200)])
def test_a_canary_that_fails_is_found_out_soon(errors: float, within: int) -> None:
    random = Random(f"{errors}")
    needed = sorted(requests_until_bad(random, 0.001, errors) for _ in range(15))
    assert needed[0] > 0
    assert needed[7] <= within


@pytest.mark.parametrize(("factor", "within"), [(10, 120), (4, 300)])
def test_a_slow_canary_is_found_out_soon(factor: float, within: int) -> None:
    random = Random(f"{factor}")
    slow = [requests_until_bad(random, 0.0, 0.0, lambda r: factor * usual(r)) for _ in range(15)]
    assert min(slow) > 0
    assert sorted(slow)[7] <= within


def test_a_slow_tail_is_found_out_though_the_middle_is_as_before() -> None:
    random = Random("tail")
    tail = requests_until_bad(random, 0.0, 0.0, lambda r: 2.0 if r.random() < 0.05 else usual(r))
    assert 0 < tail <= 800


def test_an_outage_that_hits_both_blames_nobody() -> None:
    random = Random("outage")
    stable, canary = traffic(random, 900, 0.0), traffic(random, 100, 0.0)
    stable, canary = stable.plus(traffic(random, 900, 1.0)), canary.plus(traffic(random, 100, 1.0))
    assert verdict(stable, canary).outcome == "good"


def test_a_faster_canary_is_good() -> None:
    random = Random("fast")
    stable = traffic(random, 9000, 0.0, lambda r: 10 * usual(r))
    assert verdict(stable, traffic(random, 1000, 0.0)).outcome == "good"


def test_little_traffic_is_no_verdict_unless_most_of_it_fails() -> None:
    assert verdict(Figures(900), Figures(99, 20)).outcome == "few"
    assert verdict(Figures(900), Figures(40, 40)).outcome == "bad"
    assert verdict(Figures(900, 900), Figures(40, 40)).outcome == "few"  # the stable version fails as much
    assert verdict(Figures(), Figures(1000, 1000)).outcome == "few"  # there is nothing to compare with
    assert verdict(Figures(99), Figures(1000)).message == (
        "the stable version got fewer than the 100 requests that a verdict takes"
    )
    assert verdict(Figures(99), Figures()).message.startswith("the canary got fewer than the 100")


def test_without_a_stable_version_only_the_worst_is_bad() -> None:
    assert verdict(Figures(), Figures(1000, 300), alone=True).outcome == "good"
    assert verdict(Figures(), Figures(1000, 700), alone=True).outcome == "bad"
    assert verdict(Figures(), Figures(50), alone=True).outcome == "few"


def test_the_message_names_the_figures() -> None:
    found = verdict(Figures(9000, 9), Figures(1000, 200))
    assert (
        found.message == "of the canary's requests 20.0% (200 of 1000) failed, of the stable version 0.1% (9 of 9000)"
    )
    slow = Figures(1000, 0, (0.1, 1.0), (0, 500, 500))
    fast = Figures(9000, 0, (0.1, 1.0), (9000, 0, 0))
    assert "50.0% took longer than 1 s, of the stable version's 0.0%" in verdict(fast, slow).message


def test_sidecars_that_count_in_other_buckets_are_not_compared() -> None:
    slow = Figures(1000, 0, (0.1, 1.0), (0, 0, 1000))
    assert verdict(Figures(1000, 0, (0.2, 1.0), (1000, 0, 0)), slow).outcome == "good"


def test_a_bolder_confidence_needs_less() -> None:
    stable, canary = Figures(900, 0), Figures(150, 13)
    assert verdict(stable, canary, RolloutChecks(confidence=Share(0.6))).outcome == "bad"
    assert verdict(stable, canary, RolloutChecks(confidence=Share(0.9999))).outcome == "good"


@pytest.mark.parametrize(
    ("durations", "expected"),
    [((0, 0, 0), None), ((100, 0, 0), 0.099), ((0, 100, 0), 0.991), ((0, 0, 1), float("inf")), ((98, 2, 0), 0.55)],
)
def test_p99(durations: tuple[int, ...], expected: float | None) -> None:
    assert p99(Figures(100, 0, (0.1, 1.0), durations)) == (None if expected is None else pytest.approx(expected))
