"""Which answers are failures, as the policy says."""

import pytest

from nova_api.policies import BreakerPolicy
from nova_sidecar.policy.outcome import FAILURE, SUCCESS, Outcomes


def failing_statuses(*patterns: str) -> list[int]:
    outcomes = Outcomes(BreakerPolicy(failure_statuses=patterns))
    return [status for status, outcome in enumerate(outcomes.of_status) if outcome is FAILURE]


def test_statuses_by_class_and_one_by_one() -> None:
    assert failing_statuses("5xx") == list(range(500, 600))
    assert failing_statuses("429", "503") == [429, 503]
    assert failing_statuses("4xx", "500") == [*range(400, 500), 500]
    assert failing_statuses() == []


def test_grpc_codes_by_number() -> None:
    outcomes = Outcomes(BreakerPolicy())

    assert [number for number in range(17) if outcomes.code(number) is FAILURE] == [2, 4, 13, 14, 15]
    assert outcomes.code(0) is SUCCESS


@pytest.mark.parametrize("number", [-1, 17, 10_000])
def test_a_grpc_code_that_does_not_exist_stands_for_unknown(number: int) -> None:
    assert Outcomes(BreakerPolicy()).code(number) is FAILURE
    assert Outcomes(BreakerPolicy(failure_codes=("INTERNAL",))).code(number) is SUCCESS


def test_repr_tells_how_many() -> None:
    assert repr(Outcomes(BreakerPolicy())) == "<Outcomes failures: 100 statuses, 5 codes>"
