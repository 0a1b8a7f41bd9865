"""The order in which policies see a request: one function, one line each, with its reason.

Filters are flat: plain calls, one after the other, that see heads and completions. Bodies pass them by. A filter
answers None (go on), a Reject (refuse), or QUEUED (it will let the exchange go on later, through `go_on`, or the
limiter's `grant`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from nova_sidecar.pipeline.filters import (
    AccessLogFilter,
    CorrelationFilter,
    DeadlineFilter,
    LimiterFilter,
    MetricsFilter,
    RetryFilter,
)
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.protection import ProtectionFilter
from nova_sidecar.pipeline.tracing import TracingFilter
from nova_sidecar.pipeline.upgrade import UpgradeFilter
from nova_sidecar.policy.limiter import Queued
from nova_sidecar.policy.reasons import Reject

if TYPE_CHECKING:  # imported where the policy is on
    from nova_sidecar.pipeline.affinity import AffinityAccessLogFilter, AffinityFilter
    from nova_sidecar.pipeline.request_policies import RequestFilter

OnRequest = Callable[[Handled, float], Reject | Queued | None]
"""Looks at a request before it goes upstream."""

STAGES: Final = (
    "affinity",  # before any place and any count: what is a sibling's takes none here
    "rate_limit",  # by client, before a token is looked at: a flood is refused cheaply
    "jwt",  # before whatever depends on who asks
    "rate_limit_claims",  # by what the token says
    "tenancy",  # whose it is, by the token where there is one
    "idempotency",  # before whatever may answer: a repeated key gets the first answer
    "cache",  # a hit takes no place
    "coalescing",  # nor does who waits for another one's answer
    "pool_guard",  # what the app would refuse for want of a database needs no place either
)
"""Where an exchange may be held, in their order; after the last comes the limiter."""

OnComplete = Callable[[Handled, float], None]
"""Looks at an exchange that is over, however it ended."""


class Chain(NamedTuple):
    """The filters of one port, by moment."""

    request: tuple[OnRequest, ...]
    complete: tuple[OnComplete, ...]
    upgrade: tuple[OnComplete, ...]
    """What is over for an exchange that becomes a tunnel."""
    overloaded: tuple[OnRequest, ...]
    """Stands in for `request` while the sidecar protects itself."""
    after: Mapping[str, tuple[OnRequest, ...]]
    """What follows in `request` behind a stage, for an exchange that has waited there."""


def build_chain(
    *,
    correlation: CorrelationFilter | None,
    tracing: TracingFilter | None,
    protection: ProtectionFilter | None,
    upgrades: UpgradeFilter | None,
    deadline: DeadlineFilter,
    affinity: "AffinityFilter | None",
    policies: "Mapping[str, RequestFilter]",
    limiter: LimiterFilter | None,
    retry: RetryFilter | None,
    metrics: MetricsFilter,
    access_log: "AccessLogFilter | AffinityAccessLogFilter | None",
) -> Chain:
    """The order. Breaker, attempt timeout and retries follow per attempt, in `Exchange`."""
    upgrade = cast(OnRequest, upgrades.on_request) if upgrades else None  # only there where ports speak HTTP/1.1
    protect = protection.on_request if protection else None
    stages: dict[str, OnRequest] = {stage: one.on_request for stage, one in policies.items()}
    if affinity is not None:
        stages["affinity"] = cast(OnRequest, affinity.on_request)
    placed: list[OnRequest | None] = [
        limiter.on_request if limiter else None,  # last of the refusals: whoever got a place goes upstream
        retry.on_request if retry else None,  # only requests that go upstream earn retries
    ]
    request: list[OnRequest | None] = [
        correlation.on_request if correlation else None,  # first: every refusal below carries the id
        tracing.on_request if tracing else None,  # before whatever may refuse: refusals belong into the trace
        protect,  # before everything that takes work; only there while the sidecar is at its limit
        upgrade,  # before any wait: what will not be admitted must not queue for it
        deadline.on_request,  # before any wait: waiting for a place spends the same budget
        *(stages.get(stage) for stage in STAGES),  # each with its reason there
        *placed,
    ]
    complete: list[OnComplete | None] = [
        metrics.on_complete,  # before the place is given on: counters never run behind the next request
        affinity.on_complete if affinity else None,
        *(one.on_complete for one in policies.values()),
        access_log.on_complete if access_log else None,
        tracing.on_complete if tracing else None,
        limiter.on_complete if limiter else None,  # last: it may set another exchange going
    ]
    upgraded: list[OnComplete | None] = [
        *(one.on_upgrade for one in policies.values()),
        limiter.on_complete if limiter else None,  # a conversation is no request in flight; metrics and log wait for it
    ]
    return Chain(
        tuple(f for f in request if f and f is not protect),
        tuple(f for f in complete if f),
        tuple(f for f in upgraded if f),
        tuple(f for f in request if f),
        {stage: _behind(stage, stages, placed) for stage in stages},
    )


def _behind(stage: str, stages: Mapping[str, OnRequest], placed: Iterable[OnRequest | None]) -> tuple[OnRequest, ...]:
    """What follows a stage."""
    later = STAGES[STAGES.index(stage) + 1 :]
    return tuple(f for f in (*(stages.get(name) for name in later), *placed) if f)
