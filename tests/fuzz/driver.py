"""Runs a target: case after case, each from a seed of its own, and makes what fails as small as it can.

Case number n of seed s depends on nothing but s and n, so one number brings a failure back. What targets remember over
cases (memos, tables) is part of what is tested: a failure that needs the cases before it says so.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count as numbers
from random import Random
from time import monotonic
from typing import Protocol


class Target(Protocol):
    """Something that reads bytes, and what must hold for it."""

    name: str
    about: str
    verdicts: tuple[str, ...]
    """What `check` may say; a run in which one of them is missing tells too little."""

    def make(self, rng: Random) -> bytes:
        """A case: mostly valid, slightly broken."""

    def check(self, data: bytes, rng: Random) -> str:
        """Read it and see that everything holds; returns how it went. Any exception is a failure."""


def attributes(kind: type) -> tuple[str, ...]:
    """Names of what instances of a class hold, whether it was compiled or not."""
    names: tuple[str, ...] = getattr(kind, "__slots__", None) or kind.__mypyc_attrs__  # type: ignore[attr-defined]  # mypyc's
    return names


@dataclass
class Failure:
    """A case that broke something, and the smallest one found that breaks it in the same way."""

    number: int
    data: bytes
    smallest: bytes
    error: Exception
    alone: bool
    """Whether the case fails without those before it."""


@dataclass
class Outcome:
    """What a run came to."""

    cases: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    failure: Failure | None = None


def run(
    make_target: Callable[[], Target], seed: int, *, seconds: float = 0, cases: int = 0, first: int = 0,
    progress: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:  # fmt: skip
    """Cases from number `first` on, for so many seconds or so many cases, whichever ends first and is not 0."""
    target, outcome = make_target(), Outcome()
    end = monotonic() + seconds if seconds else float("inf")
    for number in numbers(first):
        if (cases and outcome.cases >= cases) or monotonic() >= end:
            return outcome
        data = target.make(_rng(seed, number))
        try:
            outcome.verdicts[target.check(data, _rng(seed, number))] += 1
        except Exception as error:
            outcome.failure = _failure(make_target, seed, number, data, error)
            return outcome
        outcome.cases += 1
        if outcome.cases % 100 == 0:
            progress(outcome)
    return outcome


def _rng(seed: int, number: int) -> Random:
    return Random(f"{seed}:{number}")


def _failure(make_target: Callable[[], Target], seed: int, number: int, data: bytes, error: Exception) -> Failure:
    def fails(candidate: bytes) -> bool:
        try:
            make_target().check(candidate, _rng(seed, number))
        except Exception as other:
            return type(other) is type(error)
        return False

    alone = fails(data)
    return Failure(number, data, shrunk(data, fails) if alone else data, error, alone)


def shrunk(data: bytes, fails: Callable[[bytes], bool], tries: int = 2_000) -> bytes:
    """The data with as much left out as still fails."""
    step = max(1, len(data) // 2)
    while tries > 0:
        at = 0
        smaller = False
        while at < len(data) and tries > 0:
            tries -= 1
            candidate = data[:at] + data[at + step :]
            if fails(candidate):
                data, smaller = candidate, True
            else:
                at += step
        if step == 1 and not smaller:
            break
        step = max(1, step // 2)
    return data
