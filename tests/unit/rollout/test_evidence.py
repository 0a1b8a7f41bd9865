"""Differences of counters, over restarts, new pods and new leaders."""

from typing import Literal

from nova_operator.rollout.evidence import Evidence, Figures
from nova_operator.sidecars import Traffic

BOUNDS = (0.1, 1.0)
Track = Literal["stable", "canary"]


def counted(requests: int, failed: int = 0, late: int = 0) -> Traffic:
    return Traffic(requests, failed, BOUNDS, (requests - late, 0, late))


def take(evidence: Evidence, *counters: tuple[str, Track | None, Traffic]) -> Figures:
    evidence.take(counters)
    return evidence.of("canary")


def begun() -> Evidence:
    evidence = Evidence()
    evidence.begin(1, Figures(), Figures())
    return evidence


def test_what_was_counted_before_the_first_look_is_not_of_this_step() -> None:
    evidence = begun()
    assert take(evidence, ("a", "canary", counted(1000, 50))) == Figures()
    assert take(evidence, ("a", "canary", counted(1010, 51, 2))) == Figures(10, 1, BOUNDS, (8, 0, 2))


def test_all_that_a_restarted_sidecar_says_is_new() -> None:
    evidence = begun()
    take(evidence, ("a", "canary", counted(1000)))
    assert take(evidence, ("a", "canary", counted(7, 3))) == Figures(7, 3, BOUNDS, (7, 0, 0))


def test_a_restart_shows_also_where_the_sum_has_grown_since() -> None:
    evidence = begun()
    take(evidence, ("a", "canary", counted(10, late=10)))
    assert take(evidence, ("a", "canary", counted(12, late=1))).durations == (11, 0, 1)


def test_pods_are_summed_by_version_and_those_of_neither_are_left_out() -> None:
    evidence = begun()
    pods: list[tuple[str, Track | None]] = [("a", "canary"), ("b", "canary"), ("c", "stable"), ("d", None)]
    evidence.take((uid, track, counted(0)) for uid, track in pods)
    evidence.take((uid, track, counted(5, 1)) for uid, track in pods)
    assert evidence.of("canary") == Figures(10, 2, BOUNDS, (10, 0, 0))
    assert evidence.of("stable") == Figures(5, 1, BOUNDS, (5, 0, 0))


def test_a_pod_that_was_silent_for_a_look_loses_nothing_but_its_beginning() -> None:
    evidence = begun()
    take(evidence, ("a", "canary", counted(5)))
    take(evidence)
    assert take(evidence, ("a", "canary", counted(9))).requests == 0
    assert take(evidence, ("a", "canary", counted(10))).requests == 1


def test_a_new_step_begins_with_nothing_and_the_same_one_goes_on() -> None:
    evidence = begun()
    take(evidence, ("a", "canary", counted(0)))
    take(evidence, ("a", "canary", counted(5)))
    evidence.begin(1, Figures(), Figures())
    assert evidence.of("canary").requests == 5
    evidence.begin(2, Figures(), Figures())
    assert take(evidence, ("a", "canary", counted(6))).requests == 1


def test_a_new_leader_goes_on_from_what_was_written_down() -> None:
    evidence = Evidence()
    evidence.begin(1, Figures(900, 1), Figures(100, 20))
    take(evidence, ("a", "canary", counted(50)))
    assert take(evidence, ("a", "canary", counted(60, 2))) == Figures(110, 22, BOUNDS, (10, 0, 0))


def test_durations_in_other_buckets_are_left_out_of_a_sum() -> None:
    both = Figures(5, 0, (1.0,), (5, 0)).plus(Figures(3, 1, (2.0,), (1, 2)))
    assert both == Figures(8, 1, (1.0,), (5, 0))


def test_a_pod_that_says_more_failures_than_requests_is_believed_no_more_than_its_requests() -> None:
    """Whoever may make a pod of the service may answer in a sidecar's place."""
    evidence = begun()
    take(evidence, ("a", "canary", Traffic(5, 1, BOUNDS, (5, 0, 0))))
    assert take(evidence, ("a", "canary", Traffic(7, 9, BOUNDS, (7, 0, 0)))) == Figures(2, 2, BOUNDS, (2, 0, 0))
    assert take(evidence, ("a", "canary", Traffic(3, 9, BOUNDS, (3, 0, 0)))) == Figures(5, 5, BOUNDS, (5, 0, 0))
