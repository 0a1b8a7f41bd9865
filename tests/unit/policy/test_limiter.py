import pytest

from nova_api.policies import AdaptivePolicy, BackpressurePolicy, Mode, PriorityPolicy
from nova_api.units import Duration, Share
from nova_sidecar.policy.limiter import CRITICAL, NORMAL, PRIORITIES, QUEUED, SHEDDABLE, Limiter, Priority
from nova_sidecar.policy.reasons import Reason, Reject

OVERLOADED = Reject(Reason.OVERLOADED, 1.0)


def waiting_room(places: int = 1, **changes: object) -> Limiter[str]:
    return Limiter(BackpressurePolicy(**{"max_concurrency": places, "threshold": 1.0, "max_queue": 3, **changes}))


def fill(limiter: Limiter[str], count: int) -> None:
    for _ in range(count):
        assert limiter.admit(0.0) is None


def wait_for_place(limiter: Limiter[str], waiter: str, now: float = 0.0, deadline_at: float = 100.0) -> float | Reject:
    assert limiter.admit(now) is QUEUED
    return limiter.enqueue(waiter, now, deadline_at)


@pytest.mark.parametrize(
    ("maximum", "threshold", "admitted"),
    [
        (1, 0.85, 1),  # utilization before admission is 0: one request always gets in
        (10, 0.85, 9),  # 8 / 10 is below, 9 / 10 above
        (100, 0.85, 86),  # 85 / 100 is not above 0.85
        (100, 0.29, 30),  # 0.29 * 100 is 28.999… in floating point
        (512, 0.85, 436),
        (1000, 0.001, 2),
        (3, 0.999, 3),
    ],
)
def test_early_rejection_begins_above_the_threshold(maximum: int, threshold: float, admitted: int) -> None:
    limiter: Limiter[str] = Limiter(BackpressurePolicy(max_concurrency=maximum, threshold=threshold))
    fill(limiter, admitted)
    assert limiter.admit(0.0) == OVERLOADED
    assert (admitted - 1) / maximum <= threshold
    assert admitted / maximum > threshold or admitted == maximum
    limiter.release(0.0)
    assert limiter.admit(0.0) is None


def test_below_the_threshold_nobody_waits() -> None:
    limiter: Limiter[str] = Limiter(BackpressurePolicy(max_concurrency=2, threshold=0.5))
    fill(limiter, 2)
    assert limiter.admit(0.0) == OVERLOADED
    assert {reason: count for reason, count in limiter.rejected.items() if count} == {Reason.OVERLOADED: 1}


def test_places_are_handed_over_in_order() -> None:
    limiter = waiting_room(places=2)
    fill(limiter, 2)
    wait_for_place(limiter, "a")
    wait_for_place(limiter, "b")
    assert limiter.release(1.0) == "a"
    assert limiter.in_flight == 2  # it never came free in between
    assert limiter.admit(1.0) is QUEUED  # so nobody overtakes b
    assert limiter.release(1.0) == "b"
    assert limiter.release(1.0) is None
    assert limiter.release(1.0) is None
    assert limiter.in_flight == 0


def test_the_wait_ends_with_the_acquire_timeout_or_the_deadline() -> None:
    limiter = waiting_room(acquire_timeout=Duration(2))
    fill(limiter, 1)
    assert wait_for_place(limiter, "a", now=10.0) == 12.0
    assert wait_for_place(limiter, "b", now=10.0, deadline_at=10.5) == 10.5


def test_a_waiter_whose_time_is_over_gets_no_place_even_if_its_timer_is_late() -> None:
    limiter = waiting_room(acquire_timeout=Duration(2))
    fill(limiter, 1)
    wait_for_place(limiter, "hurried", now=0.0, deadline_at=0.5)
    wait_for_place(limiter, "patient", now=0.0)
    assert limiter.release(1.0) == "patient"
    limiter.abandon("hurried")  # the late timer
    assert (limiter.expired, limiter.abandoned, limiter.waiting) == (1, 0, 0)


def test_who_went_away_is_passed_over() -> None:
    limiter = waiting_room()
    fill(limiter, 1)
    for waiter in ("a", "b", "c"):
        wait_for_place(limiter, waiter)
    limiter.abandon("a")
    limiter.abandon("c")
    assert limiter.release(1.0) == "b"
    assert limiter.release(1.0) is None
    assert limiter.abandoned == 2


def test_the_queue_is_bounded_and_an_abandoned_place_in_it_is_free_again() -> None:
    limiter = waiting_room(max_queue=1)
    fill(limiter, 1)
    wait_for_place(limiter, "a")
    assert limiter.admit(0.0) == Reject(Reason.QUEUE_FULL, 1.0)
    limiter.abandon("a")
    assert limiter.admit(0.0) is QUEUED


def test_without_a_queue_or_time_to_wait_it_refuses_at_once() -> None:
    no_queue, no_time = waiting_room(max_queue=0), waiting_room(acquire_timeout=Duration(0))
    fill(no_queue, 1)
    fill(no_time, 1)
    assert no_queue.admit(0.0) == Reject(Reason.QUEUE_FULL, 1.0)
    assert no_time.admit(0.0) == Reject(Reason.ACQUIRE_TIMEOUT, 1.0)


