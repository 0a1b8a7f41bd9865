"""Reads the sidecars' status over HTTP, from the pods' addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec

from nova_api import names
from nova_operator.pods import PodView
from nova_operator.sidecars import SidecarReport

DEADLINE: Final = 1.0
"""Seconds for one answer, the connection included."""

IN_FLIGHT: Final = 32
LARGEST: Final = 1 << 16
"""Bytes of an answer that are read; a status with 64 upstreams has less than 10 KB."""


class HttpSidecars:
    """Implements `Sidecars`. Connections are not kept: pods come and go, and a look every few seconds is cheap."""

    def __init__(self, port: int = names.STATUS_PORT) -> None:
        self._port = port
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._session: aiohttp.ClientSession | None = None

    async def read(self, pods: tuple[PodView, ...]) -> Mapping[str, SidecarReport]:
        """The reports by pod uid; a sidecar that does not answer in time is left out."""
        reachable = [(pod.uid, pod.address) for pod in pods if pod.address is not None]
        reports = await asyncio.gather(*(self._read(address) for _, address in reachable))
        return {uid: report for (uid, _), report in zip(reachable, reports, strict=True) if report is not None}

    async def close(self) -> None:
        """Close the client."""
        if self._session is not None:
            await self._session.close()

    async def _read(self, address: str) -> SidecarReport | None:
        host = f"[{address}]" if ":" in address else address
        async with self._places:
            try:
                async with self._client().get(f"http://{host}:{self._port}/status", allow_redirects=False) as answer:
                    if answer.status != 200:
                        return None
                    return msgspec.json.decode(await _body(answer), type=SidecarReport)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError):
                return None  # not there yet, no longer there, or not a sidecar of ours: it did not report

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=IN_FLIGHT, force_close=True),
                timeout=aiohttp.ClientTimeout(total=DEADLINE),
                trust_env=False,
                auto_decompress=False,  # no sidecar compresses, and a few bytes can become gigabytes
            )
        return self._session


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, which comes in pieces; cut, and so no JSON any more, where it is longer than any of ours."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > LARGEST:
            return bytes(body[:LARGEST])
    return bytes(body)
