"""The Service through which callers reach the sidecars."""

from __future__ import annotations

import math

from nova_api import names
from nova_api.exposure import ServicePort
from nova_api.v1alpha1 import NovaService
from nova_operator.desired import edge
from nova_operator.desired.metadata import Manifest, child, selector

_APP_PROTOCOLS = {"http": "http", "websocket": "kubernetes.io/ws", "grpc": "kubernetes.io/h2c"}
"""Standard names, for ingress controllers (https://kubernetes.io/docs/concepts/services-networking/service/
#application-protocol); there is none for plain TCP."""


def service(owner: NovaService) -> Manifest:
    """Each port leads to the sidecar's inbound port at the same position, never to the app."""
    affinity = owner.spec.session_affinity
    spec: Manifest = {
        "selector": selector(owner),
        "ports": [_port(index, port) for index, port in enumerate(owner.spec.ports)],
        "sessionAffinity": "ClientIP" if affinity.type == "ClientIP" else "None",
    }
    if affinity.type == "ClientIP":
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": math.ceil(affinity.timeout)}}
    return child(
        owner, "v1", "Service", owner.metadata.name, {"spec": spec}, annotations=edge.service_annotations(owner)
    )


def endpoints(owner: NovaService) -> Manifest:
    """The headless Service, through which callers find the pods one by one: its name has the address of every pod that
    is ready. There is no virtual address, so a port is the pods' own.

    https://kubernetes.io/docs/concepts/services-networking/service/#headless-services
    """
    inbound = [names.inbound_port(index) for index in range(len(owner.spec.ports))]
    spec: Manifest = {
        "clusterIP": "None",
        "selector": selector(owner),
        "ports": [{**_port(index, port), "port": inbound[index]} for index, port in enumerate(owner.spec.ports)],
    }
    return child(owner, "v1", "Service", names.endpoints(owner.metadata.name), {"spec": spec})


def _port(index: int, port: ServicePort) -> Manifest:
    manifest: Manifest = {
        "name": port.name,
        "port": port.port,
        "targetPort": names.inbound_port(index),
        "protocol": "TCP",
    }
    if port.protocol in _APP_PROTOCOLS:
        manifest["appProtocol"] = _APP_PROTOCOLS[port.protocol]
    return manifest
