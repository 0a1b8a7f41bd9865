"""The adaptive limit against apps whose optimum is known, in virtual time."""

from collections.abc import Callable
from random import Random
from statistics import mean

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nova_api.policies import PriorityPolicy
from nova_sidecar.policy.adaptive import LONGEST_WINDOW, WINDOW, AdaptiveLimit
from nova_sidecar.policy.limiter import SHEDDABLE
from tests.unit.policy.simulation import App, Draw, exponential, fixed, lognormal, policy

STEPS: dict[str, Callable[[App], None]] = {
    "half": lambda app: setattr(app, "workers", app.workers // 2),
    "double": lambda app: setattr(app, "workers", app.workers * 2),
    "latency x 3": lambda app: setattr(app, "service", app.service * 3),
}


def settled(draw: Draw = fixed, workers: int = 50, service: float = 0.02, seed: int = 1, **given_: float) -> App:
    """An app that had five quiet seconds, and then eight of twice as many calls as it can answer."""
    app = App(policy(**given_), workers, service, draw, seed)  # type: ignore[arg-type]
    app.rate = 0.5 * workers / service
    app.run(5)
    app.overload()
    app.run(8)
    return app


@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # each takes a second
@given(
    workers=st.integers(16, 48),
    service=st.sampled_from([0.01, 0.02]),
    tolerance=st.sampled_from([1.5, 2.0, 3.0]),
    threshold=st.sampled_from([1.0, 0.85]),
    seed=st.integers(0, 1000),
)
def test_it_settles_within_a_tenth_of_the_optimum(
    workers: int, service: float, tolerance: float, threshold: float, seed: int
) -> None:
    app = settled(fixed, workers, service, seed, tolerance=tolerance, threshold=threshold)
    limits = app.limits(app.now - 3)
    assert abs(mean(limits) - app.optimum) <= 0.1 * app.optimum + 1  # one, as limits are whole
    assert min(limits) >= 0.9 * mean(limits), "a dip"


@pytest.mark.parametrize("draw", [exponential, lognormal])
@pytest.mark.parametrize("seed", range(2))
def test_it_settles_where_service_times_vary(draw: Draw, seed: int) -> None:
    app = settled(draw, 50, 0.02, seed)
    limits = app.limits(app.now - 3)
    assert abs(mean(limits) - app.optimum) <= 0.1 * app.optimum
    assert min(limits) >= 0.9 * mean(limits), "a dip"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("draw", [fixed, exponential])
def test_it_recovers_from_a_step_within_five_seconds(step: str, draw: Draw) -> None:
    app = settled(draw)
    STEPS[step](app)
    app.overload()
    app.run(5)
    began = app.now
    app.run(2)
    assert abs(mean(app.limits(began)) - app.optimum) <= 0.1 * app.optimum


class SheddableOnly(App):
    """An app whose callers may use a part of the limit alone."""

    def _admit(self) -> bool:
        return self.limiter.admit_as(SHEDDABLE, self.now) is None


class OneTenant(App):
    """An app with a single caller, who may have half of the limit."""

    def _admit(self) -> bool:
        if self.in_flight + 1 > 0.5 * self.limiter.limit:
            self.adaptive.press()
            return False
        return super()._admit()


@pytest.mark.parametrize(("kind", "share"), [(SheddableOnly, 0.6), (OneTenant, 0.5)])
def test_who_may_have_a_share_of_it_alone_still_finds_it(kind: type[App], share: float) -> None:
    """The limit is never full, and would stay where it began; nor may a full app then pass for a calm one."""
    given_ = msgspec.structs.replace(policy(threshold=0.85), priority=PriorityPolicy(mode="Enforce"))
    app = kind(given_, 50, 0.02, fixed, 1)
    app.rate = 0.5 * app.workers / app.service
    app.run(5)
    app.overload()
    app.run(12)
    in_flight = mean(app.limits(app.now - 3)) * share
    assert 0.85 * 1.5 * app.workers <= in_flight <= 1.25 * 1.5 * app.workers


def test_full_throughput_is_kept_while_it_settles_and_after_each_step() -> None:
    app = settled()
    for step in STEPS.values():
        step(app)
        app.overload()
        app.run(5)
        answered = app.answered
        app.run(2)
        assert app.answered - answered >= 0.97 * 2 * app.workers / app.service


def test_it_does_not_grow_while_it_is_not_used() -> None:
    app = App(policy(least=20), 50, 0.02, fixed, 1)
    app.rate = 100.0  # two in flight
    app.run(20)
    assert set(app.limits(0)) == {20}


def test_it_starts_with_what_is_in_flight_and_stays_within_its_bounds() -> None:
    assert AdaptiveLimit(policy(least=4, most=100), 0.0, in_flight=30).limit == 30
    assert AdaptiveLimit(policy(least=4, most=100), 0.0, in_flight=300).limit == 100
    limit = AdaptiveLimit(policy(least=4, most=100), 0.0, in_flight=30)
    limit.configure(policy(least=4, most=20))
    assert limit.limit == 20
    limit.configure(policy(least=40, most=50))
    assert limit.limit == 40


def test_an_app_met_in_overload_is_not_taken_for_normal() -> None:
    """Twice as many calls as it can answer from the first second on: the first latencies seen are already queues."""
    app = App(policy(), 50, 0.02, fixed, 1)
    app.overload()
    app.run(10)
    assert abs(mean(app.limits(8)) - app.optimum) <= 0.1 * app.optimum


def test_below_the_lowest_limit_the_lowest_limit_stands() -> None:
    """Two workers: eight at once are a queue of six, and no reason to believe that the app has become slower."""
    app = App(policy(), 2, 0.01, fixed, 1)
    app.rate = 40.0
    app.run(10)
    app.overload()
    app.run(30)
    assert mean(app.limits(20)) <= 8 * 1.1
    assert app.adaptive.relearned == 0


def test_too_high_a_long_average_is_corrected_when_load_eases() -> None:
    app = settled()
    app.adaptive.long *= 3  # as after an app became faster while it was full
    app.run(5)
    assert mean(app.limits(app.now - 1)) > 1.5 * app.optimum
    app.rate = 0.4 * app.workers / app.service
    app.run(5)
    app.overload()
    app.run(5)
    assert abs(mean(app.limits(app.now - 1)) - app.optimum) <= 0.1 * app.optimum


def test_calls_without_an_answer_lower_the_limit_to_its_least() -> None:
    limit = AdaptiveLimit(policy(), 0.0, in_flight=100)
    now = 0.0
    for _ in range(5000):
        now += 0.005
        limit.drop(int(limit.limit), now)
    assert limit.limit == 8
    assert (limit.short, limit.long) == (0, 0)


def test_a_few_lost_calls_among_many_do_not_move_it() -> None:
    app = settled()
    before = app.adaptive.limit
    for _ in range(20):
        app.adaptive.drop(app.in_flight, app.now)
        app.run(0.25)
    assert app.adaptive.limit == pytest.approx(before, rel=0.1)


def test_it_decides_once_per_window() -> None:
    limit = AdaptiveLimit(policy(), 0.0)
    moved = [limit.observe(0.01, 8, number * 0.001) for number in range(1000)]
    assert 1 <= sum(moved) <= 1 / WINDOW


def test_snapshot_and_repr_tell_the_state() -> None:
    limit = AdaptiveLimit(policy(), 0.0)
    assert limit.snapshot() == {"limit": 8, "shortLatencySeconds": 0.0, "longLatencySeconds": 0.0, "relearned": 0}
    assert repr(limit) == "<AdaptiveLimit 8.0 short=0.0000 long=0.0000>"


class AdaptiveMachine(RuleBasedStateMachine):
    """Whatever it is told, the limit keeps its bounds and the averages stay within what was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.least, self.most = 4, 64
        self.seen: list[float] = []
        self.limit = AdaptiveLimit(policy(least=4, most=64), 0.0)
        self.rng = Random(1)

    @rule(
        latency=st.floats(1e-6, 100.0),
        count=st.integers(1, 50),
        used=st.floats(0, 1.5),
        seconds=st.sampled_from([0.0, 0.001, 0.05, 5.0]),
    )
    def answers(self, latency: float, count: int, used: float, seconds: float) -> None:
        for _ in range(count):
            self.now += seconds * self.rng.random()
            self.seen.append(latency)
            self.limit.observe(latency, int(used * self.limit.limit), self.now)

    @rule(count=st.integers(1, 30), seconds=st.sampled_from([0.0, 0.01, LONGEST_WINDOW]))
    def losses(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.now += seconds
            self.limit.drop(int(self.limit.limit), self.now)

    @rule(least=st.integers(1, 100), most=st.integers(1, 100))
    def configure(self, least: int, most: int) -> None:
        self.least, self.most = min(least, most), most
        self.limit.configure(policy(least=least, most=most))

    @invariant()
    def within_bounds(self) -> None:
        assert self.least <= self.limit.limit <= self.most

    @invariant()
    def averages_are_averages(self) -> None:
        for average in (self.limit.short, self.limit.long):
            assert average == 0 or min(self.seen) * 0.999 <= average <= max(self.seen) * 1.001


TestAdaptiveMachine = AdaptiveMachine.TestCase
TestAdaptiveMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
