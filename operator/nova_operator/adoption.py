"""A Deployment that somebody else made: what is laid over it, and how it is given back. Pure.

Its owner goes on changing it, by hand, with `kubectl apply` or with Helm, and is never asked to know of Nova. So what
was laid over is not compared with what once was, it is taken back first, from the Deployment as it is now, with the
help of an annotation that says what was set (`reversal`); what is left is the owner's, and is laid over anew. Equal
steps in both directions: what comes of it when nothing is laid over any more is the Deployment without Nova.

    live ──take back──▶ own ──lay over──▶ wanted      written when live does not say all of wanted, or says more
         ◀─────────── give back ──────────

The annotation is written together with what it speaks of, and by one who has seen the very object (resourceVersion), so
there is no moment at which the one is there without the other. That is a JSON merge patch: server-side apply would
leave an object behind where it had made one, such as `lifecycle: {}`, and would own fields that their owner applies
too, who would get a conflict. A second write gives the ownership of the fields away, all of it.

One value of the owner's is overwritten, a too short terminationGracePeriodSeconds; who sets it again wins, since two
who both put a value back would restart pods for ever.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from nova_api import names
from nova_api.v1alpha1 import KIND, NovaService
from nova_operator.compare import difference, fingerprint
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.metadata import Manifest, selector
from nova_operator.desired.pod import lay_over
from nova_operator.plan import ConflictError, controller_of
from nova_operator.reversal import Change, Step, changes, find, take_back

ANNOTATION: Final = "nova.dev/adoption"
"""On an adopted Deployment: whose it is for now, and how to give it back."""

FINALIZER: Final = "nova.dev/give-back"
"""On a NovaService that has adopted a Deployment: it stays until the Deployment is what it was."""


_MADE_FOR_LABELS: Final[tuple[tuple[Step, ...], ...]] = (
    ("metadata", "labels"),
    ("spec", "template", "metadata"),
    ("spec", "template", "metadata", "labels"),
)


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """What the annotation says."""

    service: str
    uid: str
    hash: str
    """Of all that was set: it tells that something is no longer wanted."""

    changes: tuple[Change, ...]


class Write(msgspec.Struct, frozen=True):
    """A JSON merge patch that must be made; `why` is for the log."""

    patch: Manifest
    why: str
    adoption: Adoption


def read(deployment: Manifest) -> Adoption | None:
    """What the annotation says; None where there is none that can be read, or that speaks of anything else than what is
    laid over: whoever may change the Deployment may change it too."""
    text = (deployment["metadata"].get("annotations") or {}).get(ANNOTATION)
    try:
        adoption = None if text is None else msgspec.json.decode(text, type=Adoption)
    except (msgspec.DecodeError, RecursionError):
        return None
    return adoption if adoption is not None and all(map(_can_be_ours, adoption.changes)) else None


def adopt(service: NovaService, live: Manifest, defaults: Defaults, settled: tuple[str, str] | None) -> Write | None:
    """What must be written to have the service's sidecar in the Deployment; None when all is as it should be.

    `settled`: see `settle`. Raises ConflictError for a Deployment that a NovaService made, ConfigError for one that
    cannot have a sidecar.
    """
    _refuse_made(service, live)
    before, own = read(live), own_of(live)
    laid = _lay_over(service, own, defaults)
    made = tuple(changes(own, laid))
    adoption = Adoption(service=service.metadata.name, uid=service.metadata.uid, hash=_digest(made, laid), changes=made)
    if before is not None:
        _yield_to_owner(before, live, laid)
    why = _why(before, adoption, difference(laid, live))
    if why is None or (settled is not None and settled == (adoption.hash, fingerprint(live))):
        return None
    annotations = {**(laid["metadata"].get("annotations") or {}), ANNOTATION: msgspec.json.encode(adoption).decode()}
    wanted = {**laid, "metadata": {**laid["metadata"], "annotations": annotations}}
    return Write(_guarded(live, wanted), why, adoption)


def preview(service: NovaService, deployment: Manifest, defaults: Defaults) -> Manifest:
    """A Deployment, as its owner writes it, with the service's sidecar. Raises as `adopt` does."""
    _refuse_made(service, deployment)
    return _lay_over(service, own_of(deployment), defaults)


def give_back(live: Manifest) -> Manifest | None:
    """The patch that makes the spec its owner's alone; None where it is. `let_go` comes after it."""
    spec = own_of(live)["spec"]
    return None if spec == live["spec"] else _guarded(live, {**live, "spec": spec})


def let_go(live: Manifest) -> Manifest:
    """The patch after which nothing tells that the Deployment was adopted."""
    own = own_of(live)
    fields = {"managedFields": _fields_of_others(live)} if "managedFields" in live["metadata"] else {}
    return _guarded(live, {**live, "metadata": {**own["metadata"], **fields}})


