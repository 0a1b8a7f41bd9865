import pytest

from nova_api.errors import ConfigError
from nova_api.model import Override, builtins
from nova_api.policies import BackoffPolicy, BreakerPolicy, RetryPolicy
from nova_api.units import Duration


def test_unset_fields_are_those_of_the_base() -> None:
    base = BreakerPolicy(failure_threshold=9, success_threshold=8)
    override = Override.decode(BreakerPolicy, {"failureThreshold": 2})
    assert override.over(base) == BreakerPolicy(failure_threshold=2, success_threshold=8)


def test_a_field_set_to_its_default_still_wins_over_the_base() -> None:
    override = Override.decode(BreakerPolicy, {"failureThreshold": 5})
    assert override.over(BreakerPolicy(failure_threshold=9)).failure_threshold == 5


def test_a_nested_policy_is_merged_field_by_field() -> None:
    base = RetryPolicy(backoff=BackoffPolicy(base=Duration(0.1), max=Duration(2)))
    override = Override.decode(RetryPolicy, {"backoff": {"max": "1s"}})
    assert override.over(base).backoff == BackoffPolicy(base=Duration(0.1), max=Duration(1))


def test_a_list_is_replaced_as_a_whole() -> None:
    override = Override.decode(RetryPolicy, {"when": ["timeout"]})
    assert override.over(RetryPolicy()).when == ("timeout",)


def test_a_rule_is_checked_on_the_merged_policy() -> None:
    override = Override.decode(BreakerPolicy, {"openDuration": "10m"})
    assert override.over(BreakerPolicy(max_open_duration=Duration(1200))).open_duration == Duration(600)
    with pytest.raises(ConfigError, match="openDuration must not be longer than maxOpenDuration"):
        override.over(BreakerPolicy())


def test_equal_fields_make_equal_overrides() -> None:
    one = Override.decode(BreakerPolicy, {"failureThreshold": 1, "successThreshold": 2})
    two = Override.decode(BreakerPolicy, {"successThreshold": 2, "failureThreshold": 1})
    assert (one, hash(one)) == (two, hash(two))
    assert one != Override.decode(BreakerPolicy, {"failureThreshold": 1})
    assert builtins(one) == {"failureThreshold": 1, "successThreshold": 2}
    assert repr(one) == "Override({'failureThreshold': 1, 'successThreshold': 2})"
