"""The Secrets of shared state: what cookies, and what sidecars tell each other of tokens, are signed with, and what the
stores are reached with.

Mounted into the sidecar alone, as those of TLS are and for the same reasons (`tls`); `nova_api.resolve` names the same
folders. A pod waits until each of them exists; the one that the operator makes does before the Deployment.
"""

from __future__ import annotations

from typing import Final

from nova_api import names
from nova_api.policies import RedisStore
from nova_api.v1alpha1 import NovaService, signs
from nova_operator.desired.metadata import Manifest
from nova_operator.desired.tls import secret_volume

SESSION_VOLUME: Final = "nova-session"
STORE_VOLUME: Final = "nova-store"
"""The volume of the sessions' store; request policies have another one, where it is another Secret."""
POLICIES_VOLUME: Final = "nova-policies-store"


def state_volumes(service: NovaService) -> list[Manifest]:
    """One volume per Secret; of the signing one just the key, whatever else is in it."""
    volumes: list[Manifest] = []
    if (session := _session(service)) is not None:
        key = {"key": names.SESSION_KEY, "path": names.SESSION_KEY}
        volumes.append(secret_volume(SESSION_VOLUME, {"secretName": session, "items": [key]}))
    volumes += [secret_volume(volume, {"secretName": secret}) for secret, volume in _stores(service).items()]
    return volumes


def state_mounts(service: NovaService) -> list[Manifest]:
    """Where the sidecar's container has them."""
    mounts: list[Manifest] = []
    if _session(service) is not None:
        mounts.append({"name": SESSION_VOLUME, "mountPath": names.SESSION_DIRECTORY, "readOnly": True})
    for secret, volume in _stores(service).items():
        mounts.append({"name": volume, "mountPath": f"{names.STORE_DIRECTORY}/{secret}", "readOnly": True})
    return mounts


def _session(service: NovaService) -> str | None:
    if not signs(service.spec):
        return None
    return service.spec.session_affinity.cookie.secret or names.session_secret(service.metadata.name)


def _stores(service: NovaService) -> dict[str, str]:
    """Volumes by Secret; one that both stores have is mounted once."""
    volumes: dict[str, str] = {}
    for store, volume in ((session_store(service), STORE_VOLUME), (service.spec.redis, POLICIES_VOLUME)):
        if store is not None and store.secret is not None:
            volumes.setdefault(store.secret, volume)
    return volumes


def session_store(service: NovaService) -> RedisStore | None:
    """Where sessions stand, if in a store at all."""
    affinity = service.spec.session_affinity
    return affinity.redis if affinity.type == "Redis" else None
