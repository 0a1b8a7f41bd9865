"""NovaServices for the tests of admission."""

from __future__ import annotations

from typing import Any

from nova_api.model import convert
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.defaults import Defaults

DEFAULTS = Defaults(sidecar_image="nova/sidecar:1", sidecar_requests={"cpu": "50m", "memory": "64Mi"})


def document(**spec: Any) -> dict[str, Any]:
    """A NovaService as the API server has it; image and port are filled in unless the spec says what runs."""
    given = {} if {"template", "workloadRef"} & spec.keys() else {"image": "registry.example/shop:1"}
    return {
        "apiVersion": "nova.dev/v1alpha1",
        "kind": "NovaService",
        "metadata": {"name": "shop", "namespace": "market"},
        "spec": {**given, "ports": [{"port": 8080}], **spec},
    }


def service(**spec: Any) -> NovaService:
    """The same, decoded."""
    return convert(document(**spec), NovaService)
