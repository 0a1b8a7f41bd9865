"""Which of the pods that missed the sidecar is replaced next. Pure.

A pod misses it when no webhook answered at its birth, when its label came later, or when it is older than its service.
Rules of repair: a pod is evicted only where somebody makes it again; one at a time, and the next one only when its
successor is there and every pod with the sidecar is ready; never in a storm. If pods still come without the sidecar,
more evictions would only do harm: it waits, longer each time, until the cause is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from nova_operator.admission.injection import has_sidecar
from nova_operator.desired.metadata import Manifest
from nova_operator.mirror import ServiceKey

SPACING: Final = 10.0
"""Least seconds between two evictions of a service."""

PATIENCE: Final = 120.0
"""Seconds after which fewer pods than before an eviction are taken for scaling, not for a successor that is late."""

PAUSE: Final = 60.0
LONGEST_PAUSE: Final = 3600.0
"""Seconds without an eviction once successors came without the sidecar; doubled each time, up to the longest."""

_MAKERS: Final = frozenset({"ReplicaSet", "StatefulSet", "DaemonSet"})
_SHOWN: Final = 3


class InjectedPod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod with the label, as far as repair cares."""

    name: str
    uid: str
    ready: bool
    leaving: bool
    sidecar: bool
    """Whether it has one."""

    replaced: bool
    """Whether somebody makes it again when it is gone."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the repair of a service beyond its pods; times in monotonic seconds. Losing it costs at most one
    eviction too early."""

    evicted_at: float = float("-inf")
    expected: int = 0
    """Pods there were at the last eviction."""

    known: frozenset[str] | None = None
    """Uids of the pods without sidecar at the last eviction."""

    pause: float = 0.0
    """Seconds of the last pause, which began because pods still came without the sidecar."""

    paused: bool = False
    not_before: float = float("-inf")


class Choice(msgspec.Struct, frozen=True):
    """The pod to evict now, or what repair waits for, in words; and what to remember."""

    pod: InjectedPod | None
    waits_for: str
    memory: Memory


class Missed:
    """The pods that missed the sidecar, by service, with what is being done about them. Told by the repairer, read by
    the reconciler."""

    def __init__(self) -> None:
        self._words: dict[ServiceKey, str] = {}

    def __repr__(self) -> str:
        return f"<Missed services={len(self._words)}>"

    def words(self, service: ServiceKey) -> str:
        """A sentence for people; empty if no pod missed it."""
        return self._words.get(service, "")

    def replace(self, words: Mapping[ServiceKey, str]) -> set[ServiceKey]:
        """Take over what is known now; returns the services to which that is news."""
        before, self._words = self._words, dict(words)
        return {service for service in before.keys() | words.keys() if before.get(service) != words.get(service)}


def alive(pods: Iterable[Manifest]) -> list[Manifest]:
    """The pods that have not ended for good."""
    return [pod for pod in pods if (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}]


def view(pod: Manifest) -> InjectedPod:
    """Read a pod."""
    metadata: dict[str, Any] = pod["metadata"]
    conditions = (pod.get("status") or {}).get("conditions") or ()
    owners = metadata.get("ownerReferences") or ()
    return InjectedPod(
        name=metadata["name"],
        uid=metadata["uid"],
        ready=any(one["type"] == "Ready" and one["status"] == "True" for one in conditions),
        leaving="deletionTimestamp" in metadata,
        sidecar=has_sidecar(pod),
        replaced=any(owner.get("controller") and owner.get("kind") in _MAKERS for owner in owners),
    )


def describe(missed: Iterable[str], action: str) -> str:
    """What the condition says of the pods with these names; `action` is what is done about them, or what to do."""
    found = sorted(missed)
    shown = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
    pods = "1 pod without the sidecar gets" if len(found) == 1 else f"{len(found)} pods without the sidecar get"
    return f"{pods} no traffic: {shown}; {action}"


def choose(pods: Iterable[InjectedPod], memory: Memory, now: float) -> Choice:
    """What to do next for a service whose pods with the label are these; `now` in monotonic seconds."""
    found = list(pods)
    staying = [pod for pod in found if not pod.leaving]
    missed = [pod for pod in staying if not pod.sidecar]
    candidates = sorted((pod for pod in missed if pod.replaced), key=lambda pod: (pod.ready, pod.name))
    memory = _look_back(memory, missed, now)
    if not missed:
        return Choice(None, "", memory)
    if not candidates:
        return Choice(None, "somebody to delete them: nobody would make them again", memory)
    obstacle = _obstacle(found, memory, now)
    if obstacle:
        return Choice(None, obstacle, memory)
    known = frozenset(pod.uid for pod in missed)
    after = msgspec.structs.replace(
        memory, evicted_at=now, expected=len(staying), known=known, not_before=now + SPACING, paused=False
    )
    return Choice(candidates[0], f"the successor of {candidates[0].name}", after)


def _look_back(memory: Memory, missed: list[InjectedPod], now: float) -> Memory:
    """Pause if pods have come without the sidecar since the last eviction."""
    if memory.known is None or all(pod.uid in memory.known for pod in missed):
        return memory
    pause = min(LONGEST_PAUSE, max(PAUSE, 2 * memory.pause))
    known = memory.known | {pod.uid for pod in missed}
    return msgspec.structs.replace(memory, known=known, pause=pause, not_before=now + pause, paused=True)


def _obstacle(pods: list[InjectedPod], memory: Memory, now: float) -> str:
    """What must be first; empty if nothing."""
    if now < memory.not_before:
        return "the webhook: new pods come without the sidecar, too" if memory.paused else "the pod replaced last"
    leaving = next((pod.name for pod in pods if pod.leaving), None)
    if leaving is not None:
        return f"pod {leaving}, which is leaving"
    if len(pods) < memory.expected and now - memory.evicted_at < PATIENCE:
        return "the successor of the pod replaced last"
    # One without the sidecar may never be ready without it, and gets no traffic either way.
    unready = next((pod.name for pod in pods if pod.sidecar and not pod.ready), None)
    return f"pod {unready}, which is not ready" if unready is not None else ""
