"""The HTTP session of Kopf's watch, in which everything that comes over it is noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import kopf
from kubernetes.aio.client import Configuration

from nova_operator import access
from nova_operator.pulse import Pulse

AGAIN: Final = 1.0
"""Least seconds between two logins: an API server that takes no token is not asked in a loop."""


class Sessions:
    """Logs Kopf in, each time with a session of its own; it asks anew when the API server no longer takes the token."""

    def __init__(self, configuration: Configuration, pulse: Pulse) -> None:
        self._configuration = configuration
        self._pulse = pulse
        self._open: list[aiohttp.ClientSession] = []
        self._last = float("-inf")

    async def login(self) -> kopf.AiohttpSession:
        """A new session, with the token of now."""
        await asyncio.sleep(max(0.0, self._last + AGAIN - time.monotonic()))
        self._last = time.monotonic()
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=access.tls(self._configuration)),
            headers={"User-Agent": "nova-operator", **({"Authorization": token} if token else {})},
            response_class=_answers(self._pulse),
            trust_env=False,
        )
        self._open = [one for one in self._open if not one.closed] + [session]
        return kopf.AiohttpSession(server=self._configuration.host, aiohttp_session=session)

    async def close(self) -> None:
        """Close what Kopf left open."""
        await asyncio.gather(*(session.close() for session in self._open))


def _answers(pulse: Pulse) -> type[aiohttp.ClientResponse]:
    """The class of answers that tell `pulse` of themselves."""

    class Answer(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            started = await super().start(connection)
            if self.url.query.get("watch") == "true" and self.status == 200:
                pulse.opened(self.url.path, time.monotonic())
                self.content = _Heard(self.content, pulse, self.url.path)  # type: ignore[assignment]  # stands in for it
            return started

    return Answer


class _Heard:
    """A body that notes when something of it arrives."""

    def __init__(self, content: aiohttp.StreamReader, pulse: Pulse, watch: str) -> None:
        self._content = content
        self._pulse = pulse
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        async for chunk in self._content.iter_chunked(size):
            self._pulse.heard(self._watch, time.monotonic())
            yield chunk
