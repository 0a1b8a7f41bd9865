"""What the watches have told so far: the operator's own copy of the objects that concern it.

Kept as compact JSON, decoded when needed: a thousand services have seven thousand objects, and a Deployment takes 3 KB
as bytes and 30 as dictionaries. It begins with complete lists (`Mirror.reset`), or a service whose pods were not heard
of yet would seem to have none. An object that was deleted while no watch was open stays in here until the periodic
reconcile, which reads the API server itself (`Mirror.replace`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from nova_api import names
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import NOVA_SERVICE, POD, Kind
from nova_operator.pods import PodView, view


class ServiceKey(NamedTuple):
    """A NovaService."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class _Entry(NamedTuple):
    uid: str
    version: int
    body: bytes


def service_key(kind: Kind, manifest: Manifest) -> ServiceKey | None:
    """The service that an object is or belongs to; None if to none."""
    metadata = manifest["metadata"]
    if kind is NOVA_SERVICE:
        return ServiceKey(metadata["namespace"], metadata["name"])
    name = (metadata.get("labels") or {}).get(names.LABEL_SERVICE)
    return ServiceKey(metadata["namespace"], name) if name else None


class Mirror:
    """Objects by kind, namespace and name; pods also by service."""

    def __init__(self) -> None:
        self._objects: dict[tuple[Kind, str, str], _Entry] = {}
        self._pods: dict[ServiceKey, dict[str, PodView]] = {}

    def __repr__(self) -> str:
        return f"<Mirror objects={len(self._objects)} pods={sum(map(len, self._pods.values()))}>"

    def put(self, kind: Kind, manifest: Manifest) -> bool:
        """Take an object over; False if it is not news: seen before, or older than what is known.

        Resource versions of one object can be compared as numbers (KEP-5504).
        """
        if kind is POD:
            return self._put_pod(manifest)
        metadata = manifest["metadata"]
        key = (kind, metadata["namespace"], metadata["name"])
        entry = _Entry(metadata["uid"], int(metadata["resourceVersion"]), _pack(manifest))
        known = self._objects.get(key)
        if known is not None and known.uid == entry.uid and known.version >= entry.version:
            return False
        self._objects[key] = entry
        return True

    def drop(self, kind: Kind, manifest: Manifest) -> bool:
        """Forget an object that is gone; False if it was not known, such as one whose namesake was seen since."""
        if kind is POD:
            return self._drop_pod(manifest)
        metadata = manifest["metadata"]
        key = (kind, metadata["namespace"], metadata["name"])
        known = self._objects.get(key)
        if known is None or known.uid != metadata["uid"]:
            return False
        del self._objects[key]
        return True

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """An object; a copy, so that nobody changes what others read."""
        entry = self._objects.get((kind, namespace, name))
        return None if entry is None else msgspec.json.decode(entry.body)

    def pods(self, service: ServiceKey) -> tuple[PodView, ...]:
        """The pods of a service, by name."""
        return tuple(sorted(self._pods.get(service, {}).values(), key=lambda pod: pod.name))

    def services(self) -> Iterator[ServiceKey]:
        """All services."""
        return (ServiceKey(namespace, name) for kind, namespace, name in self._objects if kind is NOVA_SERVICE)

    def replace(self, kind: Kind, namespace: str, name: str, manifest: Manifest | None) -> None:
        """Take over what the API server said when it was asked for an object by name."""
        if manifest is None:
            self._objects.pop((kind, namespace, name), None)
        else:
            self.put(kind, manifest)

    def replace_pods(self, service: ServiceKey, manifests: Iterable[Manifest]) -> None:
        """Take over what the API server said when it was asked for a service's pods."""
        self._pods[service] = {pod.uid: pod for pod in map(view, manifests)}

    def reset(self, kind: Kind, namespace: str | None, manifests: Iterable[Manifest]) -> None:
        """Take over a complete list: of one namespace, or of all for None. What is not in it is gone."""
        listed = list(manifests)
        if kind is POD:
            for service in [key for key in self._pods if namespace in {None, key.namespace}]:
                del self._pods[service]
        else:
            there = {(manifest["metadata"]["namespace"], manifest["metadata"]["name"]) for manifest in listed}
            for key in [key for key in self._objects if key[0] is kind and namespace in {None, key[1]}]:
                if key[1:] not in there:
                    del self._objects[key]
        for manifest in listed:
            self.put(kind, manifest)

    def _put_pod(self, manifest: Manifest) -> bool:
        service = service_key(POD, manifest)
        if service is None:
            return False
        pod = view(manifest)
        pods = self._pods.setdefault(service, {})
        known = pods.get(pod.uid)
        if known is not None and int(known.resource_version) >= int(pod.resource_version):
            return False
        pods[pod.uid] = pod
        return known is None or not _alike(known, pod)

    def _drop_pod(self, manifest: Manifest) -> bool:
        service = service_key(POD, manifest)
        if service is None or manifest["metadata"]["uid"] not in self._pods.get(service, {}):
            return False
        del self._pods[service][manifest["metadata"]["uid"]]
        if not self._pods[service]:
            del self._pods[service]
        return True


def _alike(one: PodView, other: PodView) -> bool:
    """Whether two states of a pod differ in nothing that the operator reads."""
    return msgspec.structs.replace(one, resource_version="") == msgspec.structs.replace(other, resource_version="")


def _pack(manifest: Manifest) -> bytes:
    """Without managedFields, which are half of it and which nobody here reads."""
    metadata: dict[str, Any] = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    return msgspec.json.encode({**manifest, "metadata": metadata})
