"""What the app reports about its database pools: the page that takes it, and what is counted of it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from nova_sidecar.admin.families import CounterFamily, Family, GaugeFamily
from nova_sidecar.admin.message import Answer, Request, document, text

if TYPE_CHECKING:  # imported where the policy is on
    from nova_sidecar.pipeline.pool_guard import PoolGuardDesk

_OFF: Final = text(409, "poolGuard is off in the NovaService; nobody reads reports")


def take_report(desk: "PoolGuardDesk | None", request: Request) -> Answer:
    """Take a report, all of which is in the query. The answer says what the app's own guards need to know."""
    if desk is None:
        return _OFF
    from nova_sidecar.policy.pool_guard import Taken, parse_report  # noqa: PLC0415 - only where it is on

    try:
        report = parse_report(request.query)
    except ValueError as error:
        desk.guard.malformed()
        return text(400, str(error))
    if desk.report(report) is Taken.TOO_MANY:
        return text(429, "too many pools, processes, or reports a second", {"Retry-After": "1"})
    policy = desk.guard.policy
    return document({"mode": policy.mode, "threshold": policy.threshold, "lifetimeSeconds": float(policy.lifetime)})


def pool_guard_metrics(stats: Mapping[str, Any]) -> Iterator[Family]:
    """Pools as the app has reported them; `stats` is the whole of `/stats`."""
    shown: Mapping[str, Any] = stats["policies"].get("poolGuard", {})
    utilization = GaugeFamily(
        "nova_pool_guard_utilization_ratio",
        "Share of a database pool of the app that is in use, as reported; 0 where nobody reports it any more.",
        labels=("pool",),
    )
    for pool, share in shown.get("utilization", {}).items():
        utilization.add_metric((pool,), share)
    yield utilization
    exhausted = CounterFamily(
        "nova_pool_guard_exhausted", "Requests of the app that got no connection, as reported.", labels=("pool",)
    )
    for pool, count in shown.get("exhausted", {}).items():
        exhausted.add_metric((pool,), count)
    yield exhausted
    refusing = GaugeFamily("nova_pool_guard_refusing", "1 while a database pool of the app is above the threshold.")
    if shown:
        refusing.add_metric((), shown["refusing"])
    yield refusing
    reports = CounterFamily("nova_pool_guard_reports", "Reports of the app by what became of them.", labels=("result",))
    for result, count in shown.get("reports", {}).items():
        reports.add_metric((result,), count)
    yield reports
