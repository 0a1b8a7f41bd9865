"""The other pods of the service: which there are, and the connections to each, made when the first request goes there.

They are found through the headless Service, as every upstream is found by its name (`transport.discovery`). Each has
connections of its own, since a request is for one of them and no other. What a sibling cannot take waits for it, not
for the others.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from nova_api.policies import PoolPolicy
from nova_api.proxy import Address
from nova_sidecar.policy.affinity import Reach
from nova_sidecar.transport.discovery import Discovery
from nova_sidecar.transport.dispatcher import Counters, Dispatcher
from nova_sidecar.transport.endpoints import Endpoint, Resolver
from nova_sidecar.transport.wheel import Wheel
from nova_sidecar.wire.response import ResponseReader

CONNECT_TIMEOUT: Final = 0.5
"""Seconds for a connection to a sibling: a pod of the same cluster answers within milliseconds or is not there."""
POOL: Final = PoolPolicy(size=1024)
"""The sibling's own limiter says how much it takes; this only bounds what one sidecar may open."""


class Sibling:
    """Another pod, and how it was of late."""

    __slots__ = ("dispatcher", "endpoint", "reach")

    def __init__(self, endpoint: Endpoint, dispatcher: Dispatcher) -> None:
        self.endpoint = endpoint
        self.dispatcher = dispatcher
        self.reach = Reach()

    def __repr__(self) -> str:
        return f"<Sibling {self.endpoint[0]}:{self.endpoint[1]} {self.reach!r}>"


class Siblings:
    """See the module. Until `configure` there are none."""

    def __init__(
        self,
        *,
        reader: ResponseReader,
        resolver: Resolver,
        wheel: Wheel,
        rng: Random,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._resolver = resolver
        self._wheel = wheel
        self._rng = rng
        self._counters = counters
        self._clock = clock
        self._found: Callable[[tuple[str, ...]], None] = _nobody
        self._reader = reader
        self._discovery: Discovery | None = None
        self._there: dict[Endpoint, Sibling] = {}
        self._retired: list[Dispatcher] = []

    def configure(self, host: str, reader: ResponseReader, found: Callable[[tuple[str, ...]], None]) -> None:
        """Look for siblings at this host from now on, "" for nowhere, and read their responses in this way. `found` is
        told of all addresses whenever somebody has looked."""
        self._found = found
        self._reader = reader
        for sibling in self._there.values():
            sibling.dispatcher.reader = reader
        if self._discovery is not None and self._discovery.address.host == host:
            return
        if self._discovery is not None:
            self._discovery.close()
        self._discovery = None
        if host:
            address = Address(host=host, port=0)
            self._discovery = Discovery(address, self._resolver, found=self._take_over, missing=_keep)
            self._discovery.locate(address)

    def at(self, address: str, port: int) -> Sibling:
        """The sibling with this address; `port` is the one that this request came to here."""
        endpoint = (address, port)
        found = self._there.get(endpoint)
        if found is None:
            found = self._there[endpoint] = Sibling(endpoint, self._dispatcher(endpoint))
        return found

    def look_soon(self) -> None:
        """One did not answer, or was not known."""
        if self._discovery is not None:
            self._discovery.look_soon()

    def retire(self) -> None:
        """There are none any more: connections close as they finish."""
        self.configure("", self._reader, _nobody)
        self._take_over(())

    def close(self) -> None:
        """Close every connection now."""
        if self._discovery is not None:
            self._discovery.close()
        for dispatcher in [*self._retired, *(sibling.dispatcher for sibling in self._there.values())]:
            dispatcher.close()

    def _take_over(self, endpoints: tuple[Endpoint, ...]) -> None:
        addresses = dict.fromkeys(address for address, _ in endpoints)
        for endpoint in [one for one in self._there if one[0] not in addresses]:
            gone = self._there.pop(endpoint).dispatcher
            self._retired.append(gone)
            gone.retire()
        self._retired = [dispatcher for dispatcher in self._retired if not dispatcher.empty]
        self._found(tuple(addresses))

    def _dispatcher(self, endpoint: Endpoint) -> Dispatcher:
        return Dispatcher(
            Address(host=endpoint[0], port=endpoint[1]),
            POOL,
            connect_timeout=CONNECT_TIMEOUT,
            reader=self._reader,
            resolver=self._resolver,
            wheel=self._wheel,
            rng=self._rng,
            counters=self._counters,
            clock=self._clock,
        )

    def __repr__(self) -> str:
        return f"<Siblings {len(self._there)}>"


def _nobody(_addresses: tuple[str, ...]) -> None:
    """Nobody asks where the siblings are."""


def _keep(_why: str) -> None:
    """No answer, or an empty one: the siblings that were known last are as good a guess as any."""
