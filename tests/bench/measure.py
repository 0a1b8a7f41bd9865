"""Load every row in turn, in rounds of rotating order, with the counters read around each load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from . import load
from .machine import Cores, Meter, Usage, memory
from .processes import Address


@dataclass(frozen=True)
class Row:
    """One listener under test and the process behind it."""

    name: str
    address: Address
    pid: int


@dataclass(frozen=True)
class Sample:
    """One load on one row."""

    answer: load.Answer
    usage: Usage

    @property
    def cpu_us_per_request(self) -> float:
        return self.usage.cpu_ns / 1e3 / max(1, self.answer.requests)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    wrk: str
    cores: Cores
    rounds: int
    seconds: int
    connections: int
    size: int
    fixed_rounds: int
    fixed_seconds: float
    fixed_connections: int
    fixed_size: int
    rates: tuple[int, ...]

    def describe(self) -> str:
        return (
            f"{self.size} B, wrk with {self.connections} connections, {self.rounds} rounds of {self.seconds} s; "
            f"fixed rates: {self.fixed_size} B, {self.fixed_connections} connections, "
            f"{self.fixed_rounds} rounds of {self.fixed_seconds:g} s"
        )


Samples = dict[str, list[Sample]]
"""Row name → one sample per round."""


@dataclass
class Measured:
    """Everything one run found."""

    full: Samples = field(default_factory=dict)
    fixed: dict[int, Samples] = field(default_factory=dict)
    rss_mb: dict[str, float] = field(default_factory=dict)
    pss_mb: dict[str, float] = field(default_factory=dict)


def measure(plan: Plan, rows: Sequence[Row]) -> Measured:
    """Warm up, then measure full load and every fixed rate, then read the memory."""
    measured = Measured()
    for row in rows:
        _full(plan, row, seconds=1)
    measured.full = _rounds("full load", plan.rounds, rows, partial(_full, plan, seconds=plan.seconds))
    for rate in plan.rates:
        sampled = _rounds(f"{rate} req/s", plan.fixed_rounds, rows, partial(_fixed, plan, rate=rate))
        measured.fixed[rate] = sampled
    for row in rows:
        used = memory(row.pid)
        measured.rss_mb[row.name], measured.pss_mb[row.name] = used.rss_mb, used.pss_mb
    return measured


def _rounds(title: str, count: int, rows: Sequence[Row], once: Callable[[Row], Sample]) -> Samples:
    samples: Samples = {row.name: [] for row in rows}
    for number in range(count):
        start = number * len(rows) // count
        for row in (*rows[start:], *rows[:start]):
            _progress(f"{title}, round {number + 1} of {count}: {row.name}")
            samples[row.name].append(once(row))
    _progress("")
    return samples


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _full(plan: Plan, row: Row, *, seconds: int) -> Sample:
    meter = Meter(row.pid, plan.cores)
    answer = load.full_load(
        plan.wrk,
        row.address,
        f"/{plan.size}",
        seconds=seconds,
        connections=plan.connections,
        core=plan.cores.load,
    )
    return Sample(answer, meter.stop())


def _fixed(plan: Plan, row: Row, *, rate: int) -> Sample:
    meter = Meter(row.pid, plan.cores)
    answer = load.fixed_rate(
        row.address,
        f"/{plan.fixed_size}",
        rate=rate,
        seconds=plan.fixed_seconds,
        connections=plan.fixed_connections,
        core=plan.cores.load,
    )
    return Sample(answer, meter.stop())
