"""The fields of children that the API server never changes, so that only a new object can have another value.

    Deployment        spec.selector
    Job               spec.template; another Job is what is wanted then anyway, since one runs once
    Service           spec.clusterIP, once there is one: with or without is all that a child says of it
    Secret            type
    ConfigMap, Secret everything, while `immutable: true` is set, which somebody else may have done

Of the other kinds that the operator makes every field can change: PodDisruptionBudget, HorizontalPodAutoscaler,
NetworkPolicy, Ingress, ServiceAccount, HTTPRoute, PodMonitor and PrometheusRule. Tests on an API server hold this list
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from nova_operator.desired.metadata import ANNOTATION_MANIFEST_HASH, Manifest

_HEADLESS: Final = "None"


def stuck(manifest: Manifest, there: Manifest) -> str | None:
    """Why the object that is there can never say what the manifest says; None if it can be changed."""
    check = _CHECKS.get(manifest["kind"])
    return None if check is None else check(manifest, there)


def _deployment(manifest: Manifest, there: Manifest) -> str | None:
    return "spec.selector cannot change" if manifest["spec"]["selector"] != there["spec"]["selector"] else None


def _job(manifest: Manifest, there: Manifest) -> str | None:
    said = [(one["metadata"].get("annotations") or {}).get(ANNOTATION_MANIFEST_HASH) for one in (manifest, there)]
    return "what ran has to run anew" if said[0] != said[1] else None


def _service(manifest: Manifest, there: Manifest) -> str | None:
    wanted, given = (document["spec"].get("clusterIP") == _HEADLESS for document in (manifest, there))
    return "spec.clusterIP cannot change" if wanted is not given and there["spec"].get("clusterIP") else None


def _data(manifest: Manifest, there: Manifest) -> str | None:
    if not there.get("immutable"):
        return None
    same = all(there.get(field) == manifest[field] for field in ("data", "binaryData") if field in manifest)
    return None if same else "somebody made it immutable"


def _secret(manifest: Manifest, there: Manifest) -> str | None:
    if manifest.get("type", "Opaque") != there.get("type", "Opaque"):
        return "type cannot change"
    return _data(manifest, there)


_CHECKS: Final[Mapping[str, Callable[[Manifest, Manifest], str | None]]] = {
    "Deployment": _deployment,
    "Job": _job,
    "Service": _service,
    "ConfigMap": _data,
    "Secret": _secret,
}
