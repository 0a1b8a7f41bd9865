"""Whether it is worth asking the other side, and what metrics show of that."""

from random import Random

from prometheus_client import CollectorRegistry

from nova_data.breaker import Breaker
from nova_data.breaker_metrics import BreakerMetrics


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker = Breaker(Random(1), base=1.0, longest=4.0)
    assert breaker.probe(0.0) == 0.0
    assert breaker.state == "closed"
    breaker.failed(10.0)
    assert breaker.state == "open"
    assert 0.5 <= breaker.probe(10.0) <= 1.0
    assert breaker.probe(breaker.until) == 0.0
    assert breaker.state == "half_open"
    breaker.failed(20.0)
    assert 1.0 <= breaker.until - 20.0 <= 2.0
    breaker.probe(30.0)
    breaker.succeeded()
    assert repr(breaker) == "<Breaker closed failures=0>"
    assert breaker.transitions == {"closed": 1, "open": 2, "half_open": 2}


def test_open_times_have_an_end() -> None:
    breaker = Breaker(Random(1), base=1.0, longest=4.0)
    for _ in range(50):
        breaker.failed(0.0)
    assert 2.0 <= breaker.until <= 4.0


def test_metrics_show_its_state_and_count_its_moves() -> None:
    registry = CollectorRegistry()
    metrics, breaker = BreakerMetrics("nova_test", registry), Breaker(Random(1))

    def shown(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"nova_test_breaker_{name}", labels)

    assert [shown("state", state=state) for state in ("closed", "open", "half_open")] == [1, 0, 0]
    assert shown("transitions_total", to_state="open") == 0
    breaker.failed(0.0)
    breaker.probe(breaker.until)
    breaker.failed(breaker.until)
    metrics.show(breaker)
    metrics.show(breaker)
    assert [shown("state", state=state) for state in ("closed", "open", "half_open")] == [0, 1, 0]
    assert [shown("transitions_total", to_state=state) for state in ("closed", "open", "half_open")] == [0, 2, 1]
