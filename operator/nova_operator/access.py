"""How the operator reaches the API server and proves who it is, for its own client and for Kopf's."""

from __future__ import annotations

from typing import Final

import kopf
from kubernetes.aio import config as loader
from kubernetes.aio.client import ApiClient, Configuration

from nova_operator.cluster import ClusterError

CONNECTIONS: Final = 24


async def configuration(kubeconfig: str | None) -> Configuration:
    """From a kubeconfig file, or from the pod's service account. Raises ClusterError saying what is missing."""
    access = Configuration()
    try:
        if kubeconfig is not None:
            open(kubeconfig, "rb").close()  # noqa: ASYNC230 - the loader takes a missing file for an empty one
            await loader.load_kube_config(config_file=kubeconfig, client_configuration=access, persist_config=False)
        else:
            loader.load_incluster_config(client_configuration=access)
    except (loader.ConfigException, OSError) as error:
        where = "the pod's service account" if kubeconfig is None else kubeconfig
        raise ClusterError(f"cannot reach the API server as {where} says: {error}") from error
    return access


async def connection(access: Configuration) -> kopf.ConnectionInfo:
    """The same, for Kopf, which asks again when the API server no longer takes the token."""
    header = await access.get_api_key_with_prefix("BearerToken") or ""
    return kopf.ConnectionInfo(
        server=access.host,
        ca_path=access.ssl_ca_cert,
        insecure=not access.verify_ssl,
        scheme="Bearer" if header else None,
        token=header.split()[-1] if header else None,  # the client keeps it as `Bearer …`
        certificate_path=access.cert_file,
        private_key_path=access.key_file,
    )


def client(access: Configuration) -> ApiClient:
    """The asyncio client. Close it in the end.

    Each TLS connection has a buffer of 256 KB in asyncio, so there are few of them; the rest waits its turn. Without
    `trust_env` no environment variable leads requests to a proxy, nor is each of them held up to look for one.
    """
    access.connection_pool_maxsize = CONNECTIONS
    access.client_session_kwargs = {"trust_env": False}
    api = ApiClient(access)
    api.user_agent = "nova-operator"
    return api
