"""The services that are written, and what their children should be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import msgspec

from nova_api.model import convert
from nova_api.v1alpha1 import API_VERSION, KIND, NovaService
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.kinds import NOVA_SERVICE, kind_of
from nova_operator.kube import path_of
from nova_operator.options import Options

from .client import Client

PER_NAMESPACE: Final = 100
REPLICAS: Final = 2
_UID: Final = "00000000-0000-0000-0000-000000000000"
NAMESPACES: Final = "/api/v1/namespaces"


@dataclass(frozen=True)
class Service:
    """A service's address and its document."""

    namespace: str
    name: str
    body: bytes

    @property
    def path(self) -> str:
        return path_of(NOVA_SERVICE, self.namespace, self.name)


@dataclass(frozen=True)
class Crowd:
    """Services in namespaces of their own."""

    namespaces: tuple[str, ...]
    services: tuple[Service, ...]

    @classmethod
    def of(cls, count: int) -> Crowd:
        """`count` services as most are: an image, a port, and an upstream."""
        number = -(-count // PER_NAMESPACE)
        namespaces = tuple(f"bench-{uuid4().hex[:8]}" for _ in range(number))
        return cls(namespaces, tuple(_service(namespaces[n % number], f"s-{n:04d}") for n in range(count)))

    async def prepare(self, client: Client) -> None:
        """Make the namespaces, and wait until pods may be created in them."""
        for name in self.namespaces:
            document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            await client.call("POST", NAMESPACES, msgspec.json.encode(document))
        for name in self.namespaces:
            while not await client.items(f"{NAMESPACES}/{name}/serviceaccounts"):  # noqa: ASYNC110 - the cluster knows
                await asyncio.sleep(0.1)


def document(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A NovaService."""
    upstream = {"name": "stock", "host": "stock.shop.svc.cluster.local", "port": 80}
    body = {"image": "registry.example/app:1", "replicas": REPLICAS, "ports": [{"port": 8080}], "upstreams": [upstream]}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {**body, **spec}}


def children(service: Service, defaults: Defaults) -> tuple[dict[str, Any], ...]:
    """The manifests the operator should write, for an owner whose uid is not known yet."""
    wanted = msgspec.json.decode(service.body)
    wanted["metadata"] |= {"uid": _UID, "generation": 1}
    return desired_state(convert(wanted, NovaService), defaults)


def encoded(manifests: Sequence[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """Path and body of each."""
    return [
        (
            path_of(kind_of(manifest), manifest["metadata"]["namespace"], manifest["metadata"]["name"]),
            msgspec.json.encode(manifest),
        )
        for manifest in manifests
    ]


def owned(body: bytes, uid: str) -> bytes:
    """The body with the owner's real uid; every uid is as long as another."""
    return body.replace(_UID.encode(), uid.encode())


def defaults(platform: Platform) -> Defaults:
    """What an operator without options gives services that say nothing."""
    options = Options()
    return Defaults(
        sidecar_image=options.sidecar_image,
        sidecar_pull_policy=options.sidecar_pull_policy,
        sidecar_requests=options.sidecar_requests,
        platform=platform,
    )


def _service(namespace: str, name: str) -> Service:
    return Service(namespace, name, msgspec.json.encode(document(name, namespace)))
