"""Load every row in turn, in rounds of rotating order, with the counters read around each load."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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
class Scenario:
    """One kind of load and how long it is applied. `rate` is requests per second, 0 for as many as go.

    `script` is one of wrk's, which makes the requests. `header` is on every other one; of the file `headers`, at a
    fixed rate, each request has another line. `only` are the rows it is for, all when left out, but those of `without`.
    """

    key: str
    title: str
    rounds: int
    seconds: int
    connections: int
    size: int
    rate: int = 0
    script: str = ""
    calls: load.Calls | None = None
    header: str = ""
    headers: Path | None = None
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        streams = f" of {self.calls.streams} streams" if self.calls else ""
        return (
            f"{self.title}: {self.size} B, {self.connections} connections{streams}, "
            f"median of {self.rounds} rounds of {self.seconds} s"
        )


@dataclass(frozen=True)
class Plan:
    """What is measured with one set of processes, and with what. `idle` is a number of idle connections, 0 for none."""

    wrk: str
    cores: Cores
    scenarios: tuple[Scenario, ...]
    idle: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(sorted({scenario.size for scenario in self.scenarios}))


Samples = dict[str, list[Sample]]
"""Row name → one sample per round."""


@dataclass
class Measured:
    """Everything one run found."""

    samples: dict[str, Samples] = field(default_factory=dict)
    rss_mb: dict[str, float] = field(default_factory=dict)
    pss_mb: dict[str, float] = field(default_factory=dict)
    idle_mb: dict[str, float] = field(default_factory=dict)
    """Resident memory with the idle connections of the plan, where there are any."""


def measure(plan: Plan, rows: Sequence[Row]) -> Measured:
    """Warm up, go through the scenarios, then read the memory."""
    measured = Measured()
    warm_up = replace(plan.scenarios[0], seconds=1)
    for row in rows:
        _load(plan, warm_up, row)
    for scenario in plan.scenarios:
        measured.samples[scenario.key] = _rounds(plan, scenario, rows)
    for row in rows:
        used = memory(row.pid)
        measured.rss_mb[row.name], measured.pss_mb[row.name] = used.rss_mb, used.pss_mb
    if plan.idle:
        for row in rows:
            _progress(f"{plan.idle} idle connections: {row.name}")
            with load.idle(row.address, _path(plan.scenarios[0]), plan.idle, plan.cores.load):
                measured.idle_mb[row.name] = memory(row.pid).rss_mb
        _progress("")
    return measured


def _rounds(plan: Plan, scenario: Scenario, rows: Sequence[Row]) -> Samples:
    wanted = scenario.only or tuple(row.name for row in rows)
    rows = [row for row in rows if row.name in wanted and row.name not in scenario.without]
    samples: Samples = {row.name: [] for row in rows}
    # what can be remembered of them is, before anything is measured; with the first scenario all was warmed up
    if scenario.headers and scenario is not plan.scenarios[0]:
        for row in rows:
            _load(plan, replace(scenario, seconds=1), row)
    for number in range(scenario.rounds):
        start = number * len(rows) // scenario.rounds
        for row in (*rows[start:], *rows[:start]):
            _progress(f"{scenario.title}, round {number + 1} of {scenario.rounds}: {row.name}")
            samples[row.name].append(_sample(plan, scenario, row))
    _progress("")
    return samples


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _sample(plan: Plan, scenario: Scenario, row: Row) -> Sample:
    meter = Meter(row.pid, plan.cores)
    answer = _load(plan, scenario, row)
    return Sample(answer, meter.stop())


def _load(plan: Plan, scenario: Scenario, row: Row) -> load.Answer:
    core, seconds, connections = plan.cores.load, scenario.seconds, scenario.connections
    path = _path(scenario)
    if scenario.calls:
        return load.grpc(row.address, scenario.calls, seconds=seconds, connections=connections, core=core)
    if scenario.rate:
        return load.fixed_rate(
            row.address,
            path,
            rate=scenario.rate,
            seconds=seconds,
            connections=connections,
            core=core,
            headers=scenario.headers,
        )
    return load.full_load(
        plan.wrk,
        row.address,
        path,
        seconds=seconds,
        connections=connections,
        core=core,
        script=scenario.script,
        header=scenario.header,
    )


def _path(scenario: Scenario) -> str:
    return f"/{scenario.size}"
