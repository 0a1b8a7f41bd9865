"""The part of the proxy document that a pod template has to agree with: what the app listens on, port by port.

Both versions run the same document, so a change of it that comes with a new template would reach the pods of the stable
version before they are replaced: their sidecars would send requests to a port on which nobody listens. So ports stay
as they are while the stable version has another template, and a template that needs others is no canary. Pure.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from nova_api import names, proxy
from nova_api.errors import ConfigError
from nova_api.proxy import Address, ProxyConfig
from nova_operator.desired.metadata import Manifest, own_workload, resealed
from nova_operator.desired.track import marked_hash

ADVICE: Final = (
    "ports, their protocols and the app's port cannot change by a canary, since both versions share them: "
    "change them with strategy Rolling first"
)

_Ports = tuple[tuple[str, str, Address], ...]


def keep_ports(
    desired: tuple[Manifest, ...], stable: Manifest | None, there: Manifest | None
) -> tuple[tuple[Manifest, ...], bool]:
    """The children, and whether the spec has other ports than the stable version, which then stay in the document.

    `stable` is the stable Deployment and `there` the ConfigMap, as they are in the cluster.
    """
    deployment = own_workload(desired)
    if stable is None or there is None or deployment is None:
        return desired, False
    if marked_hash(deployment["spec"]["template"]) == marked_hash(stable["spec"]["template"]):
        return desired, False
    config_map = next(one for one in desired if one["kind"] == "ConfigMap")
    new, old = _document(config_map), _document(there)
    if new is None or old is None or _ports(new) == _ports(old):
        return desired, False
    document = proxy.encode(replace(new, inbound=old.inbound)).decode()
    kept = resealed(config_map | {"data": config_map["data"] | {names.CONFIG_KEY: document}})
    return tuple(kept if one is config_map else one for one in desired), True


def _document(config_map: Manifest) -> ProxyConfig | None:
    """None for one that an older operator wrote, or nobody."""
    try:
        return proxy.decode(str((config_map.get("data") or {}).get(names.CONFIG_KEY, "")).encode())
    except ConfigError:
        return None


def _ports(config: ProxyConfig) -> _Ports:
    return tuple((port.name, port.protocol, port.app) for port in config.inbound)
