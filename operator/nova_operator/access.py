"""How the operator reaches the API server and proves who it is, for its own client and for Kopf's."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog
import yaml
from kubernetes.aio import config as loader
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.incluster_config import SERVICE_TOKEN_FILENAME

from nova_operator.cluster import ClusterError
from nova_operator.connections import Connections

CONNECTIONS: Final = 24
REREAD: Final = 5.0
"""Seconds for which a token that was read from its file is used."""

log = structlog.get_logger()


async def configuration(kubeconfig: str | None) -> Configuration:
    """From a kubeconfig file, or from the pod's service account. Raises ClusterError saying what is missing."""
    access = Configuration()
    try:
        if kubeconfig is not None:
            token = _token_file(Path(kubeconfig))
            await loader.load_kube_config(config_file=kubeconfig, client_configuration=access, persist_config=False)
        else:
            token = Path(SERVICE_TOKEN_FILENAME)
            loader.load_incluster_config(client_configuration=access, try_refresh_token=False)
    except (loader.ConfigException, OSError, yaml.YAMLError) as error:
        where = "the pod's service account" if kubeconfig is None else kubeconfig
        raise ClusterError(f"cannot reach the API server as {where} says: {error}") from error
    if token is not None:
        access.refresh_api_key_hook = _Rotated(token).refresh  # type: ignore[assignment]  # typed by its default, None
    return access


class _Rotated:
    """A token in a file, which is replaced before it expires: the kubelet does so after four fifths of an hour
    (https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken).

    The client would read the file again by the wall clock, and never if that is set back.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = time.monotonic()

    def refresh(self, access: Configuration) -> None:
        if time.monotonic() - self._read < REREAD:
            return
        self._read = time.monotonic()
        try:
            token = self._file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            log.warning("token not read", error=str(error))
            return
        if token:
            access.api_key["BearerToken"] = f"Bearer {token}"


def _token_file(kubeconfig: Path) -> Path | None:
    """The file of the current user's token. Raises OSError without a kubeconfig: the loader takes it for an empty
    one."""
    document = yaml.safe_load(kubeconfig.read_text()) or {}
    current = _named(document, "contexts", document.get("current-context")).get("context") or {}
    user = _named(document, "users", current.get("user")).get("user") or {}
    return kubeconfig.parent / user["tokenFile"] if user.get("tokenFile") else None


def _named(document: Mapping[str, Any], section: str, name: str | None) -> Mapping[str, Any]:
    return next((one for one in document.get(section) or () if one.get("name") == name), {})


def tls(access: Configuration) -> ssl.SSLContext:
    """How connections to the API server prove who is at both ends."""
    context = ssl.create_default_context(cafile=access.ssl_ca_cert)
    if access.cert_file:
        context.load_cert_chain(access.cert_file, access.key_file)
    if not access.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def client(access: Configuration) -> ApiClient:
    """The asyncio client. Close it in the end.

    Each TLS connection has a buffer of 256 KB in asyncio, so there are few of them; the rest waits its turn. Without
    `trust_env` no environment variable leads requests to a proxy, nor is each of them held up to look for one.
    """
    access.client_session_kwargs = {"trust_env": False}
    api = ApiClient(access)
    api.rest_client = Connections(access, CONNECTIONS)
    api.user_agent = "nova-operator"
    return api
