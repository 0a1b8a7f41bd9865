"""Who reaches the relays, and whom they reach: their NetworkPolicy, and their PodMonitor.

    in   the port of metrics: whoever scrapes it may be anywhere in the cluster; nobody with monitoring Off
    out  names (DNS), the brokers, and what the service itself may reach by networkPolicy.allowTo and by upstreams of
         protocol tcp. The database is among those: where it is stands in a Secret, which the operator does not read

https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitor
"""

from __future__ import annotations

from nova_api import names
from nova_api.outbox import Outbox
from nova_api.v1alpha1 import NovaService
from nova_operator.desired import destinations
from nova_operator.desired.defaults import Platform
from nova_operator.desired.destinations import tcp
from nova_operator.desired.metadata import Manifest, child
from nova_operator.desired.network_policy import DNS, distinct
from nova_operator.desired.pod_monitor import milliseconds
from nova_operator.desired.relays.deployment import relay_selector


def relay_policy(service: NovaService, outbox: Outbox) -> Manifest | None:
    """None where the service has none."""
    policy = service.spec.network_policy
    if policy.mode == "Off":
        return None
    scrapes = {"from": [{"namespaceSelector": {}}], "ports": [tcp(names.METRICS_PORT)]}
    spec: Manifest = {
        "podSelector": relay_selector(service),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [] if service.spec.monitoring.mode == "Off" else [scrapes],
        "egress": distinct([{"ports": DNS}, *_brokers(service, outbox), *_relayed(service), *_allowed(service)]),
    }
    return child(service, "networking.k8s.io/v1", "NetworkPolicy", names.relay(service.metadata.name), {"spec": spec})


def relay_monitor(service: NovaService, platform: Platform) -> Manifest | None:
    """None where the service has none. The job is the name of the Deployment."""
    monitoring = service.spec.monitoring
    if monitoring.mode == "Off" or not platform.pod_monitors:
        return None
    endpoint = {"port": names.METRICS_PORT_NAME, "path": "/metrics", "interval": milliseconds(monitoring.interval)}
    spec: Manifest = {
        "selector": relay_selector(service),
        "jobLabel": "app.kubernetes.io/name",
        "podMetricsEndpoints": [endpoint],
    }
    name = names.relay(service.metadata.name)
    return child(service, "monitoring.coreos.com/v1", "PodMonitor", name, {"spec": spec}, labels=monitoring.labels)


def _brokers(service: NovaService, outbox: Outbox) -> list[Manifest]:
    """Brokers that these name later are reached as long as they are in the same namespace, or outside on the same
    port."""
    places = (broker.rpartition(":") for broker in outbox.brokers)
    return [rule for host, _, port in places for rule in destinations.host(service, host, int(port))]


def _relayed(service: NovaService) -> list[Manifest]:
    called = (upstream for upstream in service.spec.upstreams if upstream.protocol == "tcp")
    return [rule for upstream in called for rule in destinations.upstream(service, upstream)]


def _allowed(service: NovaService) -> list[Manifest]:
    peers = list(service.spec.network_policy.allow_to)
    return [{"to": peers}] if peers else []
