"""What the filters make of a policy's answer; requests as such are the loopback tests' business."""

from types import SimpleNamespace
from typing import Any

import pytest

from nova_api.policies import BackpressurePolicy
from nova_sidecar.pipeline.filters import ShadowLimiterFilter
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.limiter import Limiter


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