def test_off_only_counts_what_is_in_flight() -> None:
    limiter: Limiter[str] = Limiter(BackpressurePolicy(mode="Off", max_concurrency=1))
    fill(limiter, 5)
    assert (limiter.in_flight, limiter.utilization, limiter.high_water) == (5, 5.0, 5)


def test_shadow_lets_everything_in_and_counts_what_enforce_would_have_refused() -> None:
    limiter: Limiter[str] = Limiter(BackpressurePolicy(mode="Shadow", max_concurrency=2, threshold=0.5))
    fill(limiter, 5)
    assert (limiter.in_flight, limiter.would_reject, limiter.would_queue) == (5, 3, 0)
    assert limiter.shadowed is Reason.OVERLOADED
    assert set(limiter.rejected.values()) == {0}


def test_shadow_of_the_bounded_wait_tells_waiting_from_refusing() -> None:
    limiter = waiting_room(places=2, mode="Shadow", max_queue=2)
    fill(limiter, 4)
    assert limiter.shadowed is None
    fill(limiter, 2)
    assert limiter.shadowed is Reason.QUEUE_FULL
    assert (limiter.would_queue, limiter.would_reject) == (2, 2)


def test_a_higher_limit_lets_waiters_in_at_once() -> None:
    limiter = waiting_room(places=1)
    fill(limiter, 1)
    for waiter in ("a", "b", "c"):
        wait_for_place(limiter, waiter, deadline_at=0.5 if waiter == "a" else 10.0)
    more = BackpressurePolicy(max_concurrency=2, threshold=1.0)
    assert limiter.configure(more, 1.0) == ["b"]
    assert (limiter.in_flight, limiter.high_water) == (2, 2)
    assert limiter.configure(BackpressurePolicy(mode="Off"), 1.0) == ["c"]
    assert limiter.in_flight == 3


def test_a_lower_limit_cuts_nobody_off() -> None:
    limiter = waiting_room(places=3)
    fill(limiter, 3)
    wait_for_place(limiter, "a")
    assert limiter.configure(BackpressurePolicy(max_concurrency=1, threshold=1.0), 0.0) == []
    assert limiter.release(0.1) is None
    assert limiter.release(0.1) is None
    assert limiter.in_flight == 1
    assert limiter.release(0.1) == "a"


def test_a_place_given_back_twice_is_a_fault_of_the_caller() -> None:
    limiter = waiting_room()
    fill(limiter, 1)
    limiter.release(0.0)
    with pytest.raises(RuntimeError, match="without an admission"):
        limiter.release(0.0)
    assert limiter.in_flight == 0


def test_snapshot_and_repr_tell_the_state() -> None:
    limiter = waiting_room(places=2)
    fill(limiter, 2)
    wait_for_place(limiter, "a")
    assert repr(limiter) == "<Limiter 2/2 waiting=1>"
    assert limiter.snapshot() == {
        "mode": "Enforce",
        "inFlight": 2,
        "maxConcurrency": 2,
        "limit": 2,
        "utilization": 1.0,
        "highWater": 2,
        "waiting": 1,
        "queued": 1,
        "abandoned": 0,
        "expired": 0,
        "rejected": {"overloaded": 0, "queue_full": 0, "acquire_timeout": 0, "deadline_exceeded": 0},
        "refusedByPriority": {"critical": 0, "normal": 0, "sheddable": 0},
        "wouldQueue": 0,
        "wouldReject": 0,
    }


def classed(places: int = 10, mode: Mode = "Enforce", sheddable: float = 0.6, **changes: object) -> Limiter[str]:
    priority = PriorityPolicy(mode=mode, sheddable=Share(sheddable))
    return Limiter(BackpressurePolicy(**{"max_concurrency": places, "priority": priority, **changes}))  # type: ignore[arg-type]


def test_what_matters_less_is_refused_first() -> None:
    limiter = classed()
    admitted = {}
    for priority in (SHEDDABLE, NORMAL, CRITICAL):
        while limiter.admit_as(priority, 0.0) is None:
            pass
        admitted[PRIORITIES[priority]] = limiter.in_flight
    assert admitted == {"sheddable": 7, "normal": 9, "critical": 10}  # above 60 %, above 85 %, and at 100 %
    assert limiter.refused_by_priority == [1, 1, 1]
    assert limiter.rejected[Reason.OVERLOADED] == 3


def test_shadow_of_the_classes_counts_and_refuses_nothing_more() -> None:
    limiter = classed(mode="Shadow")
    for _ in range(9):
        assert limiter.admit_as(SHEDDABLE, 0.0) is None
    assert (limiter.would_reject, limiter.shadowed) == (2, Reason.OVERLOADED)
    assert limiter.admit_as(CRITICAL, 0.0) == OVERLOADED  # the threshold stands for all


