"""The operator's metrics are those of docs/metrics.md, and there before anything happened."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from nova_operator import reasons
from nova_operator.metrics import ERRORS, EVENTS, READS, RESULTS, Metrics

PAGE = Path(__file__).parents[2] / "docs/metrics.md"


def documented() -> dict[str, tuple[str, set[str]]]:
    """Name → type and labels."""
    _, _, operator = PAGE.read_text().partition("## The operator")
    rows = [line.split("|")[1:4] for line in operator.splitlines() if line.startswith("| `")]
    return {
        name.strip(" `"): (kind.strip(), {label.strip(" `") for label in labels.split(",") if label.strip()})
        for name, kind, labels in rows
    }


def test_the_page_names_every_metric_with_its_type_and_labels() -> None:
    families = text_string_to_metric_families(Metrics().render().decode())
    found = {
        f"{family.name}_total" if family.type == "counter" else family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families
    }
    assert found == documented()


def test_every_result_is_there_from_the_start() -> None:
    lines = Metrics().render().decode().splitlines()
    assert all(f'nova_operator_reconciles_total{{result="{result}"}} 0.0' in lines for result in RESULTS)


def test_a_reconcile_and_a_request_are_counted() -> None:
    metrics = Metrics()
    metrics.reconcile("retried", 0.3)
    metrics.request("PATCH", "none")
    lines = metrics.render().decode().splitlines()
    assert 'nova_operator_reconciles_total{result="retried"} 1.0' in lines
    assert 'nova_operator_reconcile_duration_seconds_bucket{le="0.5"} 1.0' in lines
    assert 'nova_operator_api_requests_total{code="none",method="PATCH"} 1.0' in lines


def test_every_series_of_a_bounded_label_is_there_from_the_start() -> None:
    lines = set(Metrics().render().decode().splitlines())
    expected = {f'nova_operator_errors_total{{reason="{reason}"}} 0.0' for reason in ERRORS}
    expected |= {f'nova_operator_sidecar_reads_total{{result="{result}"}} 0.0' for result in READS}
    expected |= {f'nova_operator_events_total{{result="{result}"}} 0.0' for result in EVENTS}
    expected |= {f'nova_operator_services_degraded{{reason="{reason}"}} 0.0' for reason in reasons.DEGRADING}
    assert expected <= lines


def test_what_is_in_the_way_of_a_service_is_counted_from_the_start() -> None:
    assert {reasons.WORKLOAD_MISSING, reasons.WORKLOAD_UNSUITABLE, reasons.CANARY_ABORTED} <= {*reasons.DEGRADING}


def test_a_service_counts_as_degraded_for_one_reason_at_a_time() -> None:
    metrics = Metrics()
    for before, after in [("", "Conflict"), ("Conflict", "Conflict"), ("Conflict", "CrashLooping")]:
        metrics.degraded(before, after)
    lines = metrics.render().decode().splitlines()
    assert 'nova_operator_services_degraded{reason="Conflict"} 0.0' in lines
    assert 'nova_operator_services_degraded{reason="CrashLooping"} 1.0' in lines
