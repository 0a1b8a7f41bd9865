"""The names under which an app may know an upstream, all pointed at the sidecar's loopback address.

A pod's search path lets one Service be called by four names: ``auth``, ``auth.shop``, ``auth.shop.svc`` and
``auth.shop.svc.cluster.local``. An app that uses another of them than its NovaService says must not slip past the
sidecar. https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from __future__ import annotations

from typing import Final

from nova_api.resolve import upstream_addresses
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.metadata import Manifest

CLUSTER_DOMAIN: Final = "cluster.local"


def host_aliases(service: NovaService) -> list[Manifest]:
    """One entry per address."""
    claimed = addresses_by_name(service)
    return [
        {"ip": address, "hostnames": sorted((name for name, to in claimed.items() if to == address), key=_short_first)}
        for address in upstream_addresses(service).values()
    ]


def addresses_by_name(service: NovaService) -> dict[str, str]:
    """Every name of every upstream. A name that a NovaService spells out wins over one derived from another."""
    addresses = upstream_addresses(service)
    claimed = dict(addresses)
    for host, address in addresses.items():
        for alias in aliases(host, service.metadata.namespace):
            claimed.setdefault(alias, address)
    return claimed


def aliases(host: str, namespace: str) -> tuple[str, ...]:
    """The other names of a host, seen from pods of `namespace`; none for what is no name of a Service."""
    labels = host.removesuffix(f".{CLUSTER_DOMAIN}").removesuffix(".svc").split(".")
    if len(labels) == 1:
        labels.append(namespace)
    if len(labels) != 2:
        return ()
    name, where = labels
    family = (f"{name}.{where}", f"{name}.{where}.svc", f"{name}.{where}.svc.{CLUSTER_DOMAIN}")
    own = (name,) if where == namespace else ()
    return tuple(alias for alias in own + family if alias != host)


def _short_first(name: str) -> tuple[int, str]:
    return len(name), name
