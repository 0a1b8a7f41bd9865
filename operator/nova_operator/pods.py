"""What the operator reads of a pod, and what keeps one from starting, in words that say what to do.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-states
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from nova_api import names
from nova_operator import reasons
from nova_operator.desired.metadata import Manifest

_WAITING: Final = {
    "CrashLoopBackOff": reasons.CRASH_LOOPING,
    "ErrImagePull": reasons.IMAGE_PULL_FAILED,
    "ImagePullBackOff": reasons.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": reasons.IMAGE_PULL_FAILED,
    "InvalidImageName": reasons.IMAGE_PULL_FAILED,
    "CreateContainerConfigError": reasons.CONTAINER_REFUSED,
    "CreateContainerError": reasons.CONTAINER_REFUSED,
    "RunContainerError": reasons.CONTAINER_REFUSED,
    "StartError": reasons.CONTAINER_REFUSED,
}
_RESTARTS_OF_A_LOOP: Final = 2
_LONGEST_QUOTE: Final = 300


class Trouble(msgspec.Struct, frozen=True):
    """Why a pod does not run: a reason for programs, a message for people."""

    reason: str
    message: str


class PodView(msgspec.Struct, frozen=True, kw_only=True):
    """A pod, as far as the operator cares."""

    name: str
    uid: str
    resource_version: str
    address: str | None
    """IP address, once it has one."""

    ready: bool
    leaving: bool
    """Being deleted, or ended for good."""

    hash_annotation: str
    """What `names.ANNOTATION_CONFIG_HASH` says; empty without it."""

    trouble: Trouble | None
    track: str = ""
    """Version of the service that it is of, see `names.LABEL_TRACK`; empty where nobody said."""

    template_hash: str = ""
    """Hash of the template it was made of, see `names.ANNOTATION_TEMPLATE_HASH`."""

    sidecar_image: str = ""
    """Image of its sidecar as its spec says; empty without one."""

    tool: str = ""
    """What it is, of a pod that works for a service and is none of it: the name of its Job or Deployment."""

    owner: str = ""
    """Uid of the Job that made such a pod, or of the ReplicaSet."""

    unmounted: bool = False
    """Whether it has a node and waits for its volumes, or its network; what of it, Kubernetes tells in Events alone."""


def view(pod: Manifest) -> PodView:
    """Read a pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    tool = sys.intern(labels.get("app.kubernetes.io/name", "")) if names.LABEL_TOOL_OF in labels else ""
    leaving = "deletionTimestamp" in metadata or status.get("phase") in {"Succeeded", "Failed"}
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        address=status.get("podIP"),
        ready=not leaving and _condition(status, "Ready").get("status") == "True",
        leaving=leaving,
        hash_annotation=(metadata.get("annotations") or {}).get(names.ANNOTATION_CONFIG_HASH, ""),
        trouble=None if leaving else next(_troubles(metadata["name"], status, tool=bool(tool)), None),
        track=sys.intern(labels.get(names.LABEL_TRACK, "")),
        template_hash=sys.intern((metadata.get("annotations") or {}).get(names.ANNOTATION_TEMPLATE_HASH, "")),
        sidecar_image=_sidecar_image(pod.get("spec") or {}),
        tool=tool,
        owner=_owner(metadata) if tool else "",
        unmounted=not leaving and _is_unmounted(status),
    )


def _owner(metadata: Manifest) -> str:
    return next((str(one["uid"]) for one in metadata.get("ownerReferences") or () if one.get("controller")), "")


def _is_unmounted(status: Manifest) -> bool:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-has-network"""
    scheduled, started = _condition(status, "PodScheduled"), _condition(status, "PodReadyToStartContainers")
    return (scheduled.get("status"), started.get("status")) == ("True", "False")


def _sidecar_image(spec: Manifest) -> str:
    """The same string for all pods that have the same: there are thousands."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    images = (container.get("image", "") for container in containers if container["name"] == names.SIDECAR_CONTAINER)
    return sys.intern(next(images, ""))


def is_outgoing(pod: PodView, sidecar_image: str, *, replacing: bool) -> bool:
    """Whether a pod is of an older sidecar than wanted, and about to be replaced."""
    return replacing and bool(pod.sidecar_image and sidecar_image) and pod.sidecar_image != sidecar_image


def _troubles(pod: str, status: Manifest, *, tool: bool) -> Iterator[Trouble]:
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = _WAITING.get(waiting.get("reason", ""))
        if reason is None and _keeps_ending(container):
            reason = reasons.CRASH_LOOPING
        if reason is not None:
            yield Trouble(reason, _message(reason, pod, container, quote(waiting.get("message", "")), tool=tool))
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("reason") == "Unschedulable":
        said = quote(scheduled.get("message", ""))
        advice = "add nodes" if tool else "lower spec.resources or add nodes"
        yield Trouble(reasons.UNSCHEDULABLE, f"no node takes pod {pod}: {said}; {advice}")


def _keeps_ending(container: Manifest) -> bool:
    """In a crash loop a container also runs for moments; without this the condition would flap with them."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    often = container.get("restartCount", 0) >= _RESTARTS_OF_A_LOOP
    return often and not container.get("ready") and ended.get("exitCode", 0) != 0


def _message(reason: str, pod: str, container: Manifest, said: str, *, tool: bool) -> str:
    name = container["name"]
    if reason == reasons.IMAGE_PULL_FAILED:
        field = _field_of_image(name, tool=tool)
        return f"image {container.get('image')} of container {name} cannot be pulled: {said}; check {field}"
    if reason == reasons.CONTAINER_REFUSED:
        return f"the node refuses container {name} of pod {pod}: {said}{_advice(said)}"
    ended = (container.get("lastState") or {}).get("terminated") or {}
    how = f" with exit code {ended['exitCode']}" if "exitCode" in ended else ""
    killed = ", killed for memory: raise spec.resources.limits.memory" if ended.get("reason") == "OOMKilled" else ""
    return f"container {name} keeps ending{how}{killed}; see: kubectl logs {pod} -c {name} --previous"


def _field_of_image(container: str, *, tool: bool) -> str:
    if tool:
        copies = container == names.MIGRATIONS_VOLUME
        return "spec.database.migrations.image" if copies else "the operator's --data-image"
    return "spec.sidecar.image" if container == names.SIDECAR_CONTAINER else "spec.image"


def _advice(said: str) -> str:
    """The kubelet's words, as they have been since Kubernetes 1.10."""
    if "non-root" in said or "NonRoot" in said:
        return "; build the image with a numeric USER other than 0"
    if "not found" in said or "couldn't find key" in said:
        return "; as soon as that is there it goes on by itself"
    return ""


def quote(message: str) -> str:
    """What others said, on one line and not too long for a condition."""
    text = " ".join(message.split()) or "no reason given"
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def _condition(status: Manifest, kind: str) -> dict[str, Any]:
    return next((condition for condition in status.get("conditions") or () if condition["type"] == kind), {})
