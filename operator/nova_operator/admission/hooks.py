"""What the webhooks answer: the pure parts, fed with what the API server has now.

The API server is asked, not a mirror: only the leader has one, and the NovaService of a pod may have been made a
moment before. That takes one read per pod and a few per NovaService, within a deadline that leaves time to answer.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Literal

import structlog

from nova_api.errors import ConfigError
from nova_api.v1alpha1 import NovaService
from nova_operator.admission.injection import InjectionError, asked_for, inject
from nova_operator.admission.review import LONGEST_NAME, Answer, Request
from nova_operator.admission.risks import services_called, warnings
from nova_operator.admission.validation import check, needs_no_look
from nova_operator.cluster import Cluster, ClusterError
from nova_operator.desired.defaults import Defaults
from nova_operator.events import Allowance
from nova_operator.kinds import NOVA_SERVICE, SERVICE
from nova_operator.pods import quote

Policy = Literal["Ignore", "Fail"]
"""What happens to a pod that cannot get the sidecar: it comes without, with a warning, or not at all."""

LOOKUP_TIMEOUT: Final = 1.0
"""Seconds for finding out whether upstreams exist; without an answer nothing is said about them."""

READ_TIMEOUT: Final = 3.0
"""Seconds for reading the NovaService of a pod under review."""

MAX_LOOKUPS: Final = 16
"""Upstreams of a service that are looked up; of more nothing is said."""

log = structlog.get_logger()


class Hooks:
    """The two webhooks."""

    def __init__(self, cluster: Cluster, defaults: Defaults, policy: Policy) -> None:
        self._cluster = cluster
        self._defaults = defaults
        self._policy = policy
        self._lines = Allowance()

    async def validate(self, request: Request) -> Answer:
        """Whether a NovaService may be stored, and what its author should know."""
        if needs_no_look(request):
            return Answer()
        try:
            reading = check(request, self._defaults)
        except ConfigError as error:
            return Answer(allowed=False, message=str(error))
        ignored = tuple(
            f"{path}: this operator is older than the definition and ignores it" for path in reading.ignored
        )
        return Answer(
            warnings=ignored + warnings(reading.service, await self._missing(reading.service), self._defaults.platform)
        )

    async def inject(self, request: Request) -> Answer:
        """The sidecar for a pod that asks for it."""
        pod = request.object
        if request.operation != "CREATE" or pod is None or (name := asked_for(pod)) is None:
            return Answer()
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                document = await self._cluster.get(NOVA_SERVICE, request.namespace, name)
            answer = inject(pod, name, document, self._defaults)
        except (InjectionError, ClusterError, TimeoutError) as error:
            return self._without(name, request, str(error) or "the API server did not answer in time")
        log.info("sidecar injected", service=name, namespace=request.namespace, pod=_name(request)[:LONGEST_NAME])
        return answer

    def _without(self, service: str, request: Request, why: str) -> Answer:
        about = {"service": service, "namespace": request.namespace, "pod": _name(request)}
        about = {field: text[:LONGEST_NAME] for field, text in about.items()}
        if self._lines.take(time.monotonic()):  # whoever reaches the port may ask, and must not fill the log
            log.warning("sidecar not injected", **about, error=quote(why))
        if self._policy == "Fail":
            return Answer(allowed=False, message=f"no sidecar for this pod: {why}")
        return Answer(warnings=(f"this pod runs without the sidecar: {why}",))

    async def _missing(self, service: NovaService) -> frozenset[str]:
        """Hosts of upstreams that are known not to be there."""
        called = list(services_called(service).items())[:MAX_LOOKUPS]
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                found = await asyncio.gather(*(self._exists(*where) for _, where in called))
        except (ClusterError, TimeoutError):
            return frozenset()
        return frozenset(host for (host, _), exists in zip(called, found, strict=True) if not exists)

    async def _exists(self, namespace: str, name: str) -> bool:
        return await self._cluster.get(SERVICE, namespace, name) is not None


def _name(request: Request) -> str:
    """A pod of a ReplicaSet has no name yet when it is reviewed."""
    metadata = (request.object or {}).get("metadata") or {}
    return str(request.name or metadata.get("name") or metadata.get("generateName", ""))
