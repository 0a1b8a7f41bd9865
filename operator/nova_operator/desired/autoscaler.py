"""The HorizontalPodAutoscaler, and what it needs in order to work.

It compares what the pods use with what they requested, so a goal in per cent says nothing without a request. Of a pod
with a sidecar it should look at the app alone, or the sidecar's idle share hides that the app is at its limit; servers
older than 1.30 can only look at the whole pod.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from nova_api import names
from nova_api.units import Share
from nova_api.v1alpha1 import NovaService
from nova_api.workload import Autoscaling
from nova_operator.desired.defaults import Platform
from nova_operator.desired.metadata import Manifest, child, workload_name
from nova_operator.desired.pod_checks import app_name, items

DEFAULT_CPU: Final = Share(0.8)
METRIC: Final = "nova_requests_in_flight"


def autoscaler(service: NovaService, platform: Platform) -> Manifest | None:
    """None without `autoscaling`. The number of pods is its business alone then: the Deployment says none."""
    autoscaling = service.spec.autoscaling
    if autoscaling is None:
        return None
    spec: Manifest = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload_name(service)},
        "minReplicas": autoscaling.min_replicas,
        "maxReplicas": autoscaling.max_replicas,
        "metrics": _metrics(service, autoscaling, platform),
    }
    if autoscaling.behavior:
        spec["behavior"] = autoscaling.behavior
    return child(service, "autoscaling/v2", "HorizontalPodAutoscaler", service.metadata.name, {"spec": spec})


def goals(autoscaling: Autoscaling) -> dict[str, Share]:
    """The shares of requests that are aimed at, by resource; of the CPU where nothing is."""
    given = {"cpu": autoscaling.cpu, "memory": autoscaling.memory}
    found = {resource: share for resource, share in given.items() if share is not None}
    return found if found or autoscaling.concurrency is not None else {"cpu": DEFAULT_CPU}


def autoscaling_warnings(service: NovaService) -> Iterator[str]:
    """Goals that the autoscaler cannot compare with anything, since the app requests nothing of the kind. Raises
    ConfigError for a template without an app."""
    autoscaling = service.spec.autoscaling
    resources = _app_resources(service)
    if autoscaling is None or resources is None:
        return
    for resource in goals(autoscaling):
        if not any(resource in (resources.get(part) or {}) for part in ("requests", "limits")):
            where = "resources" if service.spec.template is None else "template.spec.containers[].resources"
            yield (
                f"autoscaling.{resource}: the app requests no {resource}, so the autoscaler cannot tell how busy it is "
                f"and does nothing; set {where}.requests.{resource}, unless a LimitRange does"
            )


def _metrics(service: NovaService, autoscaling: Autoscaling, platform: Platform) -> list[Manifest]:
    metrics = [_used(service, resource, share, platform) for resource, share in goals(autoscaling).items()]
    if autoscaling.concurrency is not None:
        metric = {"name": METRIC, "selector": {"matchLabels": {"direction": "inbound"}}}
        target = {"type": "AverageValue", "averageValue": str(autoscaling.concurrency)}
        metrics.append({"type": "Pods", "pods": {"metric": metric, "target": target}})
    return metrics


def _used(service: NovaService, resource: str, share: Share, platform: Platform) -> Manifest:
    target = {"type": "Utilization", "averageUtilization": max(1, round(share * 100))}
    container = _app_container(service)
    if platform.container_metrics and container is not None:
        measured = {"name": resource, "container": container, "target": target}
        return {"type": "ContainerResource", "containerResource": measured}
    return {"type": "Resource", "resource": {"name": resource, "target": target}}


def _app_container(service: NovaService) -> str | None:
    """None where only the Deployment of workloadRef knows."""
    spec = service.spec
    if spec.template is not None:
        return app_name(service, spec.template.spec, "$.spec.template")
    return names.APP_CONTAINER if spec.workload_ref is None else spec.app_container


def _app_resources(service: NovaService) -> dict[str, Any] | None:
    """Requests and limits of the app; None where only the Deployment of workloadRef knows."""
    spec = service.spec
    if spec.workload_ref is not None:
        return None
    if spec.template is None:
        return {"requests": spec.resources.requests, "limits": spec.resources.limits}
    name = app_name(service, spec.template.spec, "$.spec.template")
    containers = items(spec.template.spec, "containers", "$.spec.template.spec")
    return next((one.get("resources") or {} for one in containers if one.get("name") == name), {})
