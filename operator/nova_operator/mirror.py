"""What the watches have told so far: the operator's own copy of the objects that concern it.

Kept as compact JSON, decoded when needed: a thousand services have seven thousand objects, and a Deployment takes 3 KB
as bytes and 30 as dictionaries. It begins with complete lists (`Mirror.reset`), or a service whose pods were not heard
of yet would seem to have none. An object that was deleted while no watch was open stays in here until its kind
is listed anew (`relist`, `resync`), or its service is in doubt and the API server is asked by name (`Mirror.replace`).

An answer of the API server may be older than what the watches told while it was under way, so every question is asked
under `Mirror.asking`, and of an object that was heard of meanwhile, what was heard stands: what came after it, the
watches will tell. Every write is made under `Mirror.writing`, or its answer would bring back what is deleted meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

from nova_operator.compare import REVISION
from nova_operator.deployments import is_observed
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import DEPLOYMENT, JOB, NOVA_SERVICE, POD, TOOL_POD, Kind
from nova_operator.pods import PodView, view
from nova_operator.reasons import PROGRESS_DEADLINE_EXCEEDED

_NOTED: Final = frozenset({"resourceVersion", "generation", "managedFields"})
_COUNTS: Final = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
_READ_FOR_STATUS: Final = frozenset({NOVA_SERVICE, DEPLOYMENT, JOB})


class ServiceKey(NamedTuple):
    """A NovaService."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class News(IntEnum):
    """What an object that was put in means for its service."""

    NONE = 0
    """Seen before, older than what is known, or a change of nothing that the operator reads."""

    PROGRESS = 1
    """It is new, or its controller has come further; pods never mean more."""

    CHANGE = 2
    """Somebody wrote what the operator may have to put back."""


_Identity = tuple[Kind, str, str]
"""Kind, namespace, and the name; of a pod the uid instead, since its namesakes overlap."""


class Heard:
    """What was heard while a question was under way."""

    def __init__(self) -> None:
        self.seen: set[_Identity] = set()
        self.gone: set[str] = set()
        """Uids, since a namesake may have come after it: somebody else's, even, of which no watch tells."""

    def __repr__(self) -> str:
        return f"<Heard seen={len(self.seen)} gone={len(self.gone)}>"

    def knows_better(self, kind: Kind, manifest: Manifest) -> bool:
        """Whether an object in the answer is not to be taken over."""
        return manifest["metadata"]["uid"] in self.gone or _identity(kind, manifest) in self.seen


class _Entry(NamedTuple):
    uid: str
    version: int
    body: bytes
    home: ServiceKey | None
    """The service that it belongs to; None if to none."""


def service_key(kind: Kind, manifest: Manifest) -> ServiceKey | None:
    """The service that an object is or belongs to; None if to none."""
    metadata = manifest["metadata"]
    if kind is NOVA_SERVICE:
        return ServiceKey(metadata["namespace"], metadata["name"])
    name = (metadata.get("labels") or {}).get(kind.label)
    return ServiceKey(metadata["namespace"], name) if name else None


