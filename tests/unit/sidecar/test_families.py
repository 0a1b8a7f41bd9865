"""Both text formats, with the official client library as the oracle."""

import re
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import metrics_core
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from nova_sidecar.admin.families import END, CounterFamily, Family, GaugeFamily, HistogramFamily, wants_open_metrics

VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.one_of(st.floats(), st.integers(0, 1 << 53), st.booleans())
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class One:
    def __init__(self, family: metrics_core.Metric) -> None:
        self._family = family

    def collect(self) -> tuple[metrics_core.Metric]:
        return (self._family,)


def go(rendered: bytes) -> bytes:
    """The library writes large numbers as Go does (1e+06), which reads both: only the number counts."""
    return re.sub(rb"(?m)(?<= )\S+$", lambda found: repr(float(found[0])).encode(), rendered)


def check(ours: Family, theirs: metrics_core.Metric) -> None:
    assert samples(ours.render(open_metrics=False)) == samples(generate_latest(One(theirs)))  # type: ignore[arg-type]  # as far as it looks
    text = openmetrics.generate_latest(One(theirs))  # type: ignore[arg-type, no-untyped-call]  # as above
    assert samples(ours.render(open_metrics=True) + END) == samples(text)


def samples(rendered: bytes) -> list[bytes]:
    return [line if line.startswith(b"#") else go(line) for line in rendered.split(b"\n")]


@given(TEXTS, st.lists(st.tuples(VALUES, VALUES, NUMBERS), max_size=4))
def test_counters_and_gauges(text: str, rows: list[tuple[str, str, float]]) -> None:
    labels = ("name", "direction")
    counter, gauge = CounterFamily("nova_things", text, labels), GaugeFamily("nova_level", text, labels)
    counters = metrics_core.CounterMetricFamily("nova_things", text, labels=labels)
    gauges = metrics_core.GaugeMetricFamily("nova_level", text, labels=labels)
    for first, second, value in rows:
        for family in (counter, gauge, counters, gauges):
            family.add_metric((first, second), value)
    check(counter, counters)
    check(gauge, gauges)


@given(VALUES, st.lists(st.integers(0, 1 << 40), min_size=4, max_size=4), st.floats(0, 1e9))
def test_histograms(value: str, counts: list[int], total: float) -> None:
    buckets = list(zip(("0.005", "0.1", "30.0", "+Inf"), sorted(counts), strict=True))
    ours, theirs = (
        HistogramFamily("nova_s", "x", ("port",)),
        metrics_core.HistogramMetricFamily("nova_s", "x", labels=["port"]),
    )
    ours.add_metric((value,), buckets, total)
    theirs.add_metric((value,), buckets, total)
    check(ours, theirs)


@pytest.mark.parametrize(("value", "text"), [(1, "1.0"), (True, "1.0"), (inf, "+Inf"), (-inf, "-Inf"), (nan, "NaN")])
def test_numbers(value: float, text: str) -> None:
    family = GaugeFamily("nova_level", "x")
    family.add_metric((), value)
    assert family.render(open_metrics=False).endswith(f"\nnova_level {text}\n".encode())


def test_a_family_without_samples_is_still_announced() -> None:
    assert CounterFamily("a", "b").render(open_metrics=False) == b"# HELP a_total b\n# TYPE a_total counter\n"
    assert CounterFamily("a", "b").render(open_metrics=True) == b"# HELP a b\n# TYPE a counter\n"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("text/plain;q=0.5, Application/OpenMetrics-Text;version=1.0.0;escaping=underscores;q=0.6", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=0.0.1,text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.0,text/plain", False),
        (";;=,application/openmetrics-textual", False),
    ],
)
def test_what_a_scraper_accepts(accept: str, wanted: bool) -> None:
    assert wants_open_metrics(accept) is wanted
