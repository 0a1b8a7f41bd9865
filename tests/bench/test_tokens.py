"""The bench of tokens runs, and what is remembered costs less than what is verified."""

import pytest

from . import tokens
from .tools import Unavailable, program


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_remembered_token_costs_a_fraction_of_a_verified_one(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        program("nginx")
    except Unavailable as why:
        pytest.skip(str(why))
    monkeypatch.setattr(tokens, "ROUNDS", 4)
    found = tokens.measured()
    assert set(found["rows"]) == {"bare", "remembered", "verified"}
    assert found["hit_cost_us"] < found["verification_cost_us"] / 2
