"""Whatever is killed, every committed event arrives, in order; see crashes.py, also for a run of minutes."""

import pytest

from tests.loopback.support.kafkaserver import Server as Kafka

from . import crashes


@pytest.mark.timeout(120)
def test_no_event_is_lost_or_out_of_order_whatever_is_killed(kafka: Kafka) -> None:
    report = crashes.run(seconds=6, seed=20, broker=kafka)
    assert report.wrong == []
    assert set(report.kills) == set(crashes.VICTIMS)
    assert report.committed > 200
