"""The PodDisruptionBudget: how many pods a node drain may take at once."""

from __future__ import annotations

from nova_api.v1alpha1 import NovaService
from nova_operator.desired.metadata import Manifest, child, selector


def pod_disruption_budget(service: NovaService) -> Manifest | None:
    """None for a single replica, whose budget would block every node drain, and where it is switched off.

    Pods that are not ready may always be evicted: a broken service must not block a drain either.
    """
    budget = service.spec.pod_disruption_budget
    if budget.mode == "Off" or service.spec.replicas < 2:
        return None
    spec = {
        "selector": {"matchLabels": selector(service)},
        "maxUnavailable": budget.max_unavailable,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child(service, "policy/v1", "PodDisruptionBudget", service.metadata.name, {"spec": spec})
