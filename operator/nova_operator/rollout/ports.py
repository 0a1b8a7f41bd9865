"""The part of the proxy document that a pod template has to agree with: what the app listens on, port by port.

Both versions run the same document, so a change of it that comes with a new template would reach the pods of the stable
version before they are replaced: their sidecars would send requests to a port on which nobody listens. So ports stay
as they are while the stable version has another template, and a template that needs others is no canary. A Service's
port leads to the sidecar's port of the same place in the list, so Services and the network policy follow the document
and not the spec then: else callers of one port would reach the app's other one. Pure.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from nova_api import names, proxy
from nova_api.errors import ConfigError
from nova_api.proxy import Address, ProxyConfig
from nova_operator.desired.destinations import tcp
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
    return tuple(kept if one is config_map else _led(one, new, old) for one in desired), True


def _led(manifest: Manifest, new: ProxyConfig, old: ProxyConfig) -> Manifest:
    """A child that names the sidecar's ports by those of the spec, with those of the document in force."""
    spec: Manifest = manifest.get("spec") or {}
    if manifest["kind"] == "Service":
        return resealed(manifest | {"spec": spec | {"ports": _led_ports(spec, old)}})
    if manifest["kind"] == "NetworkPolicy":
        asked, kept = ([tcp(port.listen.port) for port in one.inbound] for one in (new, old))
        rules = {way: [_admitting(rule, spec, asked, kept) for rule in spec[way]] for way in ("ingress", "egress")}
        return resealed(manifest | {"spec": spec | rules})
    return manifest


def _led_ports(spec: Manifest, old: ProxyConfig) -> list[Manifest]:
    """By their names. A name that the document lacks leads to where it would anyway, a port that was renamed say,
    unless another name has that place. A headless Service has no ports of its own, it names those of the pods."""
    listens = {port.name: port.listen.port for port in old.inbound}
    taken = {listens[port["name"]] for port in spec["ports"] if port["name"] in listens}
    found = []
    for port in spec["ports"]:
        target = listens.get(port["name"], port["targetPort"])
        if port["name"] in listens or target not in taken:
            own = {"port": target} if spec.get("clusterIP") == "None" else {}
            found.append(port | {"targetPort": target} | own)
    return found


def _admitting(rule: Manifest, spec: Manifest, asked: list[Manifest], kept: list[Manifest]) -> Manifest:
    """A rule with the ports that are kept, where it is for those of the service's own pods: what the service calls may
    have the same numbers."""
    own = "to" not in rule or rule["to"] == [{"podSelector": spec["podSelector"]}]
    return rule | {"ports": kept} if own and rule.get("ports") == asked else rule


def _document(config_map: Manifest) -> ProxyConfig | None:
    """None for one that an older operator wrote, or nobody."""
    try:
        return proxy.decode(str((config_map.get("data") or {}).get(names.CONFIG_KEY, "")).encode())
    except ConfigError:
        return None


def _ports(config: ProxyConfig) -> _Ports:
    return tuple((port.name, port.protocol, port.app) for port in config.inbound)
