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


def view(pod: Manifest) -> PodView:
    """Read a pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    leaving = "deletionTimestamp" in metadata or status.get("phase") in {"Succeeded", "Failed"}
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        address=status.get("podIP"),
        ready=not leaving and _condition(status, "Ready").get("status") == "True",
        leaving=leaving,
        hash_annotation=(metadata.get("annotations") or {}).get(names.ANNOTATION_CONFIG_HASH, ""),
        trouble=None if leaving else next(_troubles(metadata["name"], status), None),
        track=sys.intern((metadata.get("labels") or {}).get(names.LABEL_TRACK, "")),
        template_hash=sys.intern((metadata.get("annotations") or {}).get(names.ANNOTATION_TEMPLATE_HASH, "")),
        sidecar_image=_sidecar_image(pod.get("spec") or {}),
    )


def _sidecar_image(spec: Manifest) -> str:
    """The same string for all pods that have the same: there are thousands."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    images = (container.get("image", "") for container in containers if container["name"] == names.SIDECAR_CONTAINER)
    return sys.intern(next(images, ""))


def is_outgoing(pod: PodView, sidecar_image: str, *, replacing: bool) -> bool:
    """Whether a pod is of an older sidecar than wanted, and about to be replaced."""
    return replacing and bool(pod.sidecar_image and sidecar_image) and pod.sidecar_image != sidecar_image


def _troubles(pod: str, status: Manifest) -> Iterator[Trouble]:
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = _WAITING.get(waiting.get("reason", ""))
        if reason is None and _keeps_ending(container):
            reason = reasons.CRASH_LOOPING
        if reason is not None:
            yield Trouble(reason, _message(reason, pod, container, quote(waiting.get("message", ""))))
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("reason") == "Unschedulable":
        said = quote(scheduled.get("message", ""))
        yield Trouble(
            reasons.UNSCHEDULABLE,
            f"no node takes pod {pod}: {said}; lower spec.resources or add nodes",
        )


def _keeps_ending(container: Manifest) -> bool:
    """In a crash loop a container also runs for moments; without this the condition would flap with them."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    often = container.get("restartCount", 0) >= _RESTARTS_OF_A_LOOP
    return often and not container.get("ready") and ended.get("exitCode", 0) != 0


def _message(reason: str, pod: str, container: Manifest, said: str) -> str:
    name = container["name"]
    if reason == reasons.IMAGE_PULL_FAILED:
        field = "spec.sidecar.image" if name == names.SIDECAR_CONTAINER else "spec.image"
        return f"image {container.get('image')} of container {name} cannot be pulled: {said}; check {field}"
    if reason == reasons.CONTAINER_REFUSED:
        advice = "; build the image with a numeric USER other than 0" if "non-root" in said or "NonRoot" in said else ""
        return f"the node refuses container {name} of pod {pod}: {said}{advice}"
    ended = (container.get("lastState") or {}).get("terminated") or {}
    how = f" with exit code {ended['exitCode']}" if "exitCode" in ended else ""
    killed = ", killed for memory: raise spec.resources.limits.memory" if ended.get("reason") == "OOMKilled" else ""
    return f"container {name} keeps ending{how}{killed}; see: kubectl logs {pod} -c {name} --previous"


def quote(message: str) -> str:
    """What others said, on one line and not too long for a condition."""
    text = " ".join(message.split()) or "no reason given"
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def _condition(status: Manifest, kind: str) -> dict[str, Any]:
    return next((condition for condition in status.get("conditions") or () if condition["type"] == kind), {})
