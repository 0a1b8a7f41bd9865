"""How many pods each version has, and who gets the requests."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_api.rollout import Rollout
from nova_api.status import RolloutStatus
from nova_operator.rollout.wanted import Wanted, sizes, wanted

REPLICAS = Rollout(strategy="Canary")
ROUTE = Rollout(strategy="Canary", weights="HTTPRoute")


def at(weight: int, phase: Any = "Progressing") -> RolloutStatus:
    return RolloutStatus(phase=phase, step=1, weight=weight, canary="new", stable="old")


def want(status: RolloutStatus, ready: int, *, rollout: Rollout = REPLICAS, **other: Any) -> Wanted:
    given_: dict[str, Any] = {"replicas": 10, "stable_tracked": True, **other}
    return wanted(rollout, status, canary_available=ready, **given_)


@pytest.mark.parametrize(
    ("replicas", "weight", "expected"),
    [(10, 10, (9, 1)), (10, 11, (8, 2)), (3, 10, (2, 1)), (1, 10, (1, 1)), (10, 50, (5, 5)), (10, 99, (1, 10)),
     (10, 100, (5, 10)), (3, 100, (2, 3)), (1, 100, (1, 1)), (1000, 1, (990, 10))],
)  # fmt: skip
def test_sizes(replicas: int, weight: int, expected: tuple[int, int]) -> None:
    assert sizes(replicas, weight, autoscaled=False) == expected


@pytest.mark.parametrize(
    ("replicas", "weight", "canary"), [(9, 10, 1), (10, 10, 2), (10, 50, 10), (10, 90, 10), (10, 100, 10), (1, 1, 1)]
)
def test_an_autoscaled_stable_version_keeps_its_pods(replicas: int, weight: int, canary: int) -> None:
    assert sizes(replicas, weight, autoscaled=True) == (replicas, canary)


@given(st.integers(1, 500), st.integers(1, 99), st.integers(0, 500))
def test_never_fewer_pods_than_wanted_are_ready(replicas: int, weight: int, ready: int) -> None:
    """While the canary's pods start, the stable version keeps its own."""
    one = want(at(weight), ready, replicas=replicas)
    assert one.stable_replicas is not None
    assert one.stable_replicas + ready >= replicas
    assert one.stable_replicas >= 1


@pytest.mark.parametrize(("ready", "stable"), [(0, 10), (3, 7), (5, 5), (9, 5)])
def test_the_stable_version_gives_way_as_the_canary_becomes_ready(ready: int, stable: int) -> None:
    assert want(at(50), ready).stable_replicas == stable


def test_replicas_spread_requests_by_pods_until_the_last_step() -> None:
    assert want(at(50), 5).traffic == "all"
    assert want(at(100), 9).traffic == "all"
    assert want(at(100), 10).traffic == "canary"
    assert want(at(50), 5).canary_service is None


def test_the_stable_version_has_all_requests_until_a_pod_of_the_canary_is_ready() -> None:
    """Pods of a canary before this one may still be there, and nobody judges them."""
    assert (want(at(50), 0).traffic, want(at(50), 0).siblings) == ("stable", "stable")
    assert want(at(50), 1).traffic == "all"
    assert want(at(50), 0, stable_tracked=False).traffic == "all"


def test_a_route_sends_the_canary_its_share_and_the_service_goes_to_the_stable_version() -> None:
    one = want(at(50), 5, rollout=ROUTE)
    assert (one.traffic, one.canary_service, one.canary_weight) == ("stable", "canary", 50)
    starting = want(at(50), 0, rollout=ROUTE)
    assert (starting.canary_service, starting.canary_weight) == ("stable", 0)
    assert want(at(100), 10, rollout=ROUTE).traffic == "canary"
    assert want(at(50), 5, rollout=ROUTE, stable_tracked=False).traffic == "all"


def test_what_was_taken_back_gets_no_request_and_has_no_pod() -> None:
    aborted = want(at(0, "Aborted"), 3)
    assert aborted == Wanted(old_template=True, traffic="stable", siblings="stable")
    assert want(at(0, "Aborted"), 3, stable_tracked=False).traffic == "all"


def test_clients_that_stay_with_their_version_are_handed_over_while_both_serve() -> None:
    sticky = Rollout(strategy="Canary", weights="HTTPRoute", sticky=True)
    assert want(at(50), 5, rollout=sticky).siblings == "all"
    assert want(at(50), 5, rollout=ROUTE).siblings == "stable"
    assert want(at(100), 10, rollout=sticky).siblings == "canary"
    assert want(at(0, "Aborted"), 0, rollout=sticky).siblings == "stable"


def test_a_promotion_gives_the_stable_version_the_template_and_all_its_pods_while_the_canary_serves() -> None:
    one = want(at(100, "Promoting"), 10)
    assert (one.old_template, one.stable_replicas, one.canary_replicas, one.traffic) == (False, None, 10, "canary")


def test_who_hears_late_of_the_end_of_a_canary_reaches_the_stable_version() -> None:
    assert want(at(0, "Aborted"), 0, rollout=ROUTE).canary_service == "stable"
    assert want(at(0, "Promoted"), 0, rollout=ROUTE).canary_service == "all"
    promoting = want(at(100, "Promoting"), 10, rollout=ROUTE)
    assert (promoting.traffic, promoting.canary_weight, promoting.canary_service) == ("canary", 0, "canary")


@pytest.mark.parametrize("phase", ["Idle", "Promoted"])
def test_without_a_canary_nothing_is_different(phase: Any) -> None:
    assert want(at(0, phase), 0) == Wanted()


def test_an_autoscaled_deployment_keeps_what_the_autoscaler_says() -> None:
    assert want(at(10), 1, autoscaled=True).stable_replicas is None


@pytest.mark.parametrize("phase", ["Progressing", "Promoting"])
def test_a_service_of_no_pods_sends_nothing_to_a_canary_of_none(phase: Any) -> None:
    assert want(at(100, phase), 0, replicas=0).traffic == "stable"
