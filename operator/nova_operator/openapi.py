"""Which fields an API server knows, from its OpenAPI documents.

A server-side apply with a field that a definition does not have is refused as a whole, so whoever wants to use one that
came later asks first. https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3
"""

from __future__ import annotations

from typing import Any

from nova_operator.kinds import Kind


def document_path(index: dict[str, Any], kind: Kind) -> tuple[str, str] | None:
    """Path and hash of the document of a kind's group and version, from the answer of GET /openapi/v3; None where
    there is none. The hash changes with the document."""
    root = "apis" if "/" in kind.api_version else "api"
    entry = index["paths"].get(f"{root}/{kind.api_version}")
    if entry is None:
        return None
    path, _, digest = entry["serverRelativeURL"].partition("?hash=")
    return path, digest


def declares(document: dict[str, Any], kind: Kind, field: tuple[str, ...]) -> bool:
    """Whether a kind has a field, given by its names from the top; lists are gone through."""
    group, _, version = kind.api_version.rpartition("/")
    wanted = {"group": group, "version": version, "kind": kind.kind}
    schemas = document.get("components", {}).get("schemas", {}).values()
    found = next((one for one in schemas if wanted in one.get("x-kubernetes-group-version-kind", ())), None)
    for name in field:
        while found is not None and "items" in found:
            found = found["items"]
        found = None if found is None else found.get("properties", {}).get(name)
    return found is not None
