"""The connections to the API server, with the credentials and the TLS of `kubernetes.aio`, and one request or one watch
on them.

The generated client spends more time around a request than the request takes: it walks through the body in search of
models, encodes it with the json module and looks for files in it. Here the body is ready, and goes by `exchange`; a
watch, and all that goes by way of a proxy, by the client's session of aiohttp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from yarl import URL

from nova_operator.exchange import Answer, Exchanges


class Connections(RESTClientObject):
    """Used in place of the client's own (`ApiClient.rest_client`), which closes it: `most`, 0 for any number."""

    def __init__(self, configuration: Configuration, most: int) -> None:
        super().__init__(configuration)
        self.maxsize = most
        self._exchanges: Exchanges | None = None
        self._options: dict[str, Any] = {"allow_redirects": False}
        if configuration.tls_server_name:
            self._options["server_hostname"] = configuration.tls_server_name
        if configuration.proxy:
            self._options |= {"proxy": configuration.proxy, "proxy_headers": configuration.proxy_headers}

    async def send(
        self, method: str, target: str, body: bytes | None, content_type: str, *, connect: float, total: float
    ) -> Answer:
        """One request; `target` is path and query as they go over the wire. Seconds to `connect` and in `total`.

        Raises TimeoutError, OSError, aiohttp.ClientError.
        """
        headers = await self._headers() | {"Content-Type": content_type}
        if not self.configuration.proxy:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            return await self._exchange().send(method, target, lines, body or b"", connect=connect, total=total)
        within = aiohttp.ClientTimeout(total=total, sock_connect=connect)
        async with self._session().request(
            method, self._url(target), data=body, headers=headers, timeout=within, **self._options
        ) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, found, await answer.read())

    async def close(self) -> None:
        """Close them all."""
        if self._exchanges is not None:
            self._exchanges.close()
        await super().close()

    async def stream(
        self, target: str, within: aiohttp.ClientTimeout, opened: Callable[[], None], hear: Callable[[bytes], None]
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """A request whose answer goes on and on: `opened` is called when it begins, `hear` with each piece of it.
        Returns at its end; an answer that is none (its status is not 200) comes back with its body.

        Raises what aiohttp does.
        """
        async with self._session().get(
            self._url(target), headers=await self._headers(), timeout=within, **self._options
        ) as answer:
            if answer.status != 200:
                return answer, await answer.read()
            opened()
            async for piece in answer.content.iter_any():
                hear(piece)
            return answer, b""

    def _exchange(self) -> Exchanges:
        if self._exchanges is None:
            server, name = self.configuration.host, self.configuration.tls_server_name
            self._exchanges = Exchanges(server, self.ssl_context, name, self.maxsize)
        return self._exchanges

    def _url(self, target: str) -> URL:
        return URL(self.configuration.host + target, encoded=True)

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "nova-operator"}
        token = await self.configuration.get_api_key_with_prefix("BearerToken")  # reads a token that was replaced
        if token and not token.isprintable():
            raise ConnectionError("the token is not one line of text")  # what follows would be another field
        return headers | {"Authorization": token} if token else headers

    def _session(self) -> aiohttp.ClientSession:
        """Made with the first request, since it belongs to the event loop."""
        if self.pool_manager is None:
            self.pool_manager = self._create_pool_manager()
        return self.pool_manager
