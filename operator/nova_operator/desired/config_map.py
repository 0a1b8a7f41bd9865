"""The ConfigMap that carries a service's proxy document to its sidecars."""

from __future__ import annotations

from nova_api import names, proxy
from nova_api.proxy import ProxyConfig
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.metadata import Manifest, child


def config_map(service: NovaService, config: ProxyConfig) -> Manifest:
    """Not immutable and not named after its hash: running sidecars take a change over without a new pod."""
    data = {names.CONFIG_KEY: proxy.encode(config).decode()}
    return child(service, "v1", "ConfigMap", names.config_map(service.metadata.name), {"data": data})
