"""What a thousand converged services cost at rest, and how fast the operator reacts among them."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final
from uuid import uuid4

import aiohttp
import msgspec

from nova_api import names
from nova_operator.kinds import CONFIG_MAP, NOVA_SERVICE, POD
from nova_operator.kube import path_of
from tests.cluster.api import Api
from tests.cluster.kubelet import Kubelet
from tests.cluster.operator_process import OperatorProcess

from ..machine import memory, thread_group_ns
from .client import Client, each
from .workload import NAMESPACES, REPLICAS, Crowd, Service, document

REQUESTS: Final = "nova_operator_api_requests_total"
ASK: Final = 0.02
PATIENCE: Final = 60.0
NOISE_PER_SECOND: Final = 50
NETWORK: Final = 200
"""Of the addresses that fake kubelets give to pods."""


@dataclass(frozen=True)
class Rest:
    """An interval in which nobody wanted anything."""

    calls_per_minute: float
    """Lists too, so far as they fall into it: each kind is listed once in `--resync`."""
    cpu_percent: float
    """Of one core."""
    rss_mb: float


@dataclass(frozen=True)
class Times:
    """Seconds that something took, sorted."""

    seconds: tuple[float, ...]

    @classmethod
    def of(cls, taken: Sequence[float]) -> Times:
        return cls(tuple(sorted(taken)))

    def share(self, part: float) -> float:
        """The time within which this part of them was."""
        return self.seconds[min(len(self.seconds) - 1, int(part * len(self.seconds)))]

    def figures(self) -> dict[str, float]:
        return {
            "p50": round(self.share(0.5), 3),
            "p99": round(self.share(0.99), 3),
            "max": round(self.seconds[-1], 3),
            "samples": len(self.seconds),
        }


async def quiet(client: Client, crowd: Crowd, operator: OperatorProcess, patience: float) -> bool:
    """Wait until nothing is due: the controller manager has made all pods, each status counts them, which may wait for
    a minute, and nothing was written for two seconds, since Events come last. Whether it came to that in time."""
    deadline, before = time.monotonic() + patience, -1.0
    while time.monotonic() < deadline:
        if await _all_told(client, crowd) and operator.writes() == before:
            return True
        before = operator.writes()
        await asyncio.sleep(2)
    return False


async def rest(operator: OperatorProcess, seconds: float) -> Rest:
    """Watch it do nothing."""
    pid = operator.process.pid
    calls, spent, began = operator.metric(REQUESTS), thread_group_ns(pid), time.monotonic()
    await asyncio.sleep(seconds)
    lasted = time.monotonic() - began
    return Rest(
        calls_per_minute=(operator.metric(REQUESTS) - calls) / lasted * 60,
        cpu_percent=(thread_group_ns(pid) - spent) / 1e9 / lasted * 100,
        rss_mb=memory(pid).rss_mb,
    )


async def drift(client: Client, crowd: Crowd, count: int, random: Random) -> Times:
    """Take the configuration out of ConfigMaps; how long until it is back."""
    taken: list[float] = []

    async def spoil(service: Service) -> None:
        path = _config_map(service)
        await client.merge(path, {"data": {names.CONFIG_KEY: None}})
        taken.append(await _until(lambda: _has_config(client, path)))

    await each(random.sample(crowd.services, min(count, len(crowd.services))), spoil, 4)
    return Times.of(taken)


async def changes(client: Client, crowd: Crowd, count: int, random: Random) -> Times:
    """Change services; how long until their ConfigMaps say it."""
    taken: list[float] = []

    async def change(service: Service) -> None:
        path = _config_map(service)
        before = (await client.document(path))["data"]
        await client.merge(service.path, _threshold(random.randint(1, 1_000_000)))
        taken.append(await _until(lambda: _differs(client, path, before)))

    await each(random.sample(crowd.services[1:], min(count, len(crowd.services) - 1)), change, 2)
    return Times.of(taken)


async def beside_noise(client: Client, crowd: Crowd, count: int, random: Random) -> tuple[Times, float]:
    """The same while the first service changes all the time; also how often it really changed in a second.

    By one writer, who does not make up for what was late: several at once are in each other's way, since the API server
    repeats all but one of the writes each time, and nothing but that would be measured."""
    noisy, numbers, began = crowd.services[0], itertools.count(), time.monotonic()

    async def noise() -> None:
        for number in numbers:
            next_at = time.monotonic() + 1 / NOISE_PER_SECOND
            await client.merge(noisy.path, _threshold(number + 2))
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    task = asyncio.create_task(noise())
    try:
        taken = await changes(client, crowd, count, random)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return taken, next(numbers) / (time.monotonic() - began)


async def delivery(client: Client, api: Api, services: int, times: int) -> Times:
    """From the write of a spec until the sidecar runs it. The kubelets are fake ones, which look at a ConfigMap when
    their pod changes, within 50 ms; a real one takes 0.3 to 1.0 s for that."""
    namespace = f"bench-{uuid4().hex[:8]}"
    metadata = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    await client.call("POST", NAMESPACES, msgspec.json.encode(metadata))
    taken: list[float] = []
    async with aiohttp.ClientSession() as session:

        async def one(number: int) -> None:
            name = f"d-{number}"
            with Kubelet(api, namespace, name, NETWORK + number):
                path = f"/apis/nova.dev/v1alpha1/namespaces/{namespace}/novaservices/{name}"
                await client.apply(path, json.dumps(document(name, namespace)).encode())
                address = await _address(client, namespace, name)
                running = await _reported(session, address, "")
                for change in range(times):
                    began = time.monotonic()
                    await client.merge(path, _threshold(change + 2))
                    running = await _reported(session, address, running)
                    taken.append(time.monotonic() - began)

        await each(range(services), one, services)
    return Times.of(taken)


async def _address(client: Client, namespace: str, name: str) -> str:
    found: list[str] = []

    async def ready() -> bool:
        pods = await client.items(f"{path_of(POD, namespace)}?labelSelector={names.LABEL_SERVICE}={name}")
        found[:] = [pod["status"]["podIP"] for pod in pods if "podIP" in pod["status"]]
        return bool(found)

    await _until(ready)
    return found[0]


async def _reported(session: aiohttp.ClientSession, address: str, before: str) -> str:
    """The hash that the sidecar runs, once it is another one."""
    found = before

    async def changed() -> bool:
        nonlocal found
        async with session.get(f"http://{address}:{names.STATUS_PORT}/status") as answer:
            found = (await answer.json(content_type=None)).get("configHash", before)
        return found != before

    await _until(changed)
    return found


async def _all_told(client: Client, crowd: Crowd) -> bool:
    for namespace in crowd.namespaces:
        statuses = [item["status"] for item in await client.items(path_of(NOVA_SERVICE, namespace))]
        if not all(one.get("replicas") == one.get("sidecars", {}).get("total") == REPLICAS for one in statuses):
            return False
    return True


async def _until(condition: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until it holds. Raises TimeoutError."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError(f"not within {PATIENCE:.0f} s")
        await asyncio.sleep(ASK)
    return time.monotonic() - began


async def _has_config(client: Client, path: str) -> bool:
    return names.CONFIG_KEY in (await client.document(path)).get("data", {})


async def _differs(client: Client, path: str, before: dict[str, str]) -> bool:
    return bool((await client.document(path)).get("data") != before)


def _config_map(service: Service) -> str:
    return path_of(CONFIG_MAP, service.namespace, names.config_map(service.name))


def _threshold(number: int) -> dict[str, object]:
    return {"spec": {"backpressure": {"maxConcurrency": number}}}
