"""Where the pods go: constraints by which the scheduler spreads them over nodes and zones.

Off by default, because Kubernetes' own spreading is better than it looks: over zones and nodes, as even as there is
room for, and on a cluster without zones over nodes alone. Constraints of a pod's own replace it, and of those a node
that lacks one of the labels has no part: with the zone among the keys, a cluster without zones would not spread at all.

https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
"""

from __future__ import annotations

from typing import Final

from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest, selector

_WHEN_UNEVEN: Final = {"Preferred": "ScheduleAnyway", "Required": "DoNotSchedule"}


def topology_spread(service: NovaService, platform: Platform) -> Manifest:
    """The field of a pod that spreads it, or nothing; what a template says itself comes before it.

    Pods of one revision are counted, so that a rolling update ends as even as it began; and nodes that the pods may
    not run on are not, or their emptiness would keep pods waiting.
    """
    spread = service.spec.topology_spread
    if spread.mode == "Off":
        return {}
    return {"topologySpreadConstraints": [_constraint(service, key, platform) for key in dict.fromkeys(spread.keys)]}


def _constraint(service: NovaService, key: str, platform: Platform) -> Manifest:
    spread = service.spec.topology_spread
    constraint: Manifest = {
        "topologyKey": key,
        "maxSkew": spread.max_skew,
        "whenUnsatisfiable": _WHEN_UNEVEN[spread.mode],
        "labelSelector": {"matchLabels": selector(service)},
    }
    if platform.match_label_keys:
        constraint |= {"matchLabelKeys": ["pod-template-hash"], "nodeTaintsPolicy": "Honor"}
    return constraint
