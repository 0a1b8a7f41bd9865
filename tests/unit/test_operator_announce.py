"""Events in a storm: a thousand services that lose the same upstream at once."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from nova_operator import reasons
from nova_operator.announce import BURST_OF_ALL, REFILL_OF_ALL, Announcer
from nova_operator.events import BURST, Allowance, Event
from nova_operator.metrics import Metrics

OPENED = Event("Warning", reasons.CIRCUIT_OPENED, "Break", "a breaker of upstream auth opened")
WALL = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY: Any = None  # nothing is written before `run`


def service(number: int) -> dict[str, Any]:
    return {"metadata": {"name": f"s-{number}", "namespace": "market", "uid": str(number)}}


def bounded(metrics: Metrics) -> float:
    families = text_string_to_metric_families(metrics.render().decode())
    samples = (sample for family in families for sample in family.samples)
    return next(one.value for one in samples if one.name.endswith("events_total") and one.labels["result"] == "bounded")


def storm(announcer: Announcer, services: int, each: int, now: float) -> None:
    async def scenario() -> None:
        for number in range(services):
            await announcer.announce([OPENED] * each, service(number), Allowance(), now, WALL)

    asyncio.run(scenario())


def waiting(announcer: Announcer) -> int:
    return int(repr(announcer).rpartition("=")[2].rstrip(">"))


def test_all_services_together_have_a_bound() -> None:
    metrics = Metrics()
    announcer = Announcer(NOBODY, "operator-1", metrics)
    storm(announcer, services=1000, each=1, now=100.0)
    assert waiting(announcer) == BURST_OF_ALL
    assert bounded(metrics) == 1000 - BURST_OF_ALL
    storm(announcer, services=1000, each=1, now=102.0)
    assert waiting(announcer) == BURST_OF_ALL + 2 * REFILL_OF_ALL


def test_one_service_has_a_bound_of_its_own_and_leaves_the_rest_to_others() -> None:
    metrics = Metrics()
    announcer = Announcer(NOBODY, "operator-1", metrics)
    storm(announcer, services=1, each=1000, now=100.0)
    assert waiting(announcer) == BURST
    storm(announcer, services=5, each=1, now=100.0)
    assert waiting(announcer) == BURST + 5
