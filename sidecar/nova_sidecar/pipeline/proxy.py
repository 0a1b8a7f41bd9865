"""The whole data path as one object: listeners, ports, hot reload and drain."""

import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from nova_api.proxy import ProxyConfig

from nova_sidecar.pipeline.accesslog import AccessLog
from nova_sidecar.pipeline.stats import ProxyStats
from nova_sidecar.transport.endpoints import Endpoint, Resolver


class ListenError(Exception):
    """A listener that could not be opened: ``path`` names the field, the message says what to do."""

    def __init__(self, path: str, rule: str) -> None:
        self.path = path
        self.rule = rule
        super().__init__(f"{path}: {rule}")


class Proxy:
    """One sidecar's data path. All methods belong to the event loop's thread."""

    def __init__(
        self,
        config: ProxyConfig,
        *,
        resolver: Resolver,
        access_log: AccessLog,
        rng: Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.stats = ProxyStats()
        """Counters; read them at any time."""

    async def start(self) -> None:
        """Open every listener. Raises ListenError, naming the field, when one cannot be opened; then none is."""
        raise NotImplementedError

    async def apply(self, config: ProxyConfig) -> None:
        """Swap the configuration. Breakers, limiters, pools and requests in flight keep their state.

        Raises ListenError and keeps the old configuration whole when a listener cannot be opened.
        """
        raise NotImplementedError

    def begin_drain(self) -> None:
        """Begin to leave: inbound responses carry ``Connection: close``, after the delay inbound listeners close.

        Outbound goes on until `close`: the app finishes its work through it. Further calls change nothing.
        """
        raise NotImplementedError

    @property
    def draining(self) -> bool:
        """Whether drain has begun."""
        raise NotImplementedError

    @property
    def in_flight(self) -> int:
        """Exchanges now, inbound and outbound, upgraded connections included."""
        raise NotImplementedError

    async def drained(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until drain has begun, its delay passed and nothing inbound is in flight."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close every listener and connection now."""
        raise NotImplementedError

    def snapshot(self, now: float) -> dict[str, Any]:
        """The state for ``/stats``: per inbound and outbound in flight, pool, breaker, limiter, retry budget.

        Plain dicts, lists, strings and numbers.
        """
        raise NotImplementedError

    @property
    def inbound_addresses(self) -> Mapping[str, Endpoint]:
        """Actual address by port name; a configured port of 0 is the one the kernel chose."""
        raise NotImplementedError

    @property
    def outbound_addresses(self) -> Mapping[str, Endpoint]:
        """Actual address by upstream name."""
        raise NotImplementedError