def disown(live: Manifest) -> Manifest | None:
    """The patch after which the operator manages no field of the Deployment; None where it manages none.

    Its owner may then apply each of them, by server-side apply too, without a conflict or a word of Nova.
    https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
    """
    fields = live["metadata"].get("managedFields") or []
    if all(entry.get("manager") != names.OPERATOR_NAME for entry in fields):
        return None
    return _guarded(live, {**live, "metadata": {**live["metadata"], "managedFields": _fields_of_others(live)}})


def settle(write: Write, result: Manifest) -> tuple[str, str]:
    """What to remember of a write: if the server spells a value differently, it is not a drift the next time."""
    return write.adoption.hash, fingerprint(result)


def own_of(live: Manifest) -> Manifest:
    """The Deployment as its owner has it."""
    adoption = read(live)
    if adoption is None:
        return live
    own: Manifest = take_back(live, adoption.changes)
    annotations = own["metadata"]["annotations"]
    own["metadata"]["annotations"] = {name: text for name, text in annotations.items() if name != ANNOTATION}
    return own


def holder(live: Manifest, service: NovaService) -> str | None:
    """Name of the other NovaService that the Deployment was adopted by, if there is one."""
    adoption = read(live)
    return None if adoption is None or adoption.service == service.metadata.name else adoption.service


def is_marked(deployment: Manifest) -> bool:
    """Whether the watches, which see labelled objects only, tell of it."""
    return names.LABEL_SERVICE in (deployment["metadata"].get("labels") or {})


def merge_patch(before: Manifest, after: Manifest) -> Manifest:
    """The JSON merge patch (RFC 7396) that makes the one into the other; neither may hold nulls where they differ."""
    patch: Manifest = {name: None for name in before if name not in after}
    for name, value in after.items():
        there = before.get(name)
        if isinstance(there, dict) and isinstance(value, dict):
            if there != value:
                patch[name] = merge_patch(there, value)
        elif name not in before or there != value:
            patch[name] = value
    return patch


def _can_be_ours(change: Change) -> bool:
    """Labels of the Deployment and of its pods, the empty objects that were made for them, and what is in the pods'
    specification: what is left is a Deployment, whoever wrote it."""
    if not all(isinstance(step, str) or len(step) == 1 for step in change.at):
        return False
    if change.at in _MADE_FOR_LABELS:
        return change.set == {} and change.was is msgspec.UNSET
    if change.at[:-1] in _MADE_FOR_LABELS:
        return change.at[-2] == "labels" and isinstance(change.was, str | msgspec.UnsetType)
    return change.at[:3] == ("spec", "template", "spec") and len(change.at) > 3


def _lay_over(service: NovaService, own: Manifest, defaults: Defaults) -> Manifest:
    metadata, spec = own["metadata"], own["spec"]
    template = lay_over(service, spec["template"], defaults, f"Deployment/{metadata['name']} $.spec.template")
    labels = {**(metadata.get("labels") or {}), **selector(service)}
    return {**own, "metadata": {**metadata, "labels": labels}, "spec": {**spec, "template": template}}


def _yield_to_owner(before: Adoption, live: Manifest, laid: Manifest) -> None:
    """Leave a value that was overwritten once, and then set again by the owner, until the service wants another."""
    for change in before.changes:
        now = find(live, change.at)
        if change.was is not msgspec.UNSET and now != change.set and find(laid, change.at) == change.set:
            find(laid, change.at[:-1])[change.at[-1]] = now


def _why(before: Adoption | None, now: Adoption, drift: str | None) -> str | None:
    if before is None:
        return "adopted"
    if (before.service, before.uid, before.hash) != (now.service, now.uid, now.hash):
        return "changed"
    return None if drift is None else f"drifted: {drift}"


def _refuse_made(service: NovaService, live: Manifest) -> None:
    controller = controller_of(live)
    if controller is None or controller["kind"] != KIND:
        return
    name = live["metadata"]["name"]
    if controller["name"] == service.metadata.name:
        raise ConflictError(
            f"Deployment/{name} was made by this service, when it had an image or a template; name another Deployment "
            "in workloadRef.name, or delete this one and make it yourself"
        )
    raise ConflictError(
        f"Deployment/{name} is made by the NovaService {controller['name']}; name one that somebody else keeps"
    )


def _digest(made: tuple[Change, ...], laid: Manifest) -> str:
    said: list[Any] = [(one.at, find(laid, one.at) if one.set is msgspec.UNSET else one.set) for one in made]
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()[:16]


def _fields_of_others(live: Manifest) -> list[Manifest]:
    """An empty list would leave all as it is; a list of one empty entry clears it."""
    fields = live["metadata"].get("managedFields") or []
    return [entry for entry in fields if entry.get("manager") != names.OPERATOR_NAME] or [{}]


def _guarded(live: Manifest, wanted: Manifest) -> Manifest:
    """The patch, good for exactly the object that was seen."""
    patch = merge_patch(live, wanted)
    metadata = {name: live["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return {**kind, **patch, "metadata": {**patch.get("metadata", {}), **metadata}}
