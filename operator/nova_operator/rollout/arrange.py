"""From the children of a plain service to those of one with a canary. Pure: builders know nothing of canaries.

Deployment NAME          keeps the template that it has, and gets the size of the stable version
Deployment NAME-canary   the new template, with a selector of its own
Services                 select the pods that are to get requests
Service NAME-canary      where an HTTPRoute or callers send the canary its share
HTTPRoute                two backends with weights where there was one
"""

from __future__ import annotations

from collections.abc import Iterator

from nova_api import names
from nova_operator.desired.metadata import Manifest, resealed
from nova_operator.desired.track import marked
from nova_operator.rollout.wanted import Traffic, Wanted, selector


def arrange(
    service: str, desired: tuple[Manifest, ...], wanted: Wanted, stable: Manifest | None
) -> tuple[Manifest, ...]:
    """The children that follow from `wanted`. `stable` is the stable Deployment as it is in the cluster."""
    return tuple(child for manifest in desired for child in _arranged(service, manifest, wanted, stable))


def _arranged(service: str, manifest: Manifest, wanted: Wanted, stable: Manifest | None) -> Iterator[Manifest]:
    kind, own = manifest["kind"], manifest["metadata"]["name"] == service
    if kind == "Deployment" and own:
        yield _stable(manifest, wanted, stable)
        if wanted.canary_replicas is not None:
            yield _canary(service, manifest, wanted.canary_replicas)
    elif kind == "Service" and manifest["spec"].get("selector") == selector(service, "all"):
        traffic = wanted.siblings if manifest["metadata"]["name"] == names.endpoints(service) else wanted.traffic
        narrowed = manifest["spec"] | {"selector": selector(service, traffic)}
        yield manifest if traffic == "all" else resealed(manifest | {"spec": narrowed})
        if own and wanted.canary_service is not None:
            yield _canary_service(service, manifest, wanted.canary_service)
    elif kind == "HTTPRoute" and wanted.canary_service is not None:
        yield _weighted(service, manifest, wanted.canary_weight)
    else:
        yield manifest


def _stable(manifest: Manifest, wanted: Wanted, observed: Manifest | None) -> Manifest:
    spec = dict(manifest["spec"])
    if wanted.stable_replicas is not None:
        spec["replicas"] = wanted.stable_replicas
    if wanted.old_template and observed is not None:
        spec["template"] = _template(observed)
    return resealed(manifest | {"spec": spec}) if spec != manifest["spec"] else manifest


def _template(observed: Manifest) -> Manifest:
    """As it is, with what the API server filled in and what others added: they go on holding for the old version."""
    template = observed["spec"]["template"]
    metadata = {name: value for name, value in template["metadata"].items() if value is not None}
    return {**template, "metadata": metadata}


def _canary(service: str, manifest: Manifest, replicas: int) -> Manifest:
    spec = manifest["spec"] | {
        "replicas": replicas,
        "selector": {"matchLabels": selector(service, "canary")},
        "template": marked(manifest["spec"]["template"], "canary"),
    }
    metadata = manifest["metadata"] | {"name": names.canary(service)}
    return resealed(manifest | {"metadata": metadata, "spec": spec})


def _canary_service(service: str, manifest: Manifest, traffic: Traffic) -> Manifest:
    metadata = manifest["metadata"] | {"name": names.canary(service)}
    spec = manifest["spec"] | {"selector": selector(service, traffic)}
    return resealed(manifest | {"metadata": metadata, "spec": spec})


def _weighted(service: str, manifest: Manifest, weight: int) -> Manifest:
    """https://gateway-api.sigs.k8s.io/guides/traffic-splitting/"""
    rules = [
        rule | {"backendRefs": [both for ref in rule["backendRefs"] for both in _split(service, ref, weight)]}
        for rule in manifest["spec"]["rules"]
    ]
    return resealed(manifest | {"spec": manifest["spec"] | {"rules": rules}})


def _split(service: str, reference: Manifest, weight: int) -> Iterator[Manifest]:
    if reference["name"] != service:
        yield reference
        return
    yield reference | {"weight": 100 - weight}
    yield reference | {"name": names.canary(service), "weight": weight}
