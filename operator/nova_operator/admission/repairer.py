"""Finds pods that missed the sidecar, tells of them, and replaces them where their service says so.

Pods are looked for with a selector that injected ones do not match, so that in a cluster where all is well the answer
is empty. They are evicted, never deleted: the API server keeps to the PodDisruptionBudgets that the pods' owners made.
https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from nova_api import names
from nova_operator.admission.injection import has_sidecar
from nova_operator.admission.repair import LONGEST_PAUSE, InjectedPod, Memory, Missed, alive, choose, describe, view
from nova_operator.admission.rounds import rounds
from nova_operator.admission_metrics import AdmissionMetrics
from nova_operator.cluster import Cluster, ClusterError
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import NOVA_SERVICE, POD
from nova_operator.mirror import ServiceKey

SELECTOR: Final = f"{names.LABEL_INJECT},!{names.LABEL_SERVICE}"
BUSY: Final = 5.0
"""Seconds between two rounds while pods are being replaced."""

MOST_PER_ROUND: Final = 5
"""Evictions of a round, over all services."""

log = structlog.get_logger()


class Repairer:
    """`missed` takes what was found; `changed` is told of each service to which that is news; `poll` in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        namespaces: Iterable[str],
        missed: Missed,
        changed: Callable[[ServiceKey], None],
        metrics: AdmissionMetrics,
        *,
        poll: float,
    ) -> None:
        self._cluster = cluster
        self._namespaces = tuple(namespaces) or (None,)
        self._missed = missed
        self._changed = changed
        self._metrics = metrics
        self._poll = poll
        self._memories: dict[ServiceKey, Memory] = {}
        """Of the services that are being repaired."""
        self._left = MOST_PER_ROUND

    def __repr__(self) -> str:
        return f"<Repairer repairing={len(self._memories)}>"

    async def run(self) -> None:
        """Round after round, until cancelled."""
        await rounds("find pods without sidecar", self._round, self._poll)

    async def _round(self) -> float:
        found = await self._find()
        self._metrics.uninjected_pods.set(sum(map(len, found.values())))
        self._forget(found)
        self._left = MOST_PER_ROUND
        words: dict[ServiceKey, str] = {}
        for service, pods in found.items():
            action = await self._repair(service)
            words[service] = describe((pod["metadata"]["name"] for pod in pods), action)
        for service in self._missed.replace(words):
            self._changed(service)
            about = {"service": service.name, "namespace": service.namespace}
            if service in words:
                log.info("pods without sidecar", **about, note=words[service])
            else:
                log.info("every pod has its sidecar", **about)
        return min(BUSY, self._poll) if self._memories.keys() & found.keys() else self._poll

    def _forget(self, found: Mapping[ServiceKey, object]) -> None:
        """What was repaired is remembered for a while: its pods may come without the sidecar again."""
        recent = time.monotonic() - LONGEST_PAUSE
        kept = {key: memory for key, memory in self._memories.items() if key in found or memory.evicted_at > recent}
        self._memories = kept

    async def _find(self) -> dict[ServiceKey, list[Manifest]]:
        found: dict[ServiceKey, list[Manifest]] = {}
        for namespace in self._namespaces:
            for pod in alive(await self._cluster.list(POD, namespace, SELECTOR)):
                metadata = pod["metadata"]
                if not has_sidecar(pod) and "deletionTimestamp" not in metadata:
                    service = ServiceKey(metadata["namespace"], metadata["labels"][names.LABEL_INJECT])
                    found.setdefault(service, []).append(pod)
        return found

    async def _repair(self, service: ServiceKey) -> str:
        """One step of a service's repair; what is done about it, in words."""
        if not _may_repair(await self._cluster.get(NOVA_SERVICE, *service)):
            self._memories.pop(service, None)
            return f"restart them, or annotate the NovaService with {names.ANNOTATION_REPAIR}=true"
        pods = await self._cluster.list(POD, service.namespace, f"{names.LABEL_INJECT}={service.name}")
        choice = choose(map(view, alive(pods)), self._memories.get(service, Memory()), time.monotonic())
        if choice.pod is None:
            self._memories[service] = choice.memory
            return f"repair waits for {choice.waits_for}"
        if self._left and await self._evict(service, choice.pod):
            self._left -= 1
            self._memories[service] = choice.memory
            return f"repair waits for {choice.waits_for}"
        self._memories.setdefault(service, Memory())
        return "repair waits for a PodDisruptionBudget, the API server or its turn"

    async def _evict(self, service: ServiceKey, pod: InjectedPod) -> bool:
        about = {"service": service.name, "namespace": service.namespace, "pod": pod.name}
        try:
            await self._cluster.evict(service.namespace, pod.name, pod.uid)
        except ClusterError as error:
            log.info("pod not evicted", **about, error=str(error))
            return False
        self._metrics.repaired_pods.inc()
        log.info("pod evicted to get the sidecar", **about)
        return True


def _may_repair(document: Manifest | None) -> bool:
    """Whether a service wants its pods injected, and replaced where they were not."""
    if document is None:
        return False
    annotations = document["metadata"].get("annotations") or {}
    reference = document.get("spec", {}).get("workloadRef") or {}
    return annotations.get(names.ANNOTATION_REPAIR) == "true" and reference.get("mode") == "Inject"
