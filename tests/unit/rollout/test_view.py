"""What `nova rollout status` prints."""

from typing import Any

import pytest

from nova_api.status import RolloutStatus, TrackFigures
from nova_cli.rollout.view import describe

NOW = 1_767_607_260.0  # 2026-01-05T10:01:00Z
STEPS = [{"weight": 10, "hold": "5m", "gate": True}, {"weight": 100, "hold": "1m"}]
UNDER_WAY = RolloutStatus(
    phase="Gated", step=1, weight=10, stable="aaa", canary="bbb", hold_since="2026-01-05T10:00:00Z",
    canary_figures=TrackFigures(requests=200, failed=1, p99="0.012s"), message="waits for: nova rollout promote",
)  # fmt: skip


def document(**rollout: Any) -> dict[str, Any]:
    return {"metadata": {"name": "shop", "namespace": "web"}, "spec": {"rollout": rollout}}


def test_a_canary_under_way() -> None:
    assert describe(document(strategy="Canary", steps=STEPS), UNDER_WAY, NOW).splitlines() == [
        "shop in web: Gated, canary bbb, stable aaa",
        "  step    1 of 2, 60 s of 5m, with a gate",
        "  weight  10% of the requests, by Replicas",
        "  canary  200 requests, 0.50% failed, p99 0.012s",
        "  stable  no requests",
        "  waits for: nova rollout promote",
    ]


def test_a_canary_that_comes_into_force_since_nobody_asks_for_one_any_more() -> None:
    """The section is not stored then."""
    last = RolloutStatus(phase="Promoting", step=2, weight=100, stable="aaa", canary="bbb", message="it comes")
    said = describe({"metadata": {"name": "shop", "namespace": "web"}, "spec": {}}, last, NOW).splitlines()
    assert said[1:3] == ["  step    2 of 3, its pods are starting", "  weight  100% of the requests, by Replicas"]


@pytest.mark.parametrize(
    ("strategy", "status", "expected"),
    [
        ("Canary", RolloutStatus(), "shop in web: no canary (a changed pod template starts one)"),
        ("Rolling", RolloutStatus(), "shop in web: no canary (spec.rollout.strategy is Rolling)"),
        ("Canary", RolloutStatus(message="gone"), "shop in web: no canary (gone)"),
        ("Canary", RolloutStatus(phase="Aborted", canary="b", stable="a", message="it fails"),
         "shop in web: Aborted, canary b, stable a\n  it fails"),
    ],
)  # fmt: skip
def test_without_one(strategy: str, status: RolloutStatus, expected: str) -> None:
    assert describe(document(strategy=strategy), status, NOW) == expected
