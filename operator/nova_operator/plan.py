"""From what is wanted and what is there to what must be done. Pure: no clock, no cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from nova_api import names
from nova_api.v1alpha1 import KIND, NovaService
from nova_operator.compare import difference, fingerprint
from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH, LABEL_MANAGED_BY, Manifest
from nova_operator.immutable import stuck
from nova_operator.kinds import SERVICE, Kind, kind_of


class ChildKey(msgspec.Struct, frozen=True):
    """A child of a service. The namespace is the service's."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.kind}/{self.name}"


class Apply(msgspec.Struct, frozen=True):
    """Write the manifest; `why` is for the log: ``missing``, ``changed`` or ``drifted: PATH``."""

    child: ChildKey
    manifest: Manifest
    why: str


class Replace(msgspec.Struct, frozen=True):
    """Delete the object with this uid and write the manifest anew: a field that cannot change has to."""

    child: ChildKey
    manifest: Manifest
    uid: str
    why: str


class Prune(msgspec.Struct, frozen=True):
    """Delete the object with this uid: it is no longer wanted."""

    child: ChildKey
    uid: str


class Wait(msgspec.Struct, frozen=True):
    """Do nothing yet: the object is being deleted, and its name is free only afterwards."""

    child: ChildKey


Action = Apply | Replace | Prune | Wait
Settled = dict[ChildKey, tuple[str, str]]
"""Hash of the manifest that was last applied and fingerprint of the object that came of it; whoever writes adds it."""


class ConflictError(Exception):
    """A child's name belongs to somebody else. `str()` says what to do."""


def plan(
    service: NovaService, desired: tuple[Manifest, ...], observed: Mapping[ChildKey, Manifest], settled: Settled
) -> tuple[Action, ...]:
    """What must be done, in the order of `desired`, with deletions last; empty when all is as it should be.

    `observed` holds the objects that have the children's names, whoever owns them. Raises ConflictError, before
    anything is done, when one of them is somebody else's.
    """
    wanted = {key_of(manifest): manifest for manifest in desired}
    writes = [_for_wanted(service, child, manifest, observed.get(child), settled) for child, manifest in wanted.items()]
    prunes = [
        Prune(child, manifest["metadata"]["uid"])
        for child, manifest in observed.items()
        if child not in wanted and _owner(service, manifest) == "this" and not _is_leaving(manifest)
    ]
    return tuple(action for action in [*writes, *prunes] if action is not None)


def key_of(manifest: Manifest) -> ChildKey:
    """The key of a child's manifest."""
    return ChildKey(kind_of(manifest), manifest["metadata"]["name"])


def settle(applied: Manifest, result: Manifest) -> tuple[str, str]:
    """What to remember of an apply: if the server spells a value differently, it is not a drift the next time."""
    return _hash(applied), fingerprint(result)


def _for_wanted(
    service: NovaService, child: ChildKey, manifest: Manifest, there: Manifest | None, settled: Settled
) -> Action | None:
    if there is None:
        return Apply(child, manifest, "missing")
    _refuse_foreign(service, child, there)
    if _is_leaving(there):
        return Wait(child)
    if (why := stuck(manifest, there)) is not None:
        return Replace(child, manifest, there["metadata"]["uid"], why)
    if _hash(there) != _hash(manifest):
        return Apply(child, manifest, "changed")
    if settled.get(child) == settle(manifest, there):  # asked first: it is ten times as cheap
        return None
    drift = difference(manifest, there)
    return None if drift is None else Apply(child, manifest, f"drifted: {drift}")


def _refuse_foreign(service: NovaService, child: ChildKey, there: Manifest) -> None:
    owner = _owner(service, there)
    if owner == "predecessor" and not _is_leaving(there):
        raise ConflictError(
            f"{child} belongs to a NovaService of the same name that was deleted; it goes as soon as the garbage "
            "collector has been there, and then the service continues by itself"
        )
    if owner == "other":
        advice = "delete or rename it, or name the NovaService differently"
        if child.kind is SERVICE and service.spec.workload_ref is not None:
            advice = (
                f"name the NovaService differently, such as {child.name}-nova, and let callers use that name, "
                "or delete this Service, and one that leads to the sidecars takes its place"
            )
        raise ConflictError(f"{child} exists and is not this service's; {advice}")


def _owner(service: NovaService, manifest: Manifest) -> Literal["this", "predecessor", "other"]:
    """An object without owner that carries the operator's labels was orphaned (kubectl delete --cascade=orphan): it is
    taken back."""
    controller = controller_of(manifest)
    if controller is None:
        labels = manifest["metadata"].get("labels") or {}
        orphan = labels.get(LABEL_MANAGED_BY) == names.OPERATOR_NAME
        return "this" if orphan and labels.get(names.LABEL_SERVICE) == service.metadata.name else "other"
    if controller["uid"] == service.metadata.uid:
        return "this"
    same = (controller["kind"], controller["name"]) == (KIND, service.metadata.name)
    return "predecessor" if same else "other"


def controller_of(manifest: Manifest) -> Manifest | None:
    """The reference to the owner that keeps an object, if it has one."""
    owners: list[Manifest] = manifest["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def _is_leaving(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def _hash(manifest: Manifest) -> str:
    annotations = manifest["metadata"].get("annotations") or {}
    return str(annotations.get(ANNOTATION_MANIFEST_HASH, ""))
