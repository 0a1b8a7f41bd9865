"""Brings a written configuration to the sidecars and proves that it has arrived.

A kubelet looks at a mounted ConfigMap about once a minute, but at once when its pod changes. So after the ConfigMap the
operator changes an annotation of each pod that runs something older, and then asks the sidecars until all of them
report the new hash. A kubelet that looked before the new ConfigMap had reached it is nudged again.

https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

import msgspec
import structlog

from nova_api import names
from nova_operator.cluster import Cluster, ClusterError
from nova_operator.kinds import POD
from nova_operator.mirror import Mirror, ServiceKey
from nova_operator.pods import PodView
from nova_operator.sidecars import SidecarReport, Sidecars

FIRST_LOOK: Final = 0.2
LONGEST_LOOK: Final = 2.0
"""Seconds between two looks while sidecars are behind: doubling from the first to the longest."""

NUDGE_AGAIN: Final = 2.0
"""Seconds after which a nudge has not worked: a kubelet takes 0.3 to 1.0 s."""

FORGIVEN_MISSES: Final = 2
"""Looks that may go unanswered before a sidecar counts as silent: under load one second can be short."""

log = structlog.get_logger()


class _Delivery:
    """The sidecars of one service."""

    __slots__ = ("closely", "looked", "looks", "misses", "nudged", "reports", "since", "wanted")

    def __init__(self) -> None:
        self.wanted = ""
        self.closely: float | None = None
        """Seconds between two looks while a canary is under way."""
        self.since = 0.0
        self.looks = 0
        self.looked = False
        self.reports: dict[str, SidecarReport] = {}
        self.misses: dict[str, int] = {}
        self.nudged: dict[str, tuple[str, float, int]] = {}  # by pod uid: hash, when, how often


class Delivery:
    """The sidecars of all services. `look_soon` asks for a turn of `look`, `on_change` hears of new reports,
    `count` how many sidecars were asked and how many answered."""

    def __init__(
        self,
        cluster: Cluster,
        sidecars: Sidecars,
        mirror: Mirror,
        *,
        poll: float,
        random: Random,
        on_change: Callable[[ServiceKey], None],
        look_soon: Callable[[ServiceKey], None],
        count: Callable[[int, int], None] = lambda _asked, _answered: None,
    ) -> None:
        self._cluster = cluster
        self._sidecars = sidecars
        self._mirror = mirror
        self._poll = poll
        self._random = random
        self._on_change = on_change
        self._look_soon = look_soon
        self._count = count
        self._services: dict[ServiceKey, _Delivery] = {}

    def __repr__(self) -> str:
        return f"<Delivery services={len(self._services)}>"

    def expect(self, service: ServiceKey, config_hash: str) -> None:
        """Say what the sidecars of a service should run; looks at once if one is not known to."""
        delivery = self._services.setdefault(service, _Delivery())
        if delivery.wanted != config_hash:
            delivery.wanted, delivery.since, delivery.looks = config_hash, time.monotonic(), 0
            delivery.reports = {uid: _afresh(report, config_hash) for uid, report in delivery.reports.items()}
            if self._mirror.pods(service):
                self._look_soon(service)
            else:  # nobody to ask, as of each service that was just made
                delivery.looked = True
        elif any(pod.uid not in delivery.reports for pod in self._reachable(service)):
            delivery.looks = 0
            self._look_soon(service)

    def watch(self, service: ServiceKey, seconds: float | None) -> None:
        """Look at a service's sidecars every `seconds`, and keep what they say of their traffic; None: no longer."""
        delivery = self._services.setdefault(service, _Delivery())
        if seconds is not None and delivery.closely is None:
            self._look_soon(service)
        delivery.closely = seconds

    def forget(self, service: ServiceKey) -> None:
        """The service is gone."""
        self._services.pop(service, None)

    def reports(self, service: ServiceKey) -> Mapping[str, SidecarReport]:
        """What the sidecars said last, by pod uid."""
        delivery = self._services.get(service)
        return dict(delivery.reports) if delivery is not None else {}

    def looked(self, service: ServiceKey) -> bool:
        """Whether the sidecars of a service were asked at least once since this process began, or there were none."""
        delivery = self._services.get(service)
        return delivery is not None and delivery.looked

    def silent(self, service: ServiceKey) -> frozenset[str]:
        """Uids of the pods whose sidecars did not answer more often than is forgiven."""
        delivery = self._services.get(service)
        return _silent(delivery) if delivery is not None else frozenset()

    def age(self, service: ServiceKey) -> float:
        """Seconds since the sidecars are expected to run what they should; infinite if nothing is expected."""
        delivery = self._services.get(service)
        return time.monotonic() - delivery.since if delivery is not None else float("inf")

    async def look(self, service: ServiceKey) -> float | None:
        """Nudge, ask, remember; returns the seconds until the next look. Raises ClusterError if a nudge failed."""
        delivery = self._services.get(service)
        if delivery is None:
            return None
        await self._nudge(service, delivery)
        pods = self._reachable(service)
        answers = await self._sidecars.read(pods)
        self._count(len(pods), len(answers))
        if self._remember(delivery, pods, answers):
            self._on_change(service)
        return self._pause(service, delivery)

    def _reachable(self, service: ServiceKey) -> tuple[PodView, ...]:
        return tuple(pod for pod in self._mirror.pods(service) if pod.address is not None and not pod.leaving)

    async def _nudge(self, service: ServiceKey, delivery: _Delivery) -> None:
        """Only pods that are known to have something older: one that is starting mounts the current ConfigMap."""
        behind = [
            pod
            for pod in self._reachable(service)
            if (report := delivery.reports.get(pod.uid)) is not None and not _is_settled(report, delivery.wanted)
        ]
        await asyncio.gather(*(self._nudge_pod(service, delivery, pod) for pod in behind))

    async def _nudge_pod(self, service: ServiceKey, delivery: _Delivery, pod: PodView) -> None:
        now = time.monotonic()
        config_hash, when, times = delivery.nudged.get(pod.uid, ("", 0.0, 0))
        if config_hash != delivery.wanted:
            times = 0
        elif now - when < NUDGE_AGAIN * 2 ** min(times - 1, 5):
            return
        delivery.nudged[pod.uid] = (delivery.wanted, now, times + 1)
        value = delivery.wanted if times == 0 else f"{delivery.wanted}.{times}"  # only a new value is a change
        annotations = {names.ANNOTATION_CONFIG_HASH: value}
        metadata = {"name": pod.name, "namespace": service.namespace, "uid": pod.uid, "annotations": annotations}
        try:
            await self._cluster.merge(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
        except ClusterError as error:  # it is gone, or its kubelet has to find out by itself within a minute
            about = {"service": service.name, "namespace": service.namespace}
            log.debug("pod not nudged", **about, pod=pod.name, error=str(error))

    def _remember(self, delivery: _Delivery, pods: tuple[PodView, ...], answers: Mapping[str, SidecarReport]) -> bool:
        """Take the answers over; whether anything is new. A sidecar that missed a look keeps its last report."""
        before, first = delivery.reports, not delivery.looked
        silent = _silent(delivery)
        delivery.looked = True
        delivery.misses = {pod.uid: delivery.misses.get(pod.uid, 0) + 1 for pod in pods if pod.uid not in answers}
        kept = {
            pod.uid: before[pod.uid]
            for pod in pods
            if pod.uid in before and delivery.misses.get(pod.uid, 0) <= FORGIVEN_MISSES
        }
        if delivery.closely is None:  # counters move with every request: they are no news, and many
            answers = {uid: msgspec.structs.replace(report, traffic=None) for uid, report in answers.items()}
        delivery.reports = {**kept, **answers}
        delivery.nudged = {pod.uid: delivery.nudged[pod.uid] for pod in pods if pod.uid in delivery.nudged}
        return first or delivery.reports != before or _silent(delivery) != silent

    def _pause(self, service: ServiceKey, delivery: _Delivery) -> float:
        behind = any(
            (report := delivery.reports.get(pod.uid)) is None or not _is_settled(report, delivery.wanted)
            for pod in self._reachable(service)
        )
        if not behind:
            delivery.looks = 0
            return (delivery.closely or self._poll) * self._random.uniform(0.9, 1.1)
        delivery.looks += 1
        return min(LONGEST_LOOK, FIRST_LOOK * 2.0 ** min(delivery.looks - 1, 10))


def _silent(delivery: _Delivery) -> frozenset[str]:
    return frozenset(uid for uid, count in delivery.misses.items() if count > FORGIVEN_MISSES)


def _is_settled(report: SidecarReport, wanted: str) -> bool:
    """One that runs the wanted document and complains of another still has that in its file: it was taken back. It
    has to see the wanted one before the other can be tried again."""
    return report.config_hash == wanted and report.last_error is None


def _afresh(report: SidecarReport, wanted: str) -> SidecarReport:
    """Without what it said of the wanted document when that was tried before."""
    stale = report.last_error is not None and report.last_error.hash == wanted
    return msgspec.structs.replace(report, last_error=None) if stale else report
