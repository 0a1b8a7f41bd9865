"""The whole data path as one object: listeners, ports, hot reload and drain."""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

from nova_api.proxy import Address, Inbound, Outbound, ProxyConfig
from nova_sidecar.pipeline.accesslog import AccessLog
from nova_sidecar.pipeline.desks import Desks
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.port import Port, Shared
from nova_sidecar.pipeline.protection import Guard, TurnedAway
from nova_sidecar.pipeline.protocols import port_class
from nova_sidecar.pipeline.stats import Direction, ProxyStats
from nova_sidecar.pipeline.tracing import SpanLog
from nova_sidecar.policy.closing import Closing
from nova_sidecar.policy.correlation import CorrelationIds
from nova_sidecar.policy.drain import Drainer, Phase
from nova_sidecar.policy.limiter import Limiter
from nova_sidecar.transport.endpoints import Endpoint, Resolver
from nova_sidecar.transport.listener import Listener

if TYPE_CHECKING:  # imported where the policy is on
    from nova_sidecar.pipeline.pool_guard import PoolGuardDesk
    from nova_sidecar.pipeline.sessions import SessionDesk
    from nova_sidecar.transport.siblings import Siblings

CLOSE_TIMEOUT: Final = 1.0
_POLL: Final = 0.01

Key = tuple[Direction, str]
Place = tuple[object, ...]


class ListenError(Exception):
    """A listener that could not be opened: ``path`` names the field, the message says what to do."""

    def __init__(self, path: str, rule: str) -> None:
        self.path = path
        self.rule = rule
        super().__init__(f"{path}: {rule}")


class _Door:
    """A listener and the port behind it, which a reload may exchange."""

    __slots__ = ("_guard", "listener", "port")

    def __init__(self, port: Port, guard: Guard) -> None:
        self.port = port
        self._guard = guard
        self.listener: Listener | None = None

    def accept(self) -> asyncio.Protocol:
        """A connection for the port that is behind the door now, where there is room for one more."""
        return self.port.accept() if self._guard.admit() else TurnedAway()

    def close(self) -> None:
        """Let nobody in any more."""
        if self.listener is not None:
            self.listener.close()


