"""The workload of request policies runs, and what is remembered costs less than what is verified."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from . import __main__ as bench
from . import measure, proxies, proxies_policies, report, tools
from .machine import Cores
from .processes import wait_until_accepting
from .tokens import Tokens

ROWS = ("nova", "nova_jwt", "nova_jwt_verified")


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_remembered_token_costs_a_fraction_of_a_verified_one(tmp_path: Path) -> None:
    try:
        wrk, _ = tools.program("wrk"), tools.program("nginx")
    except tools.Unavailable as why:
        pytest.skip(str(why))
    tokens, python = Tokens(), tools.interpreter()
    made = proxies_policies.builders(python, None, tokens)
    lines = tokens.write(tmp_path / "tokens", 100)
    fixed = measure.Scenario("tokens", "tokens", 3, 1, connections=4, size=100, rate=400, headers=lines, only=ROWS)
    suite = bench.Suite(
        measure.Plan(wrk=wrk, cores=Cores.choose(), scenarios=(fixed,)),
        partial(proxies.upstream, sizes=(100,)),
        {row: made[row] for row in ROWS},
        wait_until_accepting,
    )
    found = bench.measured(suite, ("nova",), tmp_path, {})
    figures: Mapping[str, Any] = report.figures([(suite.plan, found)], {}, {}, python)["tokens"]
    assert [figures[row]["errors"] for row in ROWS] == [0, 0, 0]
    assert figures["surcharge_nova_jwt"] < figures["surcharge_nova_jwt_verified"] / 2
