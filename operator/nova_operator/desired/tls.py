"""The Secrets with which the sidecar knows its upstreams and its issuers' hosts, and is known to them.

They are mounted, not read: the operator needs no right to see them, and the kubelet renews the files in place, which
the sidecar takes over without a restart. Only the sidecar's container mounts them, so every process that could read
the files is the sidecar; mode 0444 lets it do so as whatever user it runs, without an fsGroup, which would change the
owner of the app's volumes too.
"""

from __future__ import annotations

from typing import Final

from nova_api import names
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.metadata import Manifest

VOLUME_PREFIX: Final = "nova-tls-"
_MODE: Final = 0o444


def tls_volumes(service: NovaService) -> list[Manifest]:
    """One volume per Secret, however many upstreams name it. A pod waits until each of them exists."""
    return [secret_volume(name, {"secretName": secret}) for secret, name in _volumes(service).items()]


def secret_volume(name: str, source: Manifest) -> Manifest:
    """A volume of a Secret whose files the sidecar's user can read."""
    return {"name": name, "secret": {**source, "defaultMode": _MODE}}


def tls_mounts(service: NovaService) -> list[Manifest]:
    """Where the sidecar's container has them; `nova_api.resolve` names the same folders."""
    return [
        {"name": name, "mountPath": f"{names.TLS_DIRECTORY}/{secret}", "readOnly": True}
        for secret, name in _volumes(service).items()
    ]


def _volumes(service: NovaService) -> dict[str, str]:
    """Volume by Secret. A Secret's name may be longer than a volume's, so volumes are numbered."""
    secrets = dict.fromkeys(
        upstream.tls.secret for upstream in service.spec.upstreams if upstream.tls and upstream.tls.secret
    )
    jwt = service.spec.jwt
    if jwt is not None and jwt.mode != "Off":
        secrets |= dict.fromkeys(issuer.secret for issuer in jwt.issuers if issuer.secret)
    return {secret: f"{VOLUME_PREFIX}{index}" for index, secret in enumerate(secrets)}
