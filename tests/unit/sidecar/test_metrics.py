from nova_sidecar.admin.collector import counter, durations, gauge
from nova_sidecar.pipeline.stats import DURATION_BOUNDS, PortStats


def port() -> PortStats:
    return PortStats("inbound", "web")


def test_a_histogram_is_cumulated_with_its_sum_and_count() -> None:
    measured = port()
    for seconds in (0.0001, 0.0005, 0.02, 100.0):
        measured.duration.observe(seconds)

    samples = {(s.name.rpartition("_")[2], s.labels.get("le")): s.value for s in durations([measured]).samples}

    assert samples["bucket", "0.0005"] == 2  # a bound belongs to its bucket
    assert samples["bucket", "0.01"] == 2
    assert samples["bucket", "0.025"] == 3
    assert samples["bucket", "30.0"] == 3
    assert samples["bucket", "+Inf"] == samples["count", None] == 4
    assert samples["sum", None] == sum((0.0001, 0.0005, 0.02, 100.0))
    assert len(samples) == len(DURATION_BOUNDS) + 3


def test_an_untouched_histogram_is_there_with_zeros() -> None:
    assert {sample.value for sample in durations([port()]).samples} == {0}


def test_counters_end_in_total_and_gauges_do_not() -> None:
    (counted,) = counter("nova_things", "Things.", ("kind",), [(("odd",), 3)]).samples
    (shown,) = gauge("nova_level", "Level.", (), [((), 0.5)]).samples
    assert (counted.name, counted.labels, counted.value) == ("nova_things_total", {"kind": "odd"}, 3)
    assert (shown.name, shown.labels, shown.value) == ("nova_level", {}, 0.5)
