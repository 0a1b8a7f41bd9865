"""Keeps the endpoints of one host up to date, for as long as somebody connects to it.

An IP address is an endpoint at once. A name is resolved in the background, again when its time to live is over, and
sooner when a connection failed or somebody waits; never twice within a second. What fails changes nothing: the
addresses that were known last outlive the name server.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from nova_api.proxy import Address
from nova_sidecar.transport.endpoints import Endpoint, Resolution, ResolveError, Resolver, interleaved, literal

MIN_REFRESH: Final = 1.0
MAX_REFRESH: Final = 30.0
"""Bounds on the seconds between two looks at an upstream's addresses."""


class Discovery:
    """Calls `found` with all endpoints of the host whenever it has looked, the families in turn, and `missing` with
    the reason when it found none. For an IP address `found` is called from `locate`."""

    __slots__ = ("_found", "_kick", "_loop", "_missing", "_resolver", "_task", "address")

    def __init__(
        self,
        address: Address,
        resolver: Resolver,
        *,
        found: Callable[[tuple[Endpoint, ...]], None],
        missing: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._resolver = resolver
        self._found = found
        self._missing = missing
        self._kick = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.address = address

    def locate(self, address: Address) -> None:
        """Find the endpoints of this host from now on."""
        self.close()
        self.address = address
        found = literal(address.host, address.port)
        if found is not None:
            self._found((found,))
        else:
            self._task = self._loop.create_task(self._refresh(address))

    def look_soon(self) -> None:
        """Look again before the time to live is over: a connection failed, or there is no endpoint yet."""
        self._kick.set()

    def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _refresh(self, address: Address) -> None:
        while True:
            self._kick.clear()
            ttl = await self._look(address)
            await asyncio.sleep(MIN_REFRESH)
            rest = min(ttl, MAX_REFRESH) - MIN_REFRESH
            if rest > 0:
                try:
                    async with asyncio.timeout(rest):
                        await self._kick.wait()
                except TimeoutError:
                    pass

    async def _look(self, address: Address) -> float:
        why = f"{address.host} has no address"
        try:
            resolution = await self._resolver.resolve(address.host, address.port)
        except ResolveError as error:
            resolution, why = Resolution((), MIN_REFRESH), str(error)
        if resolution.addresses:
            self._found(interleaved(resolution.addresses))
        else:
            self._missing(why)
        return resolution.ttl

    def __repr__(self) -> str:
        return f"<Discovery {self.address.host}:{self.address.port}>"
