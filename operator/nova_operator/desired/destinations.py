"""Where a pod's connections go, as far as a NetworkPolicy can say it.

A policy acts on what leaves the pod after the Service was translated: it sees the address and port of a pod, not those
of the Service. Which pods are behind a Service of another name nobody here knows, and pods' ports are not the
Service's. So for a Service of the cluster the whole namespace is opened, on every port; only a NovaService's own pods
are known by label and port. What is no Service is anywhere, on its port.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from nova_api import names
from nova_api.redis_url import place
from nova_api.upstream import Upstream
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.host_aliases import CLUSTER_DOMAIN
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.state_secrets import session_store

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
"""Every namespace has its name in this label (Kubernetes 1.22)."""

_URL_PORTS: Final = {"http": 80, "https": 443}


def upstream(service: NovaService, called: Upstream) -> list[Manifest]:
    """Egress rules for an upstream."""
    named = _service_of_the_cluster(called.host, service.metadata.namespace)
    if called.discovery == "Endpoints" and named is not None:
        name, namespace = named
        pods = {**in_namespace(namespace), "podSelector": {"matchLabels": {names.LABEL_SERVICE: name}}}
        return [{"to": [pods], "ports": [tcp(called.pod_port)]}]
    return host(service, called.host, called.port)


def host(service: NovaService, name: str, port: int) -> list[Manifest]:
    """Egress rules for a host. Two labels may be a Service and its namespace or a name of the internet, so for them
    both are opened; who writes ``auth.identity.svc`` opens that namespace alone."""
    found = _service_of_the_cluster(name, service.metadata.namespace)
    within = [] if found is None else [{"to": [in_namespace(found[1])]}]
    certain = name.count(".") == 0 or name.removesuffix(f".{CLUSTER_DOMAIN}").endswith(".svc")
    return within if within and certain else [*within, {"ports": [tcp(port)]}]


def collector(service: NovaService) -> list[Manifest]:
    """Egress rules for the spans."""
    tracing = service.spec.tracing
    if tracing.mode == "Off":
        return []
    url = urlsplit(tracing.endpoint)
    return host(service, url.hostname or "", url.port or _URL_PORTS[url.scheme])


def issuers(service: NovaService) -> list[Manifest]:
    """Egress rules for where the keys of tokens are fetched."""
    jwt = service.spec.jwt
    if jwt is None or jwt.mode == "Off":
        return []
    urls = [urlsplit(issuer.jwks_url) for issuer in jwt.issuers if issuer.jwks_url is not None]
    return [rule for url in urls for rule in host(service, url.hostname or "", url.port or _URL_PORTS[url.scheme])]


def redis(service: NovaService) -> list[Manifest]:
    """Egress rules for each Redis, of sessions and of request policies. Members that a Sentinel or a Cluster names
    later are reached as long as they are in the same namespace, or outside on the same port. `resolve` has refused a
    URL that cannot be read."""
    stores = [store for store in (session_store(service), service.spec.redis) if store is not None]
    servers = dict.fromkeys(server for store in stores for server in place(store.url).servers)
    return [rule for name, port in servers for rule in host(service, name, port)]


def in_namespace(namespace: str) -> Manifest:
    """The part of a peer that names its namespace."""
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: namespace}}}


def tcp(port: int) -> Manifest:
    """A port of a rule."""
    return {"protocol": "TCP", "port": port}


def _service_of_the_cluster(name: str, namespace: str) -> tuple[str, str] | None:
    """Name and namespace of the Service that a host may be; None for what is none."""
    labels = name.removesuffix(f".{CLUSTER_DOMAIN}").removesuffix(".svc").split(".")
    if len(labels) == 1:
        return labels[0], namespace
    return (labels[0], labels[1]) if len(labels) == 2 else None
