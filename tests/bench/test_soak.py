"""The soak: its arithmetic, and twenty seconds of it."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.loopback.support.waiting import eventually

from .soak import Plan, main, soak, table
from .soak_load import Ledger, callers
from .soak_verdict import Bounds, Sample, per_minute, problems, slope

QUIET = Sample(0.0, 50_000, 34, 4, 0, 0, 0, 0, 0, 0.0)


def series(kib_per_minute: float, noise: float = 0.0) -> list[Sample]:
    """Ten minutes, a look every five seconds; caches fill in the first two."""
    rng = random.Random(1)
    return [
        replace(
            QUIET,
            seconds=float(at),
            rss_kib=round(50_000 + 20 * min(at, 120) + kib_per_minute * at / 60 + rng.uniform(-noise, noise)),
        )
        for at in range(0, 600, 5)
    ]


def test_the_slope_is_that_of_least_squares() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(0, 0), (1, 3), (2, 0)]) == pytest.approx(0)
    assert slope([(5, 1), (5, 2)]) == slope([(1, 1)]) == slope([]) == 0


def test_what_fills_in_the_first_half_is_no_growth() -> None:
    assert per_minute(series(0), lambda each: each.rss_kib) == pytest.approx(0)
    assert problems(series(0, noise=300), QUIET, QUIET, Bounds()) == []


def test_a_leak_is_seen_through_the_noise() -> None:
    (found,) = problems(series(200, noise=300), QUIET, QUIET, Bounds())
    assert found.startswith("resident memory, KiB: grows by")


def test_descriptors_that_grow_under_load_are_seen() -> None:
    grown = [replace(each, descriptors=34 + int(each.seconds / 20)) for each in series(0)]
    assert [found.split(":")[0] for found in problems(grown, QUIET, QUIET, Bounds())] == ["descriptors"]


@pytest.mark.parametrize("field", ["in_flight", "downstream", "websockets", "tasks", "descriptors"])
def test_what_is_left_when_the_load_is_over_is_seen(field: str) -> None:
    after = replace(QUIET, **{field: getattr(QUIET, field) + 1})
    (found,) = problems(series(0), QUIET, after, Bounds())
    assert "when the load is over" in found


def test_a_wrong_length_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--minutes", "0"])
    assert ended.value.code == 2
    assert "--minutes" in capsys.readouterr().err


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_twenty_seconds_of_everything(tmp_path: Path) -> None:
    """Caches still fill, so memory is only bounded here; everything else is as in ten minutes."""
    plan = Plan(seconds=20, every=1, bounds=Bounds(rss_kib_per_minute=30 * 1024, descriptors_per_minute=60))
    result = soak(plan, tmp_path, lambda _: None)
    assert not result.problems, table(result, plan)
    assert result.ledger.done["event"] >= 3
    assert min(result.ledger.done[kind] for kind in ("http", "grpc", "fault", "websocket")) > 20
    assert result.after.exchanges > 1_000


def test_what_a_restart_may_have_to_do_with_is_counted_apart() -> None:
    """Also where it came and went while the caller waited."""
    ledger = Ledger()

    def act() -> str:
        with ledger.restarting():
            pass
        ledger._calm_at = 0.0  # its traces are gone before the caller notices
        return "no answer"

    with callers(ledger, [("http", 0.001, act)]):
        eventually(lambda: ledger.done["http"] >= 3)
    assert ledger.disturbed["http: no answer"] >= 3
    assert not ledger.wrong


def test_what_no_restart_explains_is_unexpected() -> None:
    ledger = Ledger()
    with callers(ledger, [("http", 0.001, lambda: "no answer")]):
        eventually(lambda: ledger.wrong["http: no answer"] >= 3)
    assert not ledger.disturbed
