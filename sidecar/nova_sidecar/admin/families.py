"""Metric families and their two text formats: Prometheus' own (0.0.4) and OpenMetrics 1.0.

The official client library writes the same bytes, and is the oracle of the tests. It is not used here, because with its
own HTTP server, gateway client and parsers it would cost every pod 2.6 MB, for this page of code.
https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import ClassVar, Final, Literal, NamedTuple, Protocol

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
END: Final = b"# EOF\n"
"""The last line of OpenMetrics."""

_VALUE: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Sample(NamedTuple):
    """One line."""

    name: str
    labels: dict[str, str]
    value: float


class Family:
    """A metric with its samples; `name` is without the suffixes that samples of its kind have."""

    kind: ClassVar[Literal["counter", "gauge", "histogram"]]

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.text = text
        """What it says, one sentence."""
        self.samples: list[Sample] = []
        self._labels = tuple(labels)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} samples={len(self.samples)}>"

    def render(self, *, open_metrics: bool) -> bytes:
        """The family in one of the formats."""
        counter = self.kind == "counter"
        name = f"{self.name}_total" if counter and not open_metrics else self.name
        text = self.text.translate(_VALUE if open_metrics else _HELP)
        lines = [f"# HELP {name} {text}", f"# TYPE {name} {self.kind}"]
        lines += [_line(sample) for sample in self.samples]
        return "\n".join(lines).encode() + b"\n"

    def _labelled(self, values: Sequence[str]) -> dict[str, str]:
        return dict(zip(self._labels, values, strict=True))


class CounterFamily(Family):
    """What only ever grows; its samples are called ``<name>_total``."""

    kind = "counter"

    def add_metric(self, values: Sequence[str], value: float) -> None:
        """The count for these label values."""
        self.samples.append(Sample(f"{self.name}_total", self._labelled(values), value))


class GaugeFamily(Family):
    """What goes up and down."""

    kind = "gauge"

    def add_metric(self, values: Sequence[str], value: float) -> None:
        """The value for these label values."""
        self.samples.append(Sample(self.name, self._labelled(values), value))


class HistogramFamily(Family):
    """Observations counted by upper bounds."""

    kind = "histogram"

    def add_metric(self, values: Sequence[str], buckets: Iterable[tuple[str, float]], total: float) -> None:
        """Cumulated counts by bound, ``+Inf`` last, and the sum of all observations."""
        labels = self._labelled(values)
        count = 0.0
        for bound, count in buckets:
            self.samples.append(Sample(f"{self.name}_bucket", {**labels, "le": bound}, count))
        self.samples.append(Sample(f"{self.name}_count", labels, count))
        self.samples.append(Sample(f"{self.name}_sum", labels, total))


class Collector(Protocol):
    """Something with metrics."""

    def collect(self) -> Iterable[Family]:
        """Every family, read now."""


def wants_open_metrics(accept: str) -> bool:
    """Whether a scraper's Accept header names a version of OpenMetrics that this is; else it gets Prometheus' text."""
    return any(_is_open_metrics(each) for each in accept.split(","))


def _is_open_metrics(accepted: str) -> bool:
    kind, *parameters = (part.strip() for part in accepted.lower().split(";"))
    given = dict(_parameters(parameters))
    return (
        kind == "application/openmetrics-text"
        and given.get("version", "1.0.0").startswith("1.")
        and given.get("q", "1").strip("0.") != ""
    )


def _parameters(parts: Iterable[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        name, _, value = part.partition("=")
        yield name.strip(), value.strip()


def _line(sample: Sample) -> str:
    name, labels, value = sample
    if not labels:
        return f"{name} {_number(value)}"
    pairs = ",".join(f'{key}="{labels[key].translate(_VALUE)}"' for key in sorted(labels))
    return f"{name}{{{pairs}}} {_number(value)}"


def _number(value: float) -> str:
    """As Go reads it. NaN and the infinities are spelled otherwise there."""
    value = float(value)
    if value == inf:
        return "+Inf"
    if value == -inf:
        return "-Inf"
    return repr(value) if value == value else "NaN"  # noqa: PLR0124 - NaN is the one that is not
