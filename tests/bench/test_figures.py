"""The arithmetic of the benchmark: a wrong figure is worse than none."""

import sys
from pathlib import Path

import pytest

from . import report
from .load import Answer, parse_wrk
from .machine import Cores, Usage
from .measure import Measured, Plan, Sample, Scenario
from .tools import Interpreter, Unavailable, interpreter

WRK = """Running 3s test @ http://127.0.0.1:8080/100
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   481.21us  230.51us   5.17ms   88.24%
    Req/Sec    60.13k     1.20k   62.01k    66.67%
  Latency Distribution
     50%  450.00us
     75%  560.00us
     90%    0.71ms
     99%    1.25ms
  179406 requests in 3.00s, 44.14MB read
  Socket errors: connect 0, read 2, write 1, timeout 4
  Non-2xx or 3xx responses: 10
Requests/sec:  59802.00
Transfer/sec:     14.71MB
"""
PYTHON = Interpreter("/usr/bin/python3.11", "3.11.2", "cpython-311-x86_64-linux-gnu", optimised=False)
PLAN = Plan(
    wrk="wrk",
    cores=Cores(proxy=0, load=1),
    scenarios=(
        Scenario("http1", "full load", rounds=3, seconds=1, connections=1, size=100),
        Scenario("fixed_1000", "1000 requests/s", rounds=1, seconds=1, connections=1, size=100, rate=1000),
    ),
)


def sample(rps: int, cpu_us: float, errors: int = 0, foreign: float = 0.0) -> Sample:
    usage = Usage(cpu_ns=int(cpu_us * 1000 * rps), foreign_share=foreign, load_share=0.5)
    return Sample(Answer(requests=rps, seconds=1.0, errors=errors, p50_ms=0.5, p99_ms=1.5), usage)


def document(**full: list[Sample]) -> dict[str, object]:
    memory = dict.fromkeys(full, 40.0) | {"envoy": 80.0}
    fixed = {name: taken[:1] for name, taken in full.items()}
    measured = Measured(samples={"http1": full, "fixed_1000": fixed}, rss_mb=memory, pss_mb=memory)
    return report.figures([(PLAN, measured)], {"nginx": "nginx is missing"}, {"envoy": "1.40.0"}, PYTHON)


def test_reads_the_report_of_wrk() -> None:
    answer = parse_wrk(WRK)
    assert answer == Answer(requests=179406, seconds=3.0, errors=17, p50_ms=0.45, p99_ms=1.25)
    assert answer.rps == 59802


def test_a_report_without_percentiles_is_refused() -> None:
    with pytest.raises(ValueError, match="not a report"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused")


def test_ratio_is_taken_inside_each_round() -> None:
    # the machine was twice as fast in the second round: the medians say 2.5, every round says 2
    figures = document(
        nova=[sample(40, 10), sample(80, 5), sample(60, 8)], envoy=[sample(20, 20), sample(40, 10), sample(20, 20)]
    )
    http1 = figures["http1"]
    assert isinstance(http1, dict)
    assert http1["ratio_envoy"] == 2.0
    assert http1["ratio_cpu_envoy"] == 2.0
    assert http1["ratio_rss_envoy"] == 0.5


def test_table_shows_rows_ratios_and_what_was_skipped() -> None:
    text = report.table(document(nova=[sample(40, 10)], envoy=[sample(20, 20, foreign=0.3)]))
    assert "nova / envoy: 2.00 in req/s, 2.00 in requests per CPU second, 0.50 in memory" in text
    assert "nginx skipped: nginx is missing" in text
    assert "others used up to 30%" in text
    assert "the sidecar ran on /usr/bin/python3.11 (3.11.2, not an optimised build)" in text
    assert "note: the sidecar's Python is not an optimised build" in text


def test_what_a_policy_costs_is_taken_inside_each_round() -> None:
    full = {
        "nova": [sample(40, 10), sample(80, 5)],
        "nova_tenancy": [sample(36, 11), sample(70, 6)],
        "nova_outbound": [sample(30, 12), sample(60, 8)],
        "envoy": [sample(20, 20), sample(40, 10)],
        "envoy_rate_limit": [sample(18, 23), sample(36, 12)],
    }
    figures = document(**full)
    http1 = figures["http1"]
    assert isinstance(http1, dict)
    found = {name: cost for name, cost in http1.items() if name.startswith("surcharge_")}
    assert found == {"surcharge_nova_tenancy": 1.0, "surcharge_envoy_rate_limit": 2.5}
    assert "nova_tenancy: +1.0 CPU µs per request over its proxy alone" in report.table(figures)


def test_the_tail_of_remembered_tokens_is_compared_inside_each_round() -> None:
    def slow(p99_ms: float) -> Sample:
        usage = Usage(cpu_ns=1, foreign_share=0.0, load_share=0.5)
        return Sample(Answer(requests=1, seconds=1.0, errors=0, p50_ms=0.5, p99_ms=p99_ms), usage)

    figures = document(nova_jwt=[slow(1), slow(4), slow(2)], nova_jwt_verified=[slow(2), slow(8), slow(3)])
    http1 = figures["http1"]
    assert isinstance(http1, dict)
    assert http1["p99_ratio_nova_jwt"] == 0.5
    assert "nova_jwt: p99 0.50 of that with every token verified" in report.table(figures)


def test_an_interpreter_that_cannot_load_the_environment_is_refused(tmp_path: Path) -> None:
    assert interpreter(sys.executable).path == sys.executable
    with pytest.raises(Unavailable, match="is not a Python that loads"):
        interpreter(str(tmp_path / "python"))


def test_an_optimised_build_is_taken_before_one_that_is_not() -> None:
    chosen, own = interpreter(), interpreter(sys.executable)
    assert chosen.abi == own.abi
    assert chosen.optimised or not own.optimised


@pytest.mark.parametrize(
    ("full", "problem"),
    [
        ({"nova": [sample(40, 10)], "envoy": [sample(20, 20)]}, ""),
        ({"nova": [sample(39, 10)], "envoy": [sample(20, 20)]}, "ratio_envoy is 1.95"),
        ({"nova": [sample(40, 10, errors=1)], "envoy": [sample(20, 20)]}, "1 requests with an error"),
        ({"nova": [sample(40, 10)]}, "not both measured"),
    ],
)
def test_check(full: dict[str, list[Sample]], problem: str) -> None:
    verdict = report.verdict(document(**full), 2.0)
    assert problem in verdict
    assert bool(verdict) == bool(problem)


def test_document_is_written_into_a_new_folder(tmp_path: Path) -> None:
    report.write(document(nova=[sample(1, 1)]), tmp_path / "build" / "bench.json")
    assert '"rps": 1.0' in (tmp_path / "build" / "bench.json").read_text()
