"""Leader election: two candidates with clocks of their own, and a Lease that is only changed as it was read."""

from typing import Any

import pytest

from nova_operator.lease import DURATION, RENEW_DEADLINE, RETRY, Observer, held, may_take, released

WALL = "2026-01-01T00:00:00.000000Z"


def lease(holder: str | None, renewed: str = WALL, seconds: int = DURATION) -> dict[str, Any]:
    return {"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": seconds}}


def observed(of: dict[str, Any], at: float) -> Observer:
    observer = Observer()
    observer.see(of, at)
    return observer


@pytest.mark.parametrize(
    ("holder", "silent_for", "may"),
    [
        (None, 0.0, True),
        ("", 0.0, True),
        ("me", 0.0, True),
        ("other", 0.0, False),
        ("other", DURATION - 0.1, False),
        ("other", DURATION, True),
    ],
)
def test_a_lease_is_taken_when_it_is_free_mine_or_silent(holder: str | None, silent_for: float, may: bool) -> None:
    there = lease(holder)
    assert may_take(there, "me", observed(there, 100.0), 100.0 + silent_for) is may


def test_each_renewal_starts_the_silence_anew() -> None:
    observer = observed(lease("other", "T1"), 0.0)
    observer.see(lease("other", "T1"), 10.0)
    observer.see(lease("other", "T2"), 14.0)
    assert not may_take(lease("other", "T2"), "me", observer, 16.0)
    assert may_take(lease("other", "T2"), "me", observer, 14.0 + DURATION)


def test_a_lease_never_written_by_a_leader_is_free() -> None:
    empty = {"metadata": {"name": "x"}}
    assert may_take(empty, "me", observed(empty, 0.0), 0.0)


def test_a_leader_stops_before_another_may_begin() -> None:
    assert RENEW_DEADLINE + RETRY < DURATION


def test_taking_over_counts_a_transition_and_renewing_does_not() -> None:
    first = held(None, "nova", "nova-operator", "a", "T1")
    again = held(first, "nova", "nova-operator", "a", "T2")
    taken = held(again, "nova", "nova-operator", "b", "T3")
    assert [one["spec"]["leaseTransitions"] for one in (first, again, taken)] == [0, 0, 1]
    assert [one["spec"]["acquireTime"] for one in (first, again, taken)] == ["T1", "T1", "T3"]
    assert [one["spec"]["renewTime"] for one in (first, again, taken)] == ["T1", "T2", "T3"]
    assert first["metadata"] == {"name": "nova-operator", "namespace": "nova"}


def test_what_others_keep_in_a_lease_stays_there() -> None:
    there = {"metadata": {"name": "x", "resourceVersion": "5"}, "spec": {"holderIdentity": "", "strategy": "Old"}}
    taken = held(there, "nova", "x", "a", "T")
    assert (taken["metadata"]["resourceVersion"], taken["spec"]["strategy"]) == ("5", "Old")


def test_a_released_lease_is_free_at_once() -> None:
    given_back = released(held(None, "nova", "x", "a", "T1"), "T2")
    assert may_take(given_back, "b", observed(given_back, 0.0), 0.0)
