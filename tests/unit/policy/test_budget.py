from hypothesis import given, settings
from hypothesis import strategies as st

from nova_sidecar.policy.budget import RetryBudget


def test_retries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(share=0.2, min_per_second=0)
    for _ in range(50):
        budget.deposit(0.0)
    assert [budget.withdraw(0.5) for _ in range(12)] == [True] * 10 + [False] * 2


def test_a_quiet_service_may_retry_a_few_times_per_second() -> None:
    budget = RetryBudget(share=0.2, min_per_second=3)
    budget.deposit(0.0)
    assert [budget.withdraw(0.1) for _ in range(5)] == [True, True, True, False, False]
    assert [budget.withdraw(1.2) for _ in range(5)] == [True, True, True, False, False]


def test_without_share_and_minimum_there_are_no_retries() -> None:
    budget = RetryBudget(share=0.0, min_per_second=0)
    for _ in range(1000):
        budget.deposit(0.0)
    assert budget.withdraw(0.0) is False


def test_traffic_is_forgotten_after_ten_seconds() -> None:
    budget = RetryBudget(share=0.5, min_per_second=0)
    for _ in range(10):
        budget.deposit(0.0)
    assert budget.withdraw(8.0) is True
    assert budget.snapshot(8.0) == {"requests": 10, "retries": 1}
    assert budget.withdraw(10.5) is False
    assert budget.snapshot(30.0) == {"requests": 0, "retries": 0}


def test_buckets_off_the_second_do_not_reach_further_back() -> None:
    budget = RetryBudget(share=0.5, min_per_second=0)
    for _ in range(10):
        budget.deposit(0.0)
    budget.snapshot(9.75)  # begins a bucket that lasts until 10.75
    assert budget.withdraw(10.5) is False


def test_an_outage_is_not_amplified() -> None:
    budget = RetryBudget(share=0.2, min_per_second=3)
    retries = 0
    for tick in range(60 * 100):  # a minute at 100 requests/s, each of which would like two retries
        budget.deposit(tick / 100)
        retries += budget.withdraw(tick / 100) + budget.withdraw(tick / 100)
    assert 0.19 <= retries / 6000 <= 0.21


def test_a_reload_keeps_the_traffic() -> None:
    budget = RetryBudget(share=0.0, min_per_second=0)
    for _ in range(10):
        budget.deposit(0.0)
    budget.configure(share=0.1, min_per_second=0)
    assert [budget.withdraw(0.0), budget.withdraw(0.0)] == [True, False]


@settings(max_examples=150, deadline=None)
@given(
    share=st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    events=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=150),
)
def test_every_grant_and_refusal_agrees_with_the_log(share: float, events: list[tuple[int, bool]]) -> None:
    """The buckets reach back between 8 and 10 s; both ends bound what may be decided."""
    budget, now = RetryBudget(share, 0), 0.0
    requests: list[float] = []
    retries: list[float] = []

    def within(log: list[float], seconds: float) -> int:
        return sum(1 for at in log if at > now - seconds)

    for quarters, is_request in events:
        now += quarters / 4
        if is_request:
            budget.deposit(now)
            requests.append(now)
        elif budget.withdraw(now):
            assert within(retries, 8) + 1 <= share * within(requests, 10.001)
            retries.append(now)
        else:
            assert within(retries, 10.001) + 1 > share * within(requests, 8)
