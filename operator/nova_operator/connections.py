"""The connections to the API server, those of `kubernetes.aio`, and one request on them.

The generated client spends more time around a request than the request takes: it walks through the body in search of
models, encodes it with the json module and looks for files in it. Here the body is ready. Credentials, TLS and the
pool of connections stay the client's.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from yarl import URL


class Connections(RESTClientObject):
    """Used in place of the client's own (`ApiClient.rest_client`), which closes it."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self._options: dict[str, Any] = {"allow_redirects": False}
        if configuration.tls_server_name:
            self._options["server_hostname"] = configuration.tls_server_name
        if configuration.proxy:
            self._options |= {"proxy": configuration.proxy, "proxy_headers": configuration.proxy_headers}

    async def send(
        self, method: str, target: str, body: bytes | None, content_type: str, within: aiohttp.ClientTimeout
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """One request; `target` is path and query as they go over the wire. The answer and its body.

        Raises what aiohttp does.
        """
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "nova-operator"}
        token = await self.configuration.get_api_key_with_prefix("BearerToken")  # reads a token that was replaced
        if token:
            headers["Authorization"] = token
        url = URL(self.configuration.host + target, encoded=True)
        async with self._session().request(
            method, url, data=body, headers=headers, timeout=within, **self._options
        ) as answer:
            return answer, await answer.read()

    def _session(self) -> aiohttp.ClientSession:
        """Made with the first request, since it belongs to the event loop."""
        if self.pool_manager is None:
            self.pool_manager = self._create_pool_manager()
        return self.pool_manager
