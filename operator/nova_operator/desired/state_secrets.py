"""The Secrets of session affinity: what cookies are signed with, and what a store is reached with.

Mounted into the sidecar alone, as those of TLS are and for the same reasons (`tls`); `nova_api.resolve` names the same
folders. A pod waits until each of them exists; the one that the operator makes does before the Deployment.
"""

from __future__ import annotations

from typing import Final

from nova_api import names
from nova_api.v1alpha1 import NovaService, knows_clients
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.tls import secret_volume

SESSION_VOLUME: Final = "nova-session"
STORE_VOLUME: Final = "nova-store"


def state_volumes(service: NovaService) -> list[Manifest]:
    """One volume per Secret; of the signing one just the key, whatever else is in it."""
    volumes: list[Manifest] = []
    if (session := _session(service)) is not None:
        key = {"key": names.SESSION_KEY, "path": names.SESSION_KEY}
        volumes.append(secret_volume(SESSION_VOLUME, {"secretName": session, "items": [key]}))
    if (store := _store(service)) is not None:
        volumes.append(secret_volume(STORE_VOLUME, {"secretName": store}))
    return volumes


def state_mounts(service: NovaService) -> list[Manifest]:
    """Where the sidecar's container has them."""
    mounts: list[Manifest] = []
    if _session(service) is not None:
        mounts.append({"name": SESSION_VOLUME, "mountPath": names.SESSION_DIRECTORY, "readOnly": True})
    if (store := _store(service)) is not None:
        mounts.append({"name": STORE_VOLUME, "mountPath": f"{names.STORE_DIRECTORY}/{store}", "readOnly": True})
    return mounts


def _session(service: NovaService) -> str | None:
    if not knows_clients(service.spec):
        return None
    return service.spec.session_affinity.cookie.secret or names.session_secret(service.metadata.name)


def _store(service: NovaService) -> str | None:
    affinity = service.spec.session_affinity
    return affinity.redis.secret if affinity.type == "Redis" and affinity.redis is not None else None
