"""Each target for a moment in every run of the tests, and the driver: what it finds it brings back, and makes small."""

import subprocess
import sys
from random import Random

import pytest

from .__main__ import main, report
from .driver import Target, run
from .mutate import mutated, pieces, shuffled
from .targets import TARGETS

SECONDS = 3.0
LEAST_CASES = 100
"""Enough to see every verdict; a loaded machine may take longer than `SECONDS` for them."""


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks(name: str) -> None:
    """The seed is fixed, so that a failure comes back."""
    outcome = run(TARGETS[name], 1, seconds=SECONDS)
    if outcome.cases < LEAST_CASES and outcome.failure is None:
        outcome = run(TARGETS[name], 1, cases=LEAST_CASES)
    assert outcome.failure is None, report(name, 1, outcome.failure)
    missing = [verdict for verdict in TARGETS[name]().verdicts if not outcome.verdicts[verdict]]
    assert not missing, f"{outcome.verdicts}: the accidents are too large or too small to tell anything"


class Fragile:
    """Breaks on any bytes with AB in them, or on the hundredth case."""

    name, about, verdicts = "fragile", "", ("fine",)

    def __init__(self, patience: int = 10_000) -> None:
        self.patience = patience

    def make(self, rng: Random) -> bytes:
        return bytes(rng.choice(b"ABCDEFGH") for _ in range(20))

    def check(self, data: bytes, rng: Random) -> str:
        self.patience -= 1
        if b"AB" in data:
            raise LookupError("AB")
        if self.patience < 0:
            raise MemoryError("too much was kept")
        return "fine"


def test_a_failure_comes_back_by_its_number_and_is_made_small() -> None:
    first = run(Fragile, 1, cases=10_000).failure
    assert first is not None
    assert (first.smallest, first.alone) == (b"AB", True)
    again = run(Fragile, 1, first=first.number, cases=1).failure
    assert again is not None
    assert again.data == first.data
    assert f"--seed 1 --first {first.number} --cases 1" in report("fragile", 1, first)


def test_a_failure_that_needs_what_was_kept_says_so() -> None:
    class Forgetful(Fragile):
        def check(self, data: bytes, rng: Random) -> str:
            return super().check(data.replace(b"A", b""), rng)

    def forgetful() -> Target:
        return Forgetful(patience=100)

    failure = run(forgetful, 1, cases=1000).failure
    assert failure is not None
    assert (failure.number, failure.alone) == (100, False)
    assert "--cases 101" in report("fragile", 1, failure)


def test_a_run_ends_in_time_and_after_its_cases() -> None:
    assert run(Fragile, 3, cases=7).cases <= 7
    assert run(lambda: Fragile(10**9), 2, seconds=0.01, cases=10**9).cases < 10**6


def test_accidents_are_small_and_pieces_make_the_whole() -> None:
    rng = Random(1)
    for _ in range(300):
        data = rng.randbytes(200)
        assert b"".join(pieces(data, rng)) == data
        assert 100 <= len(mutated(data, rng, [b"spice"])) <= 900
        assert len(shuffled([b"a", b"b", b"c"], rng)) in (2, 3, 4)


def test_the_command_tells_what_it_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chunked", "--cases", "200"]) == 0
    assert "200 cases" in capsys.readouterr().err
    monkeypatch.setitem(TARGETS, "chunked", Fragile)
    assert main(["chunked", "--cases", "10000"]) == 1
    told = capsys.readouterr().out
    assert "LookupError: AB" in told
    assert "smallest: b'AB'" in told


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["nothing"], 2), (["http2", "--seconds", "0"], 2)])
def test_the_command_teaches(arguments: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "http1-requests" in done.stdout + done.stderr or "must be above 0" in done.stderr
