"""The NetworkPolicy of a service: who may speak to its pods, and to whom they may.

    in   the sidecars' ports, where the traffic comes in: from allowFrom, from everybody without it, and always from
         the service's other pods where they hand clients over to each other
         the status port: it only answers questions (health, metrics, state) and knows no secret. Whoever scrapes it may
         be anywhere in the cluster, so every pod of it may ask; with monitoring Off the operator's namespace alone
    out  names (DNS), the upstreams, the collector of spans, each Redis, the issuers' keys, the service's other pods as
         above, and allowTo

The app's own port is open to nobody: it is reached through the sidecar. The kubelet comes from the pod's node, which no
policy keeps out. Where a name server is nobody can know (on the node, behind a host network, anywhere), so port 53 is
open to all; OpenShift's listens on 5353. The API server has no place in here: pods that talk to it need allowTo.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nova_api import names
from nova_api.v1alpha1 import NovaService, knows_clients
from nova_operator.desired import destinations
from nova_operator.desired.defaults import Defaults
from nova_operator.desired.destinations import in_namespace, tcp
from nova_operator.desired.metadata import Manifest, child, selector

DNS: Final[list[Manifest]] = [
    {"protocol": protocol, "port": port} for port in (53, 5353) for protocol in ("UDP", "TCP")
]


def network_policy(service: NovaService, defaults: Defaults) -> Manifest | None:
    """None where it is Off."""
    if service.spec.network_policy.mode == "Off":
        return None
    spec: Manifest = {
        "podSelector": {"matchLabels": selector(service)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": distinct([_traffic(service), *_siblings(service, "from"), _status(service, defaults)]),
        "egress": distinct([{"ports": DNS}, *_destinations(service), *_siblings(service, "to"), *_allowed(service)]),
    }
    return child(service, "networking.k8s.io/v1", "NetworkPolicy", service.metadata.name, {"spec": spec})


def _traffic(service: NovaService) -> Manifest:
    peers = list(service.spec.network_policy.allow_from)
    return {**({"from": peers} if peers else {}), "ports": _inbound(service)}


def _status(service: NovaService, defaults: Defaults) -> Manifest:
    """Without a namespace the operator runs outside of the cluster and may come from anywhere."""
    rule: Manifest = {"ports": [tcp(names.STATUS_PORT)]}
    if defaults.operator_namespace is None:
        return rule
    if service.spec.monitoring.mode == "Off":
        return {"from": [in_namespace(defaults.operator_namespace)], **rule}
    return {"from": [{"namespaceSelector": {}}], **rule}


def _siblings(service: NovaService, direction: str) -> list[Manifest]:
    if not knows_clients(service.spec):
        return []
    return [{direction: [{"podSelector": {"matchLabels": selector(service)}}], "ports": _inbound(service)}]


def _destinations(service: NovaService) -> list[Manifest]:
    rules = [rule for called in service.spec.upstreams for rule in destinations.upstream(service, called)]
    return [*rules, *destinations.collector(service), *destinations.redis(service), *destinations.issuers(service)]


def _allowed(service: NovaService) -> list[Manifest]:
    peers = list(service.spec.network_policy.allow_to)
    return [{"to": peers}] if peers else []


def _inbound(service: NovaService) -> list[Manifest]:
    return [tcp(names.inbound_port(index)) for index in range(len(service.spec.ports))]


def distinct(rules: Iterable[Manifest]) -> list[Manifest]:
    """Each rule once: several upstreams may be in one namespace."""
    found: list[Manifest] = []
    for rule in rules:
        if rule not in found:
            found.append(rule)
    return found
