"""The figures of `make bench-operator`, and what the bare client writes."""

import json

import msgspec

from nova_operator.desired.defaults import Platform
from tests.bench.convergence import report, workload
from tests.bench.convergence.__main__ import arguments
from tests.bench.convergence.after import Rest, Times
from tests.bench.convergence.converge import Round


def test_the_ratio_is_the_median_of_neighbouring_rounds() -> None:
    cpu = {"operator": 2.0}
    document = report.figures(
        1000,
        bare=[Round(10.0, {}), Round(20.0, {}), Round(10.0, {})],
        operator=[Round(14.0, cpu), Round(32.0, cpu), Round(90.0, cpu)],
        base_mb=70.0,
        peak=Rest(calls_per_minute=200.0, cpu_percent=3.0, rss_mb=120.0),
        found={
            "config_to_sidecar_seconds": Times.of([0.3, 0.1, 0.2]).figures(),
            "change_beside_noise_seconds": {**Times.of([0.5]).figures(), "noise_per_second": 23.9},
        },
    )
    assert document["converge_1000"]["ratio_raw_client"] == 1.6
    assert document["memory_mb_1000"] == 120.0
    assert document["config_to_sidecar_seconds"] == {"p50": 0.2, "p99": 0.3, "max": 0.3, "samples": 3}
    assert "ratio                       1.60" in report.table(document, 1000)
    assert "p99 0.50 s (1 times; 24 changes a second)" in report.table(document, 1000)
    json.dumps(document)


def test_the_bare_client_writes_what_the_operator_would_with_the_real_owner() -> None:
    crowd = workload.Crowd.of(3)
    defaults = workload.defaults(Platform())
    bodies = workload.encoded(workload.children(crowd.services[0], defaults))
    kinds = [msgspec.json.decode(body)["kind"] for _, body in bodies]
    assert {"ServiceAccount", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment"} <= set(kinds)
    uid = "0f3a3c43-7a43-4ad1-b0ab-9d6fd1ad7a17"
    for path, body in bodies:
        owned = msgspec.json.decode(workload.owned(body, uid))
        assert owned["metadata"]["ownerReferences"][0]["uid"] == uid
        assert path.endswith(f"/{owned['metadata']['name']}")


def test_a_thousand_services_are_the_default() -> None:
    assert (arguments([]).services, arguments([]).output.name) == (1000, "bench-operator.json")
