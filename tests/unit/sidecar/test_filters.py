"""What the filters make of a policy's answer; requests as such are the loopback tests' business."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from nova_api.policies import BackpressurePolicy
from nova_sidecar.pipeline.filters import SampledAccessLogFilter, ShadowLimiterFilter
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.correlation import CorrelationIds
from nova_sidecar.policy.limiter import Limiter
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.telemetry.entry import AccessEntry


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (BackpressurePolicy(mode="Shadow", max_concurrency=1), "overloaded"),
        (BackpressurePolicy(mode="Shadow", max_concurrency=1, threshold=1.0, max_queue=0), "queue_full"),
        (BackpressurePolicy(mode="Shadow", max_concurrency=1, threshold=1.0), None),  # it would only have waited
    ],
)
def test_shadow_counts_the_reason_for_which_enforce_would_refuse(
    policy: BackpressurePolicy, reason: str | None
) -> None:
    stats = PortStats("inbound", "web")
    shadow = ShadowLimiterFilter(Limiter(policy), stats)
    for _ in range(2):
        exchange: Any = SimpleNamespace(place=False)
        assert shadow.on_request(exchange, 0.0) is None
        assert exchange.place
    assert {str(why): count for why, count in stats.shadow_rejected.items() if count} == ({reason: 1} if reason else {})


class Log:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.entries: list[AccessEntry] = []

    def record(self, entry: AccessEntry) -> None:
        self.entries.append(entry)


def finished(correlation: bytes = b"", status: int = 200, reason: Reason | None = None) -> Any:
    head = SimpleNamespace(verb="GET", path="/")
    return SimpleNamespace(
        reason=reason, status=status, head=head, endpoint=None, started=0.0, upstream_seconds=0.0, attempts=1,
        bytes_in=0, bytes_out=0, correlation=correlation, downstream=SimpleNamespace(client="127.0.0.1"),
    )  # fmt: skip


def sampled(share: float) -> tuple[SampledAccessLogFilter, Log]:
    log = Log()
    return SampledAccessLogFilter(log, PortStats("inbound", "web"), share=share), log


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_share_of_the_access_log_is_drawn_by_the_correlation_id(share: float) -> None:
    """Every sidecar on a request's way draws alike, so that what is there is there as a whole."""
    ids = CorrelationIds(lambda size: random.Random(7).randbytes(size))
    made = [ids.generate() for _ in range(128)] + [b"order-%d" % number for number in range(10_000)]
    drawn = []
    for _ in range(2):
        taking, log = sampled(share)
        for each in made:
            taking.on_complete(finished(each), 1.0)
        drawn.append([entry.correlation_id for entry in log.entries])
    assert drawn[0] == drawn[1]
    assert abs(len(drawn[0]) / len(made) - share) < 0.02


def test_without_an_id_every_so_many_lines_are_kept() -> None:
    taking, log = sampled(0.25)
    for _ in range(100):
        taking.on_complete(finished(), 1.0)
    assert len(log.entries) == 25


@pytest.mark.parametrize("error", [{"status": 500}, {"status": 0, "reason": Reason.CLIENT_CLOSED},
                                   {"status": 405, "reason": Reason.UNSUPPORTED_METHOD}])  # fmt: skip
def test_errors_are_always_logged(error: dict[str, Any]) -> None:
    taking, log = sampled(0.0)
    taking.on_complete(finished(b"id", status=404), 1.0)
    assert not log.entries
    taking.on_complete(finished(b"id", **error), 1.0)
    assert len(log.entries) == 1
