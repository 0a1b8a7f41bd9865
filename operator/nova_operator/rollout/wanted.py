"""What a canary's state means for the children: how many pods each version has, and who gets the requests. Pure.

Sizes. The canary has the step's share of the pods, rounded up; the stable version has the rest, at least one. Its pods
go only when as many of the canary's are ready (maxUnavailable 0), so that `replicas` pods serve at every moment. At 100
percent the canary has all of them, and the stable version keeps half, without requests, for the way back. An autoscaled
stable version belongs to its autoscaler: the canary's pods come on top then, as many as give it the share, and at most
as many as the stable version has, which is a share of one half.

Traffic. With weights Replicas the Service selects the pods of both, and requests spread as the pods do; at 100 percent
it selects the canary's alone, and as long as none of those is ready the stable ones: pods of a canary before this one,
which nobody judges any more, get no requests. With HTTPRoute and Callers it selects the stable ones alone until the
last step, and the canary's share comes through a Service of its own. That one is there before and after a canary too,
and selects the others then: a caller or a gateway that hears late of the end of a canary reaches the stable version by
it. A canary that is taken back gets no more requests at once: the Services then select the stable version alone, before
its pods are removed.

Clients that are to stay with their version are handed over from pod to pod. The headless Service, by which the pods
know each other, has those of both versions then; once only one version is to serve, the others' clients move to it.

Selecting one version takes a label on the pods of both. Where the stable pods were made before there was one, the
Service goes on selecting all.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from nova_api import names
from nova_api.rollout import Rollout
from nova_api.status import RolloutStatus

Traffic = Literal["all", "stable", "canary"]
"""Whose pods the Service selects."""

UNDER_WAY: Final = frozenset({"Progressing", "Gated", "Inconclusive", "Promoting"})
"""Phases in which two versions run."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The children of a service with a canary, as far as they differ from those without."""

    old_template: bool = False
    """Whether the stable Deployment keeps the template that it has."""

    stable_replicas: int | None = None
    """None: as without a canary."""

    canary_replicas: int | None = None
    """None: there is no canary."""

    traffic: Traffic = "all"
    siblings: Traffic = "all"
    """Whose pods the headless Service has."""

    canary_weight: int = 0
    """Share of requests that an HTTPRoute or the callers send the canary, in percent."""

    canary_service: Traffic | None = None
    """Whose pods the canary's own Service selects; None: it has none."""


def sizes(replicas: int, weight: int, *, autoscaled: bool) -> tuple[int, int]:
    """Pods of the stable version and of the canary at a weight; `replicas` are the stable version's own where it is
    autoscaled, else those of both together."""
    if autoscaled:
        share = replicas if weight >= 100 else -(-replicas * weight // (100 - weight))
        return replicas, min(replicas, max(1, share))
    canary = -(-replicas * weight // 100)
    if weight >= 100:
        return -(-replicas // 2), canary
    return max(1, replicas - canary), canary


def wanted(
    rollout: Rollout,
    status: RolloutStatus,
    *,
    replicas: int,
    canary_available: int,
    stable_tracked: bool,
    autoscaled: bool = False,
) -> Wanted:
    """What follows from a status. `canary_available`: its pods that can take requests now."""
    own = rollout.weights != "Replicas"
    if status.phase == "Aborted":
        traffic: Traffic = "stable" if stable_tracked else "all"
        return Wanted(old_template=True, traffic=traffic, siblings=traffic, canary_service=traffic if own else None)
    if status.phase not in UNDER_WAY:
        return Wanted(canary_service="all" if own and rollout.strategy == "Canary" else None)
    stable, canary = sizes(replicas, status.weight, autoscaled=autoscaled)
    promoting = status.phase == "Promoting"
    everything = canary_available >= max(1, canary) and status.weight >= 100  # a service of no pods has none to send to
    alone = stable_tracked and (own or canary_available == 0)
    traffic = "canary" if everything else "stable" if alone else "all"
    return Wanted(
        old_template=not promoting,
        stable_replicas=None if promoting or autoscaled else max(stable, replicas - canary_available),
        canary_replicas=canary,
        traffic=traffic,
        siblings="all" if rollout.sticky and not everything else traffic,
        canary_weight=0 if canary_available == 0 or (promoting and everything) else status.weight,
        canary_service=("canary" if canary_available else traffic) if own else None,
    )


def selector(service: str, traffic: Traffic) -> dict[str, str]:
    """The labels that a Service selects."""
    track = {} if traffic == "all" else {names.LABEL_TRACK: traffic}
    return {names.LABEL_SERVICE: service, **track}