class Mirror:
    """Objects by kind, namespace and name; pods also by service."""

    def __init__(self) -> None:
        self._objects: dict[_Identity, _Entry] = {}
        self._pods: dict[tuple[Kind, ServiceKey], dict[str, PodView]] = {}
        self._homes: dict[_Identity, ServiceKey] = {}
        """The services of the pods. One whose label is changed leaves a service, and nothing else tells which."""
        self._asking: list[Heard] = []
        self._writing: list[Heard] = []

    def __repr__(self) -> str:
        return f"<Mirror objects={len(self._objects)} pods={sum(map(len, self._pods.values()))}>"

    def put(self, kind: Kind, manifest: Manifest) -> News:
        """Take an object over; none if it is not news: seen before, or older than what is known.

        Resource versions of one kind can be compared as numbers (KEP-5504), those of namesakes too. That matters since
        Kopf tells of each uid by itself: of one that is gone perhaps later than of the one made in its place.
        """
        if _is_pod(kind):
            return self._put_pod(kind, manifest)
        key, metadata = _identity(kind, manifest), manifest["metadata"]
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        known = self._objects.get(key)
        if known is not None and known.version >= version:
            return News.NONE
        self._objects[key] = _Entry(uid, version, _pack(manifest), service_key(kind, manifest))
        self._note_seen(kind, manifest)
        if known is None or known.uid != uid:
            return News.PROGRESS
        before = msgspec.json.decode(known.body)
        if _said(before) != _said(manifest):
            return News.CHANGE
        moved = kind in _READ_FOR_STATUS and not (kind is DEPLOYMENT and _counted(before) == _counted(manifest))
        return News.PROGRESS if moved else News.NONE

    def drop(self, kind: Kind, manifest: Manifest) -> bool:
        """Forget an object that is gone; False if it was not known, such as one whose namesake was seen since."""
        self._note_gone(manifest["metadata"]["uid"])
        if _is_pod(kind):
            return self._drop_pod(kind, manifest)
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

    def home(self, kind: Kind, manifest: Manifest) -> ServiceKey | None:
        """The service that an object belongs to as far as is known; its label may say another one by now."""
        identity = _identity(kind, manifest)
        if _is_pod(kind):
            return self._homes.get(identity)
        known = self._objects.get(identity)
        return None if known is None else known.home

    def has(self, kind: Kind, namespace: str, name: str) -> bool:
        """Whether it knows an object."""
        return (kind, namespace, name) in self._objects

    def pods(self, service: ServiceKey) -> tuple[PodView, ...]:
        """The pods of a service, by name."""
        return tuple(sorted(self._pods.get((POD, service), {}).values(), key=lambda pod: pod.name))

    def tools(self, service: ServiceKey, name: str) -> tuple[PodView, ...]:
        """The pods of one name that work for a service, by their own names."""
        known = self._pods.get((TOOL_POD, service), {}).values()
        return tuple(sorted((pod for pod in known if pod.tool == name), key=lambda pod: pod.name))

    def services(self) -> Iterator[ServiceKey]:
        """All services."""
        return (ServiceKey(namespace, name) for kind, namespace, name in self._objects if kind is NOVA_SERVICE)

    def naming(self, text: str) -> Iterator[ServiceKey]:
        """The services whose document has this text in it."""
        wanted = text.encode()
        for (kind, namespace, name), entry in self._objects.items():
            if kind is NOVA_SERVICE and wanted in entry.body:
                yield ServiceKey(namespace, name)

    def asking(self) -> AbstractContextManager[Heard]:
        """Around a question to the API server; hand what it gives to the method that takes the answer over."""
        return _hearing(self._asking)

    def replace(self, kind: Kind, namespace: str, name: str, manifest: Manifest | None, heard: Heard) -> None:
        """Take over what the API server said when it was asked for an object by name."""
        if manifest is None:
            if (kind, namespace, name) not in heard.seen:
                self._pop((kind, namespace, name))
        elif not heard.knows_better(kind, manifest):
            self.put(kind, manifest)

    def writing(self) -> AbstractContextManager[Heard]:
        """Around a write; hand what it gives to `written`. What is seen is not noted: versions tell what is newer."""
        return _hearing(self._writing)

    def written(self, kind: Kind, manifest: Manifest, heard: Heard) -> None:
        """Take over what the API server answered to a write. An object that was heard to go meanwhile stays gone: the
        watch has told of that, and does not tell it again."""
        if manifest["metadata"]["uid"] not in heard.gone:
            self.put(kind, manifest)

    def replace_pods(self, kind: Kind, service: ServiceKey, manifests: Iterable[Manifest], heard: Heard) -> None:
        """Take over what the API server said when it was asked for a service's pods, or those that work for it."""
        told = [manifest for manifest in manifests if not heard.knows_better(kind, manifest)]
        there = heard.seen.union(_identity(kind, manifest) for manifest in told)
        for uid in list(self._pods.get((kind, service), {})):
            if (kind, service.namespace, uid) not in there:
                self._remove_pod(kind, service, uid)
        for manifest in told:
            self._put_pod(kind, manifest)

    def reset(self, kind: Kind, namespace: str | None, manifests: Iterable[Manifest], heard: Heard) -> set[ServiceKey]:
        """Take over a complete list: of one namespace, or of all for None. What is not in it is gone, except what has
        no label by which it could be in it, and was asked for by name. Takes one object after the other.

        Returns the services to which that is news.
        """
        listed: set[_Identity] = set()
        concerned: set[ServiceKey] = set()
        for manifest in manifests:
            listed.add(_identity(kind, manifest))
            both = self.home(kind, manifest), service_key(kind, manifest)
            if not heard.knows_better(kind, manifest) and self.put(kind, manifest):
                concerned.update(service for service in both if service is not None)
        forget = self._forget_pods if _is_pod(kind) else self._forget
        return concerned.union(forget(kind, namespace, heard.seen | listed))

    def clear(self, kind: Kind) -> None:
        """Forget all objects of a kind other than pods: it is no longer served."""
        for key in [key for key in self._objects if key[0] is kind]:
            del self._objects[key]

    def _forget(self, kind: Kind, namespace: str | None, but: Set[_Identity]) -> list[ServiceKey]:
        missing = [key for key in self._objects if key[0] is kind and namespace in {None, key[1]} and key not in but]
        services = [(key, self._objects[key].home) for key in missing]
        gone = [(key, service) for key, service in services if service is not None]
        for key, _ in gone:
            self._pop(key)
        return [service for _, service in gone]

    def _pop(self, key: _Identity) -> None:
        """Forget an object of which an answer says that it is gone, as older answers under way do not know."""
        known = self._objects.pop(key, None)
        if known is not None:
            self._note_gone(known.uid)

    def _forget_pods(self, kind: Kind, namespace: str | None, but: Set[_Identity]) -> list[ServiceKey]:
        services = [one for of, one in self._pods if of is kind and namespace in {None, one.namespace}]
        known = [(service, uid) for service in services for uid in self._pods[kind, service]]
        gone = [(service, uid) for service, uid in known if (kind, service.namespace, uid) not in but]
        for service, uid in gone:
            self._remove_pod(kind, service, uid)
            self._note_gone(uid)
        return [service for service, _ in gone]

    def _note_seen(self, kind: Kind, manifest: Manifest) -> None:
        for heard in self._asking:
            heard.seen.add(_identity(kind, manifest))

    def _note_gone(self, uid: str) -> None:
        for heard in (*self._asking, *self._writing):
            heard.gone.add(uid)

    def _put_pod(self, kind: Kind, manifest: Manifest) -> News:
        service = service_key(kind, manifest)
        if service is None:
            return News.NONE
        pod, home = view(manifest), self.home(kind, manifest)
        known = None if home is None else self._pods[kind, home][pod.uid]
        if known is not None and int(known.resource_version) >= int(pod.resource_version):
            return News.NONE
        if home is not None and home != service:
            self._remove_pod(kind, home, pod.uid)
        self._pods.setdefault((kind, service), {})[pod.uid] = pod
        self._homes[_identity(kind, manifest)] = service
        self._note_seen(kind, manifest)
        return News.NONE if home == service and known is not None and _alike(known, pod) else News.PROGRESS

    def _drop_pod(self, kind: Kind, manifest: Manifest) -> bool:
        home = self.home(kind, manifest)
        if home is None:
            return False
        self._remove_pod(kind, home, manifest["metadata"]["uid"])
        return True

    def _remove_pod(self, kind: Kind, service: ServiceKey, uid: str) -> None:
        del self._pods[kind, service][uid], self._homes[kind, service.namespace, uid]
        if not self._pods[kind, service]:
            del self._pods[kind, service]


