"""The PodDisruptionBudget: how many pods a node drain may take at once."""

from __future__ import annotations

from nova_api.v1alpha1 import NovaService
from nova_operator.desired.metadata import Manifest, child, selector


def pod_disruption_budget(service: NovaService) -> Manifest | None:
    """None for a single pod, for which a budget that lets one go protects nothing, and where it is switched off.

    None for workloadRef either: its owner may have made one, and a pod with two budgets cannot be evicted at all
    (https://kubernetes.io/docs/tasks/run-application/configure-pdb/). Pods that are not ready may always be evicted: a
    broken service must not block a drain either.
    """
    budget = service.spec.pod_disruption_budget
    autoscaling = service.spec.autoscaling
    fewest = service.spec.replicas if autoscaling is None else autoscaling.min_replicas
    if budget.mode == "Off" or fewest < 2 or service.spec.workload_ref is not None:
        return None
    spec = {
        "selector": {"matchLabels": selector(service)},
        "maxUnavailable": budget.max_unavailable,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child(service, "policy/v1", "PodDisruptionBudget", service.metadata.name, {"spec": spec})
