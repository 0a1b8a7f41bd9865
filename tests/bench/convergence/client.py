"""The bare client: aiohttp and nothing between it and the API server."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from nova_operator.access import CONNECTIONS

MANAGER: Final = "bench"
_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
_BUSY: Final = frozenset({429, 503})

T = TypeVar("T")


class RefusedError(Exception):
    """The API server did not take a request: its status code and its words."""


class Client:
    """As many requests in flight as the operator has connections."""

    def __init__(self, server: str, session: aiohttp.ClientSession) -> None:
        self.server = server
        self._session = session
        self.retries = 0

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        accept: str = "",
    ) -> bytes:
        """One request; an API server that asks for patience gets it. Raises RefusedError."""
        headers = {"Content-Type": content_type, "Accept": accept or "application/json"}
        while True:
            async with self._session.request(method, self.server + path, data=body, headers=headers) as answer:
                text = await answer.read()
                if answer.status < 300:
                    return text
                if answer.status not in _BUSY:
                    raise RefusedError(f"{method} {path}: {answer.status} {text[:500].decode(errors='replace')}")
            self.retries += 1
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))

    async def apply(self, path: str, body: bytes) -> bytes:
        """Server-side apply."""
        return await self.call(
            "PATCH", f"{path}?fieldManager={MANAGER}&force=true", body, "application/apply-patch+yaml"
        )

    async def merge(self, path: str, change: Any) -> bytes:
        """JSON merge patch."""
        return await self.call("PATCH", path, json.dumps(change).encode(), "application/merge-patch+json")

    async def document(self, path: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(await self.call("GET", path))
        return found

    async def items(self, path: str) -> list[dict[str, Any]]:
        """All objects of a collection."""
        found: list[dict[str, Any]] = (await self.document(path))["items"]
        return found

    async def rows(self, path: str) -> list[list[Any]]:
        """The printer columns of a collection, which are cheaper to get than the objects."""
        table = json.loads(await self.call("GET", f"{path}?includeObject=None&resourceVersion=0", accept=_TABLE))
        return [row["cells"] for row in table["rows"]]


async def each(things: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: int = CONNECTIONS) -> None:
    """Do the work for each thing, so many `at_once`."""
    left = iter(things)

    async def worker() -> None:
        for thing in left:
            await work(thing)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Client]:
    """A client with the kubeconfig's certificate."""
    document = json.loads(kubeconfig.read_text())  # noqa: ASYNC240 - nothing else runs yet
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as both:
        both.write(base64.b64decode(user["client-certificate-data"]) + b"\n")
        both.write(base64.b64decode(user["client-key-data"]))
        both.flush()
        context.load_cert_chain(both.name)
    connector = aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        yield Client(cluster["server"], session)