@contextmanager
def _hearing(calls: list[Heard]) -> Iterator[Heard]:
    """One call more among those that are under way."""
    heard = Heard()
    calls.append(heard)
    try:
        yield heard
    finally:
        calls.remove(heard)


def _is_pod(kind: Kind) -> bool:
    return kind is POD or kind is TOOL_POD


def _identity(kind: Kind, manifest: Manifest) -> _Identity:
    metadata = manifest["metadata"]
    return kind, metadata["namespace"], metadata["uid"] if _is_pod(kind) else metadata["name"]


def _alike(one: PodView, other: PodView) -> bool:
    """Whether two states of a pod differ in nothing that the operator reads."""
    return msgspec.structs.replace(one, resource_version="") == msgspec.structs.replace(other, resource_version="")


def _said(manifest: Manifest) -> Manifest:
    """What people and managers say in an object, without what its controller and the API server note in it."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in _NOTED}
    annotations = metadata.get("annotations") or {}
    metadata["annotations"] = {name: value for name, value in annotations.items() if name != REVISION}
    return {**manifest, "metadata": metadata, "status": None}


def _counted(deployment: Manifest) -> tuple[bool, list[int], list[Any]]:
    """What the operator reads of a Deployment's status (`deployments`, `trouble`, `rollout.conduct`). While one is made
    its controller writes that status four times and more, half of them for conditions that nobody here reads."""
    status = deployment.get("status") or {}
    conditions = status.get("conditions") or ()
    troubles = [
        (one["type"], one.get("message"))
        for one in conditions
        if (one["type"] == "ReplicaFailure" and one["status"] == "True")
        or one.get("reason") == PROGRESS_DEADLINE_EXCEEDED
    ]
    return is_observed(deployment), [status.get(count, 0) for count in _COUNTS], troubles


def _pack(manifest: Manifest) -> bytes:
    """Without managedFields, which are half of it and which nobody here reads."""
    metadata: dict[str, Any] = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    return msgspec.json.encode({**manifest, "metadata": metadata})
