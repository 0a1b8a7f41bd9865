"""How long it takes until a crowd of services has converged, and how long a bare client needs to write the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from nova_api import names
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH
from nova_operator.kinds import NOVA_SERVICE, Kind, kind_of
from nova_operator.kube import path_of

from ..machine import thread_group_ns
from .client import Client, each
from .workload import Crowd, Service, children, encoded, owned

ASK_SECONDS = 0.25
ASK_SHARE = 0.02
"""Between two questions whether all have converged, at least, and as a share of what has passed: a question costs the
API server several milliseconds, which asked four times a second would be a good part of what is measured."""

Pids = Mapping[str, int]


class WrongError(Exception):
    """The operator wrote something else than it should."""


@dataclass(frozen=True)
class Round:
    """One crowd, written."""

    seconds: float
    cpu_ms: dict[str, float]
    """CPU time for each service, by process."""


async def bare(client: Client, crowd: Crowd, defaults: Defaults, pids: Pids) -> Round:
    """Write services and children as fast as a client can."""
    await crowd.prepare(client)
    bodies = {service.path: encoded(children(service, defaults)) for service in crowd.services}

    async def write(service: Service) -> None:
        answer = msgspec.json.decode(await client.apply(service.path, service.body))
        for path, body in bodies[service.path]:
            await client.apply(path, owned(body, answer["metadata"]["uid"]))

    meter = Meter(pids, len(crowd.services))
    await each(crowd.services, write)
    return meter.stop()


async def operator(client: Client, crowd: Crowd, defaults: Defaults, pids: Pids, patience: float) -> Round:
    """Write services while an operator runs, until all have converged. Raises WrongError, TimeoutError."""
    await crowd.prepare(client)
    meter = Meter(pids, len(crowd.services))
    async with asyncio.timeout(patience), asyncio.TaskGroup() as group:
        group.create_task(each(crowd.services, lambda service: _apply(client, service)))
        await converged(client, crowd)
    taken = meter.stop()
    await compare(client, crowd, defaults)
    return taken


async def converged(client: Client, crowd: Crowd) -> None:
    """Wait until the printer column Ready of each service says something: then its status has been written."""
    left = set(crowd.namespaces)
    wanted = {name: sum(service.namespace == name for service in crowd.services) for name in left}
    began = time.monotonic()
    while left:
        await asyncio.sleep(max(ASK_SECONDS, ASK_SHARE * (time.monotonic() - began)))
        for namespace in sorted(left):
            rows = await client.rows(path_of(NOVA_SERVICE, namespace))
            if sum(row[1] is not None for row in rows) < wanted[namespace]:
                break
            left.discard(namespace)


async def compare(client: Client, crowd: Crowd, defaults: Defaults) -> None:
    """See that every child is there and says what it should, and every status is of the service's generation."""
    wanted: dict[tuple[Kind, str], dict[str, Service]] = {}
    for service in crowd.services:
        for manifest in children(service, defaults):
            wanted.setdefault((kind_of(manifest), service.namespace), {})[manifest["metadata"]["name"]] = service
    owners = {namespace: await _uids(client, namespace) for namespace in crowd.namespaces}
    for (kind, namespace), expected in wanted.items():
        path = f"{path_of(kind, namespace)}?labelSelector={names.LABEL_SERVICE}"
        found = {item["metadata"]["name"]: item for item in await client.items(path)}
        if missing := sorted(expected.keys() - found.keys()):
            raise WrongError(f"{kind.kind} {missing[0]} is missing in {namespace}")
        for name, service in expected.items():
            metadata = found[name]["metadata"]
            if metadata["ownerReferences"][0]["uid"] != owners[namespace][service.name]:
                raise WrongError(f"{kind.kind} {name} in {namespace} belongs to somebody else")
            if ANNOTATION_MANIFEST_HASH not in metadata["annotations"]:
                raise WrongError(f"{kind.kind} {name} in {namespace} is not the operator's")


async def _apply(client: Client, service: Service) -> None:
    await client.apply(service.path, service.body)


async def _uids(client: Client, namespace: str) -> dict[str, str]:
    uids = {}
    for item in await client.items(path_of(NOVA_SERVICE, namespace)):
        metadata, status = item["metadata"], item["status"]
        if status["observedGeneration"] != metadata["generation"]:
            raise WrongError(f"the status of {metadata['name']} in {namespace} is of an older generation")
        uids[metadata["name"]] = metadata["uid"]
    return uids


class Meter:
    """Time and CPU time since it was made; `count` services share the latter."""

    def __init__(self, pids: Pids, count: int) -> None:
        self._pids = pids
        self._count = count
        self._cpu = self._read()
        self._began = time.monotonic()

    def stop(self) -> Round:
        seconds = time.monotonic() - self._began
        spent = {name: (now - self._cpu[name]) / 1e6 / self._count for name, now in self._read().items()}
        return Round(seconds, spent)

    def _read(self) -> dict[str, int]:
        return {name: thread_group_ns(pid) for name, pid in self._pids.items()}
