"""The wire of the operator's own watches: connections of their own, lines, and silence noticed.

They do not take part in the pool of other requests: each is held for minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import Configuration

from nova_operator.cluster import UnavailableError
from nova_operator.connections import Connections
from nova_operator.kinds import Kind
from nova_operator.kube import error_of, path_of
from nova_operator.pulse import Pulse
from nova_operator.watch import GoneError

CONNECT: Final = 5.0
GRACE: Final = 10.0
"""Seconds after the time at which the API server should have closed a watch."""


class Streams:
    """All of a replica. The API server closes one after `longest` seconds, whole ones; one that has been silent for as
    long as `pulse` says is given up."""

    def __init__(self, configuration: Configuration, pulse: Pulse, longest: int) -> None:
        self._connections = Connections(configuration, 0)
        self._pulse = pulse
        self._longest = longest

    def __repr__(self) -> str:
        return f"<Streams {self._pulse!r}>"

    async def close(self) -> None:
        """Close them all."""
        await self._connections.close()

    async def follow(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        opened: Callable[[], None],
        hear: Callable[[bytes], None],
    ) -> None:
        """See `watch.Stream`."""
        path = path_of(kind, namespace)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": kind.label,
            "resourceVersion": version,
            "timeoutSeconds": str(self._longest),
        }
        within = aiohttp.ClientTimeout(total=self._longest + GRACE, sock_connect=CONNECT)
        loop = asyncio.get_running_loop()
        rest = b""

        def begin() -> None:
            self._pulse.opened(path, time.monotonic())
            opened()

        def cut(piece: bytes) -> None:
            nonlocal rest
            self._pulse.heard(path, time.monotonic())
            patience.reschedule(loop.time() + self._pulse.silence)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                hear(line)

        try:
            async with asyncio.timeout(self._pulse.silence) as patience:
                target = f"{path}?{urlencode(query)}"
                answer, text = await self._connections.stream(target, within, begin, cut)
        except TimeoutError as error:
            raise UnavailableError(f"the watch of {path} was silent") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"the watch of {path}: {str(error) or type(error).__name__}") from error
        if answer.status == 410:
            raise GoneError(f"the watch of {path} cannot go on from {version}")
        if answer.status != 200:
            raise error_of(f"the watch of {path}", answer.status, answer.headers.get("Retry-After"), text)
