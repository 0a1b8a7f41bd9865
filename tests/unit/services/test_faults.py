from random import Random

import pytest

from nova_services.faults import Fault, decode


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"{}", Fault()),
        (b'{"mode": "off"}', Fault()),
        (b'{"mode": "errors", "errorRate": 0.5}', Fault(mode="errors", error_rate=0.5)),
        (b'{"mode": "slow", "latencyMs": 800}', Fault(mode="slow", latency_ms=800)),
    ],
)
def test_a_fault_is_read(body: bytes, fault: Fault) -> None:
    assert decode(body) == fault


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"mode": "broken"}', r"\$\.mode"),
        (b'{"mode": "errors", "errorRate": 2}', r"\$\.errorRate"),
        (b'{"mode": "slow", "latencyMs": -1}', r"\$\.latencyMs"),
        (b'{"rate": 1}', "rate"),
        (b"slow", "malformed"),
    ],
)
def test_a_wrong_fault_is_refused_with_its_field(body: bytes, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        decode(body)


def test_errors_strike_at_their_rate() -> None:
    random = Random(7)
    fault = Fault(mode="errors", error_rate=0.25)
    assert 200 < sum(fault.strikes(random) for _ in range(1000)) < 300


def test_only_the_mode_in_force_acts() -> None:
    assert not Fault(mode="off", error_rate=1).strikes(Random(1))
    assert not Fault(mode="slow", error_rate=1).strikes(Random(1))
    assert Fault(mode="errors", latency_ms=500).delay == 0
    assert Fault(mode="slow", latency_ms=500).delay == 0.5