class Proxy:
    """One sidecar's data path. All methods belong to the event loop's thread."""

    def __init__(
        self,
        config: ProxyConfig,
        *,
        resolver: Resolver,
        access_log: AccessLog,
        rng: Random,
        spans: SpanLog | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.stats = ProxyStats()
        """Counters; read them at any time."""
        self.limiter: Limiter[Handled] = Limiter(config.backpressure, clock())
        self.guard = Guard(config.self_protection, self.stats.ports, clock, self._protect)
        self._clock = clock
        self._drainer = Drainer(config.drain)
        self._closing: asyncio.TimerHandle | None = None
        self._ports: dict[Key, Port] = {}
        self._removed: list[Port] = []
        self._former_siblings: list[Siblings] = []
        self._finishing: set[asyncio.Task[None]] = set()
        self._doors: dict[Place, _Door] = {}
        self._shared = Shared(
            access_log=access_log,
            clock=clock,
            ids=CorrelationIds(os.urandom),
            guard=self.guard,
            limiter=self.limiter,
            closing=Closing(config.web_socket, rng),
            resolver=resolver,
            rng=rng,
            spans=spans,
        )

    async def start(self) -> None:
        """Open every listener. Raises ListenError, naming the field, when one cannot be opened; then none is."""
        await self._take_over(self.config)
        self.guard.start()

    async def apply(self, config: ProxyConfig) -> None:
        """Swap the configuration. Breakers, limiters, pools and requests in flight keep their state.

        Raises ListenError and keeps the old configuration whole when a listener cannot be opened.
        """
        await self._take_over(config)
        self.config = config
        self._drainer.configure(config.drain)
        self._shared.closing.configure(config.web_socket)
        self.guard.configure(config.self_protection)
        self._protect()
        for waiter in self.limiter.configure(config.backpressure, self._clock()):
            waiter.grant()

    def _protect(self) -> None:
        """The sidecar is at its limit, or no longer; TCP ports have no requests to refuse."""
        for port in self._ports.values():
            if isinstance(port, Port):
                port.protect()

    async def _take_over(self, config: ProxyConfig) -> None:
        """Everything that can fail first, with nothing changed; then the change, without a turn of the loop in it."""
        before, desks = self._shared.desk, self._shared.desks
        self._shared.desk = self._session_desk(config)
        self._shared.desks = Desks(config, self._shared, desks)
        fresh: dict[Key, Port] = {}
        for direction, settings, _ in _settings(config):
            key = (direction, settings.name)
            kind = port_class(settings)
            if type(self._ports.get(key)) is not kind:
                fresh[key] = kind(settings, config, self._shared, self.stats.port(direction, settings.name))
        try:
            doors = await self._open_doors(config, {**self._ports, **fresh})
        except ListenError:
            self._shared.desk, self._shared.desks = before, desks
            for port in fresh.values():
                port.close()
            raise
        self._exchange_desks(before, self._shared.desk)
        self._shared.desks.start(config, desks)
        if desks is not None:
            self._wind_up(desks.finish(self._shared.desks))
        self._commit(config, fresh, doors)

    def _session_desk(self, config: ProxyConfig) -> "SessionDesk | None":
        """The one there is, where it does what the configuration asks for, or a new one; None where affinity is off."""
        if config.affinity is None:
            return None
        now = self._shared.desk
        if now is not None and now.fits(config.affinity, config):
            return now
        from nova_sidecar.pipeline.sessions import SessionDesk  # noqa: PLC0415 - only where it is on

        return SessionDesk(config.affinity, config, self._shared, now)

    def _exchange_desks(self, before: "SessionDesk | None", now: "SessionDesk | None") -> None:
        if before is now:
            return
        if now is not None:
            now.start(before)
        if before is not None:
            before.stop()
            self._wind_up(before.finish(now))
        if before is not None and now is None:
            before.siblings.retire()
            self._former_siblings.append(before.siblings)

    def _wind_up(self, work: Coroutine[Any, Any, None]) -> None:
        """Let what is no longer in force come to its end."""
        task = self._shared.loop.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    def _commit(self, config: ProxyConfig, fresh: dict[Key, Port], doors: dict[Place, _Door]) -> None:
        ports: dict[Key, Port] = {}
        for direction, settings, _ in _settings(config):
            key = (direction, settings.name)
            port = ports[key] = fresh.get(key) or self._ports[key]
            if key not in fresh:
                port.configure(settings, config)
            if direction == "inbound" and self.draining:
                port.leave()
            doors[_place(direction, settings)].port = port
        removed = [port for key, port in self._ports.items() if ports.get(key) is not port]
        for place, door in self._doors.items():
            if place not in doors:
                door.close()
        self._ports, self._doors = ports, doors
        self._remove(removed, float(config.drain.timeout))

    async def _open_doors(self, config: ProxyConfig, ports: Mapping[Key, Port]) -> dict[Place, _Door]:
        """The doors of a configuration: those there are, and new ones. Raises ListenError and closes the new ones."""
        doors: dict[Place, _Door] = {}
        try:
            for direction, settings, path in _settings(config):
                place = _place(direction, settings)
                _refuse_double(place, doors, path)
                port = ports[direction, settings.name]
                doors[place] = self._doors.get(place) or await self._open(settings, port, path)
        except ListenError:
            for place, door in doors.items():
                if place not in self._doors:
                    door.close()
            raise
        return doors

    async def _open(self, settings: Inbound | Outbound, port: Port, path: str) -> _Door:
        door = _Door(port, self.guard)
        try:
            door.listener = await Listener.open(settings.listen, door.accept)
        except OSError as error:
            raise ListenError(path, _advice(settings.listen, error)) from error
        return door

    def _remove(self, ports: list[Port], seconds: float) -> None:
        """Ports that are no longer there: their connections have as long to end as when the whole sidecar leaves."""
        for port in ports:
            port.leave()
            port.close_idle()
            port.upgrades.leave(seconds)
            self._shared.loop.call_later(seconds, self._cut_removed, port)
        self._removed = [port for port in [*self._removed, *ports] if not self._finish(port)]

    def _finish(self, port: Port) -> bool:
        if port.connections:
            return False
        port.dispatcher.close()
        return True

    def _cut_removed(self, port: Port) -> None:
        if port in self._removed:
            seconds = CLOSE_TIMEOUT if port.upgrades.cut() else 0.0  # what was cut has a moment to say so
            self._shared.loop.call_later(seconds, self._end_removed, port)

    def _end_removed(self, port: Port) -> None:
        port.close()
        self._removed = [other for other in self._removed if other is not port]

    # --- leaving

    def begin_drain(self) -> None:
        """Begin to leave: inbound responses carry ``Connection: close``, after the delay inbound listeners close.

        Outbound goes on until `close`: the app finishes its work through it. Further calls change nothing.
        """
        now = self._clock()
        if not self._drainer.begin(now):
            return
        for port in self._inbound():
            port.leave()
        self._closing = self._shared.loop.call_later(float(self.config.drain.delay), self._close_inbound)

    def _close_inbound(self) -> None:
        self._drainer.advance(self._clock() + _POLL, self._inbound_in_flight)
        for direction, settings, _ in _settings(self.config):
            if direction == "inbound":
                self._doors[_place(direction, settings)].close()
        for port in self._inbound():
            port.close_idle()
            port.upgrades.leave(self._drainer.drained_at - self._clock())

    @property
    def phase(self) -> Phase:
        """Where the drain of the data path stands."""
        return self._drainer.phase

    @property
    def draining(self) -> bool:
        """Whether drain has begun."""
        return self._drainer.phase is not Phase.SERVING

    @property
    def in_flight(self) -> int:
        """Exchanges now, inbound and outbound, upgraded connections included."""
        return sum(stats.in_flight for stats in self.stats.ports.values())

    @property
    def _inbound_in_flight(self) -> int:
        return sum(stats.in_flight for stats in self.stats.ports.values() if stats.direction == "inbound")

    async def drained(self, seconds: float) -> bool:
        """Wait at most so long until drain has begun, its delay passed and nothing inbound is in flight.

        It looks every 10 ms: exchanges are many and drains are rare, so that no exchange pays for telling.
        """
        deadline = self._clock() + seconds
        while True:
            in_flight = self._inbound_in_flight
            if self._drainer.phase is Phase.CLOSING:
                self._drainer.advance(self._clock(), in_flight)
            if self._drainer.phase is Phase.DRAINED and not in_flight:
                return True
            if self._clock() >= deadline:
                return False
            await asyncio.sleep(_POLL)

    async def close(self) -> None:
        """Close every listener and connection now."""
        self.guard.close()
        if self._closing is not None:
            self._closing.cancel()
        for door in self._doors.values():
            door.close()
        ports = [*self._ports.values(), *self._removed]
        await self._cut(ports)
        for port in ports:
            port.close()
        self._exchange_desks(self._shared.desk, None)
        await asyncio.gather(*self._finishing, return_exceptions=True)  # what is left is ended whatever they meet
        if self._shared.desks is not None:
            await self._shared.desks.finish(None)
        for siblings in self._former_siblings:
            siblings.close()
        self._shared.wheel.close()
        deadline = self._clock() + CLOSE_TIMEOUT
        while any(port.connections for port in ports) and self._clock() < deadline:  # noqa: ASYNC110 - a turn or two
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _cut(self, ports: list[Port]) -> None:
        """Upgraded connections say that they end, and are given a moment to get that out."""
        ended = [(port, connection) for port in ports for connection in port.upgrades.cut()]
        deadline = self._clock() + CLOSE_TIMEOUT
        while any(one in port.connections for port, one in ended) and self._clock() < deadline:  # noqa: ASYNC110 - as below
            await asyncio.sleep(_POLL)

    # --- looking at it

    def purge_cache(self, target: bytes = b"", pattern: bytes = b"") -> dict[str, Any] | None:
        """Make the cache forget a target, or what a pattern names: how many entries there were here, and whether the
        other sidecars are told; None where there is no cache. Raises PatternError."""
        desk = self._shared.desks.get("cache") if self._shared.desks is not None else None
        if desk is None:
            return None
        purged = desk.invalidate(target) if target else desk.purge(pattern)  # type: ignore[attr-defined]  # the cache's
        return {"purged": purged, "shared": bool(desk.snapshot()["tier"])}

    def snapshot(self, now: float) -> dict[str, Any]:
        """The state for ``/stats``: per inbound and outbound in flight, pool, breaker, limiter, retry budget.

        Plain dicts, lists, strings and numbers.
        """
        shown: dict[str, Any] = {"inbound": {}, "outbound": {}, "limiter": self.limiter.snapshot()}
        for (direction, name), port in self._ports.items():
            shown[direction][name] = port.snapshot(now)
        shown["affinity"] = self._shared.desk.snapshot() if self._shared.desk is not None else {}
        shown["policies"] = self._shared.desks.snapshot() if self._shared.desks is not None else {"store": {}}
        shown["selfProtection"] = self.guard.snapshot()
        shown["drain"] = str(self._drainer.phase)
        return shown

    @property
    def pool_guard(self) -> "PoolGuardDesk | None":
        """Who takes the app's reports about its pools; None where the policy is off."""
        desks = self._shared.desks
        return cast("PoolGuardDesk | None", desks.get("pool_guard")) if desks is not None else None

    @property
    def inbound_addresses(self) -> Mapping[str, Endpoint]:
        """Actual address by port name; a configured port of 0 is the one the kernel chose."""
        return self._addresses("inbound")

    @property
    def outbound_addresses(self) -> Mapping[str, Endpoint]:
        """Actual address by upstream name."""
        return self._addresses("outbound")

    def _addresses(self, direction: Direction) -> Mapping[str, Endpoint]:
        return {
            door.port.stats.name: door.listener.endpoint
            for door in self._doors.values()
            if door.listener is not None and door.port.stats.direction == direction
        }

    def _inbound(self) -> list[Port]:
        return [port for (direction, _), port in self._ports.items() if direction == "inbound"]

    def __repr__(self) -> str:
        return f"<Proxy {self._drainer.phase} in_flight={self.in_flight} ports={len(self._ports)}>"


def _settings(config: ProxyConfig) -> Iterator[tuple[Direction, Inbound | Outbound, str]]:
    for index, inbound in enumerate(config.inbound):
        yield "inbound", inbound, f"$.inbound[{index}].listen"
    for index, outbound in enumerate(config.outbound):
        yield "outbound", outbound, f"$.outbound[{index}].listen"


def _place(direction: Direction, settings: Inbound | Outbound) -> Place:
    """What makes a listener the same across reloads: its address, or its port's name where the kernel chooses."""
    listen = settings.listen
    return (listen.host, listen.port) if listen.port else (listen.host, 0, direction, settings.name)


def _refuse_double(place: Place, doors: Mapping[Place, _Door], path: str) -> None:
    if place in doors:
        raise ListenError(path, f"expected an address of its own, but {place[0]}:{place[1]} is listed twice")


def _advice(address: Address, error: OSError) -> str:
    where = _words(address)
    if error.errno == errno.EADDRINUSE:
        return f"expected a free address, but {where} is in use; end what listens there or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"expected an address this user may listen on, but {where} is not; choose a port from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"expected an address of this machine, but {where} is none"
    return f"expected an address to listen on, but {where} failed: {error.strerror or error}"


def _words(address: Address) -> str:
    return f"{address.host}:{address.port}"
