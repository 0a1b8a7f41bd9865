"""What a spec asks for that will not happen in this cluster, though nothing of it is wrong: told, not refused.

In words that say what to do; the condition FieldsIgnored carries them, and the webhook what it can know beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator

from nova_api.v1alpha1 import NovaService
from nova_operator.desired.autoscaler import autoscaling_warnings
from nova_operator.desired.defaults import Platform
from nova_operator.desired.edge import controller, keeps_clients


def without_effect(service: NovaService, platform: Platform) -> tuple[str, ...]:
    """One sentence each, with the field first. Raises ConfigError for a template without an app."""
    return (*autoscaling_warnings(service), *_gateway(service, platform), *edge_warnings(service))


def edge_warnings(service: NovaService) -> Iterator[str]:
    """Affinity that an unknown ingress controller is not told of."""
    if service.spec.ingress is not None and keeps_clients(service) and controller(service) is None:
        yield (
            "ingress: the controller is not told to keep clients at their pod, since className names none of nginx, "
            "traefik and haproxy; set ingress.controller, or leave it to the sidecars, which hand clients over"
        )


def _gateway(service: NovaService, platform: Platform) -> Iterator[str]:
    if service.spec.gateway is None:
        return
    if not platform.http_routes:
        yield (
            "gateway: the cluster has no HTTPRoutes (gateway.networking.k8s.io/v1); install the Gateway API, and the "
            "route is made"
        )
    elif keeps_clients(service) and not platform.session_persistence:
        yield (
            "gateway: the gateway is not told to keep clients at their pod, since the cluster's HTTPRoutes have no "
            "sessionPersistence (the experimental channel has); the sidecars hand clients over"
        )
