"""Weights Callers: the sidecars of the services that call a service send its canary the share that the step says.

    NovaService cart, upstreams: [{host: checkout}]   ──▶  proxy document of cart, outbound[checkout].canary:
    NovaService checkout, canary at 10 %                     {address: checkout-canary:80, weight: 10}

An upstream is a NovaService when its host is one of the four names of that one's Service; see `host_aliases`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from nova_api import names, proxy
from nova_api.proxy import Address, Canary, Outbound
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.host_aliases import CLUSTER_DOMAIN
from nova_operator.desired.metadata import Manifest, resealed

Weight = Callable[[str, str], int]
"""Share of the requests that callers send to a service's canary, by namespace and name, in percent; 0 without one."""


def called(service: NovaService) -> frozenset[tuple[str, str]]:
    """The services that a service may call, by namespace and name; some of them may not exist."""
    namespace = service.metadata.namespace
    return frozenset(
        found for upstream in service.spec.upstreams if (found := service_of(upstream.host, namespace)) is not None
    )


def service_of(host: str, namespace: str) -> tuple[str, str] | None:
    """Namespace and name of the Service that a host is, seen from a pod of `namespace`; None for what is none."""
    labels = host.removesuffix(f".{CLUSTER_DOMAIN}").removesuffix(".svc").split(".")
    if len(labels) == 1:
        return namespace, labels[0]
    return (labels[1], labels[0]) if len(labels) == 2 else None


def with_canaries(service: NovaService, desired: tuple[Manifest, ...], weight: Weight) -> tuple[Manifest, ...]:
    """The children with the canaries of what the service calls in its proxy document."""
    if not any(weight(*found) for found in called(service)):
        return desired
    return tuple(_with_canaries(service, one, weight) if one["kind"] == "ConfigMap" else one for one in desired)


def _with_canaries(service: NovaService, config_map: Manifest, weight: Weight) -> Manifest:
    config = proxy.decode(config_map["data"][names.CONFIG_KEY].encode())
    outbound = tuple(_with_canary(one, service.metadata.namespace, weight) for one in config.outbound)
    document = proxy.encode(replace(config, outbound=outbound)).decode()
    return resealed(config_map | {"data": config_map["data"] | {names.CONFIG_KEY: document}})


def _with_canary(outbound: Outbound, namespace: str, weight: Weight) -> Outbound:
    found = service_of(outbound.upstream.host, namespace)
    share = weight(*found) if found is not None else 0
    if not share:
        return outbound
    first, dot, rest = outbound.upstream.host.partition(".")
    address = Address(host=f"{names.canary(first)}{dot}{rest}", port=outbound.upstream.port)
    return replace(outbound, canary=Canary(address=address, weight=share))