def test_who_matters_more_is_served_first() -> None:
    limiter = classed(1, sheddable=1.0, threshold=1.0, max_queue=8)
    assert limiter.admit_as(NORMAL, 0.0) is None
    order: list[tuple[str, Priority]] = [("s1", 2), ("n1", 1), ("c1", 0), ("s2", 2), ("n2", 1), ("c2", 0)]
    for name, priority in order:
        assert limiter.admit_as(priority, 0.0) is QUEUED
        limiter.enqueue(name, 0.0, 100.0, priority)
    assert [limiter.release(0.1) for _ in range(6)] == ["c1", "c2", "n1", "n2", "s1", "s2"]


def test_a_queue_full_of_what_matters_less_keeps_room_for_what_matters_more() -> None:
    limiter = classed(1, sheddable=1.0, threshold=1.0, max_queue=8)
    assert limiter.admit_as(NORMAL, 0.0) is None
    waiting = {}
    for priority in (SHEDDABLE, NORMAL, CRITICAL):
        while limiter.admit_as(priority, 0.0) is QUEUED:
            limiter.enqueue(f"{priority}-{limiter.waiting}", 0.0, 100.0, priority)
        waiting[PRIORITIES[priority]] = limiter.waiting
    assert waiting == {"sheddable": 4, "normal": 7, "critical": 8}
    assert limiter.rejected[Reason.QUEUE_FULL] == 3


def served_at_a_pace(seconds: float) -> Limiter[str]:
    """A full limiter in front of which somebody always waits; a place comes free every so many seconds."""
    limiter = waiting_room(max_queue=1000, acquire_timeout=Duration(5))
    fill(limiter, 1)
    wait_for_place(limiter, "first")
    for number in range(20):
        wait_for_place(limiter, f"warm {number}", number * seconds)
        limiter.release((number + 1) * seconds)
    return limiter


def test_who_could_not_be_served_in_time_does_not_wait() -> None:
    limiter = served_at_a_pace(0.5)
    assert limiter.waiting == 1
    assert wait_for_place(limiter, "in time", 10.0, 11.1) == 11.1  # two places, half a second each
    assert wait_for_place(limiter, "too late", 10.0, 11.4) == Reject(Reason.DEADLINE_EXCEEDED)
    for number in range(8):
        assert wait_for_place(limiter, f"patient {number}", 10.0) == 15.0
    assert wait_for_place(limiter, "too many", 10.0) == Reject(Reason.ACQUIRE_TIMEOUT, 1.0)
    assert limiter.rejected[Reason.DEADLINE_EXCEEDED] == limiter.rejected[Reason.ACQUIRE_TIMEOUT] == 1
    assert limiter.waiting == 10


def test_who_matters_more_waits_only_behind_its_like() -> None:
    limiter = classed(1, sheddable=1.0, threshold=1.0, max_queue=100, acquire_timeout=Duration(5))
    assert limiter.admit_as(NORMAL, 0.0) is None
    for number in range(40):
        limiter.enqueue(f"normal {number}", 0.0, 100.0, NORMAL)
    for number in range(20):
        limiter.release(number * 0.2)
    assert limiter.enqueue("normal", 4.0, 6.0, NORMAL) == Reject(Reason.DEADLINE_EXCEEDED)
    assert limiter.enqueue("critical", 4.0, 6.0, CRITICAL) == 6.0


def test_an_old_pace_says_nothing_of_a_new_queue() -> None:
    limiter = served_at_a_pace(0.5)
    while limiter.in_flight:
        limiter.release(10.5)
    fill(limiter, 1)
    wait_for_place(limiter, "first", 60.0)
    assert wait_for_place(limiter, "second", 60.0, 60.1) == 60.1


def test_the_limit_that_is_found_applies_in_enforce_and_is_shown_in_shadow() -> None:
    for mode, limit in (("Enforce", 8), ("Shadow", 100)):
        adaptive = AdaptivePolicy(mode=mode, min_concurrency=8)  # type: ignore[arg-type]
        limiter: Limiter[str] = Limiter(BackpressurePolicy(max_concurrency=100, threshold=1.0, adaptive=adaptive))
        assert (limiter.limit, limiter.snapshot()["limit"]) == (limit, 8)
        assert limiter.snapshot()["adaptive"]["mode"] == mode
    limiter.configure(BackpressurePolicy(max_concurrency=100), 0.0)
    assert (limiter.adaptive, limiter.limit) == (None, 100)


def test_a_limit_that_grows_lets_waiters_in() -> None:
    adaptive = AdaptivePolicy(mode="Enforce", min_concurrency=1)
    limiter = waiting_room(places=10, adaptive=adaptive)
    fill(limiter, 1)
    for name in ("a", "b", "c"):
        wait_for_place(limiter, name)
    assert limiter.adaptive is not None
    limiter.adaptive.limit = 3.4
    assert limiter.resize(0.0) == ["a", "b"]
    limiter.adaptive.limit = 1.0
    assert limiter.resize(0.0) == []
    assert [limiter.release(0.1) for _ in range(3)] == [None, None, "c"]
