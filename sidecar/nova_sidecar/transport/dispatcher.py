"""Carries out what the pool decides: opens and closes connections, keeps the endpoints up to date.

A caller gets a connection at once when there is one; otherwise it is told later, exactly once, unless it cancels.
Only opening a connection and asking for addresses take a task.
"""

from collections.abc import Callable
from math import inf
from random import Random
from ssl import SSLError
from typing import Final, Protocol

from nova_api.policies import EndpointBreakerPolicy, PoolPolicy
from nova_api.proxy import Address, Tls
from nova_sidecar.policy.outcome import FAILURE, Outcome
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.transport.connector import Connector
from nova_sidecar.transport.discovery import Discovery
from nova_sidecar.transport.endpoints import Endpoint, Resolver
from nova_sidecar.transport.opening import Opening
from nova_sidecar.transport.pool import NO_EJECTION, Pool
from nova_sidecar.transport.seat import CloseReason, Seat
from nova_sidecar.transport.tls import TlsStats, failure_of, words_of
from nova_sidecar.transport.upstream import UpstreamConnection
from nova_sidecar.transport.warmth import Warmth
from nova_sidecar.transport.wheel import Wheel
from nova_sidecar.wire.response import ResponseReader

MAX_WAITING: Final = 1024
"""Callers that wait for a connection at once; further ones are refused."""
FINISH_TIMEOUT: Final = 2.0
"""Seconds in which an upgraded connection that is over may still send what was written."""
LOG_PERIOD: Final = 10.0
"""Seconds between two log lines about connections that cannot be made."""
LEAST_LIFE: Final = 1.0
"""Seconds that a connection opened in advance must last to count as one that the upstream took."""
RENEW_AGAIN: Final = 5.0
"""Seconds for which a connection serves on when its successor could not be opened."""


class Counters(Protocol):
    """What is counted of connections; the pipeline's statistics provide it."""

    connections_opened: int
    connect_failures: int
    connections_closed: dict[CloseReason, int]
    tls: TlsStats


class Waiter(Protocol):
    """A caller that waits for a connection."""

    seat: Seat[UpstreamConnection] | None
    """The endpoint that its last attempt was at; a further one goes elsewhere. None while it waits."""

    def on_connection(self, connection: UpstreamConnection) -> None:
        """Here it is."""

    def on_no_connection(self, reason: Reason, why: str) -> None:
        """There will be none: no_endpoint or connect_failure."""


class Dispatcher:
    """The connections to one upstream or to the app."""

    def __init__(
        self,
        address: Address,
        policy: PoolPolicy,
        *,
        connect_timeout: float,
        reader: ResponseReader,
        resolver: Resolver,
        wheel: Wheel,
        rng: Random,
        counters: Counters,
        clock: Callable[[], float],
        tls: Tls | None = None,
        endpoints: EndpointBreakerPolicy = NO_EJECTION,
    ) -> None:
        # for the life of the port
        self._wheel = wheel
        self._counters = counters
        self._clock = clock
        self._connections: set[UpstreamConnection] = set()
        self._openings: set[Opening[UpstreamConnection]] = set()
        self._opening: dict[Waiter, Opening[UpstreamConnection]] = {}
        self._unresolved: dict[Waiter, None] = {}
        self._next_log = -inf
        self._closed = False
        self.pool: Pool[UpstreamConnection, Waiter] = Pool(policy, Lifespan(policy, rng), rng, endpoints)
        self.connector = Connector(timeout=connect_timeout, tls=tls, alpn="http/1.1", stats=counters.tls)
        self._warmth = Warmth(self._missing, self._open_ahead, rng)
        self._discovery = Discovery(address, resolver, found=self._take_over, missing=self._fail_unresolved)
        # until the next configuration
        self.reader = reader
        self._policy = policy
        self._tls = tls
        self._discovery.locate(address)

    # --- for the exchange

    def acquire(self, waiter: Waiter) -> UpstreamConnection | Reason | None:
        """A connection to use now; a Reason when there can be none; None: the waiter will be told."""
        pool = self.pool
        if pool.ejector.out:
            pool.readmit(self._clock())
        decision = pool.checkout(waiter.seat)
        if isinstance(decision, UpstreamConnection):
            return decision
        waiter.seat = None
        if decision is None:
            return self._queue(waiter)
        self._open(decision, waiter)
        return None

    def release(self, connection: UpstreamConnection, now: float) -> None:
        """Give back a connection whose response is complete; a caller that waits gets it."""
        pool = self.pool
        why = pool.retire(connection, now)
        if why and not (why == "age" and self._renew(connection, why)):
            connection.close(why)
        elif pool.queue:
            pool.next_waiter().on_connection(connection)  # type: ignore[union-attr]  # there is one
        else:
            connection.seat.idle[connection] = None  # `pool.put`, without the price of a call
            if pool.crowded:
                pool.spare[connection.seat] = None
            deadline = connection.deadline = now + connection.idle_limit
            if deadline < connection.wakes:
                self._wheel.place(connection)

    def judge(self, seat: Seat[UpstreamConnection], outcome: Outcome, now: float) -> None:
        """Tell how an attempt at an endpoint ended; a success at one without `failures` need not be told."""
        for connection in self.pool.judge(seat, outcome, now):
            connection.close("ejected")

    def detach(self, connection: UpstreamConnection) -> None:
        """It was upgraded: it takes no place in the pool any more, or a few long conversations would fill that."""
        connection.detached = True
        self.pool.drop(connection.seat)
        self._serve_next()

    def finish(self, connection: UpstreamConnection) -> None:
        """Close one that was upgraded; what is written is still sent, for a bounded time."""
        if connection in self._connections:
            connection.finish("peer")
            self._wheel.arm(connection, self._wheel.after(FINISH_TIMEOUT))

    def cancel(self, waiter: Waiter) -> Reason:
        """The caller waits no more; what it would have been refused for."""
        opening = self._opening.pop(waiter, None)
        if opening is not None:
            opening.wanted = None
            opening.cancel()
            return Reason.CONNECT_FAILURE
        if waiter in self._unresolved:
            del self._unresolved[waiter]
            return Reason.NO_ENDPOINT
        self.pool.leave(waiter)
        return Reason.POOL_EXHAUSTED

    def _queue(self, waiter: Waiter) -> Reason | None:
        if not self.pool.endpoints:
            self._unresolved[waiter] = None
            self._discovery.look_soon()
            return None
        if self.pool.waiting >= MAX_WAITING:
            return Reason.POOL_EXHAUSTED
        self.pool.wait(waiter)
        return None

    # --- for connections

    def lost(self, connection: UpstreamConnection, reason: CloseReason) -> None:
        """A connection is closed, by whomever. One that was never taken in is accounted for by its opening: not every
        loop tells of the end of a connection whose opening was cancelled."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        if reason == "peer" and not connection.requests:
            self._closed_unused(connection)
        self._wheel.remove(connection)
        self._counters.connections_closed[reason] += 1
        if not connection.detached:
            self.pool.forget(connection)
        self._serve_next()
        self._warmth.top_up()

    def _closed_unused(self, connection: UpstreamConnection) -> None:
        """An upstream that takes connections and ends them at once is as good as one that takes none: without a wait
        it would be called in a loop."""
        if self._clock() - (connection.deadline - connection.idle_limit) < LEAST_LIFE:
            self._warmth.failed()
        else:
            self._warmth.succeeded()

    def idle_expired(self, connection: UpstreamConnection, now: float) -> None:
        """A connection was idle for too long; one that is to be kept warm goes when its successor is there."""
        if self.pool.open > self._policy.warm_connections or not self._renew(connection, "idle"):
            connection.close("idle")

    def refused(self, error: SSLError) -> None:
        """Count a handshake that the upstream refused when it was over for this side."""
        self._counters.tls.failed(failure_of(error))
        self._log(f"no TLS connection: {words_of(error)}")

    def _serve_next(self) -> None:
        """A place is free: open a connection for who waits."""
        while self.pool.waiting and not self._closed:
            decision = self.pool.checkout()
            if decision is None:
                return
            waiter = self.pool.next_waiter()
            assert waiter is not None  # noqa: S101 - tells the type checker what `waiting` says
            if isinstance(decision, UpstreamConnection):
                waiter.on_connection(decision)
            else:
                self._open(decision, waiter)

    # --- opening

    def _open(self, seat: Seat[UpstreamConnection], waiter: Waiter) -> None:
        opening = self._opening[waiter] = Opening(self, seat, waiter)
        self._openings.add(opening)

    def _open_ahead(self, replaces: tuple[UpstreamConnection, CloseReason] | None = None) -> bool:
        seat = None if self._closed else self.pool.reserve()
        if seat is None:
            return False
        self._openings.add(Opening(self, seat, replaces=replaces))
        return True

    def _missing(self) -> int:
        wanted = min(self._policy.warm_connections, self._policy.size)
        return wanted - self.pool.open if wanted and self.pool.endpoints else 0

    def _renew(self, connection: UpstreamConnection, why: CloseReason) -> bool:
        """Open a successor; False where there is no room for one, or the connection must go at once."""
        if connection.close_reason or self.pool.queue or not self._open_ahead((connection, why)):
            return False
        connection.retire_at = inf
        return True

    def fresh(self, seat: Seat[UpstreamConnection]) -> UpstreamConnection:
        """A connection that is to be opened."""
        lifespan = self.pool.lifespan
        return UpstreamConnection(
            self, seat, retire_at=lifespan.retire_at(self._clock()), idle_limit=lifespan.idle_limit()
        )

    def connect_failed(self, seat: Seat[UpstreamConnection], *, blame: bool) -> None:
        """An endpoint does not take connections; perhaps the name has others by now."""
        self._counters.connect_failures += 1
        if blame:
            self.judge(seat, FAILURE, self._clock())
        self._discovery.look_soon()

    def settled(self, opening: Opening[UpstreamConnection], connection: UpstreamConnection | None, why: str) -> None:
        """A connection is there, or will not be; its caller may have left in the meantime."""
        self._openings.discard(opening)
        waiter: Waiter | None = opening.wanted
        if waiter is not None:
            del self._opening[waiter]
        if connection is not None:
            self._take_in(connection, opening, waiter)
            return
        if opening.ahead:
            self._failed_ahead(opening, why)
        elif waiter is not None:
            self._log(why)
            waiter.on_no_connection(Reason.CONNECT_FAILURE, why)
        self._serve_next()

    def _take_in(
        self, connection: UpstreamConnection, opening: Opening[UpstreamConnection], waiter: Waiter | None
    ) -> None:
        self._counters.connections_opened += 1
        self._connections.add(connection)
        if waiter is not None:
            self._warmth.succeeded()
            waiter.on_connection(connection)
        else:
            connection.ahead = True
            self.release(connection, self._clock())
        if opening.replaces is not None:
            self._succeed(*opening.replaces)

    def _succeed(self, old: UpstreamConnection, why: CloseReason) -> None:
        """The successor is there: the old one goes, when it has finished what it carries."""
        if old in old.seat.idle:
            old.close(why)
        elif not old.close_reason:
            old.close_reason = why

    def _failed_ahead(self, opening: Opening[UpstreamConnection], why: str) -> None:
        if self._closed:
            return
        self._log(why)
        self._warmth.failed()
        if opening.replaces is not None:
            old = opening.replaces[0]
            old.retire_at = self._clock() + RENEW_AGAIN
            if old in old.seat.idle:
                self._wheel.arm(old, self._clock() + RENEW_AGAIN)

    def _log(self, why: str) -> None:
        now = self._clock()
        if now >= self._next_log:
            self._next_log = now + LOG_PERIOD
            address = self._discovery.address
            get_logger().warning("no connection", address=f"{address.host}:{address.port}", error=why)

    # --- addresses

    def _take_over(self, endpoints: tuple[Endpoint, ...]) -> None:
        for connection in self.pool.replace_endpoints(endpoints):
            connection.close("removed")
        waiting, self._unresolved = list(self._unresolved), {}
        for waiter in waiting:
            answer = self.acquire(waiter)
            if isinstance(answer, UpstreamConnection):
                waiter.on_connection(answer)
            elif answer is not None:
                waiter.on_no_connection(answer, "too many callers wait for a connection")
        self._warmth.top_up()

    def _fail_unresolved(self, why: str) -> None:
        waiting, self._unresolved = list(self._unresolved), {}
        for waiter in waiting:
            waiter.on_no_connection(Reason.NO_ENDPOINT, why)

    # --- configuration and end

    def configure(
        self,
        address: Address,
        policy: PoolPolicy,
        *,
        connect_timeout: float,
        reader: ResponseReader,
        tls: Tls | None = None,
        endpoints: EndpointBreakerPolicy = NO_EJECTION,
    ) -> None:
        """Take over new values; connections in use go on, idle ones to a former address, or with other TLS settings,
        are closed."""
        self.reader = reader
        self._policy = policy
        self.connector.configure(timeout=connect_timeout, tls=tls)
        self.pool.configure(policy, endpoints)
        if tls != self._tls:
            self._tls = tls
            self._take_over(())
            self._discovery.locate(address)
        elif address != self._discovery.address:
            self._discovery.locate(address)
        self._warmth.top_up()

    def retire(self) -> None:
        """Its host is gone: connections close as they finish, and who waits for one gets none."""
        self._take_over(())
        while (waiter := self.pool.next_waiter()) is not None:
            waiter.on_no_connection(Reason.CONNECT_FAILURE, "the endpoint is gone")

    @property
    def empty(self) -> bool:
        """Whether nothing is open or being opened."""
        return not (self._connections or self._openings)

    def close(self) -> None:
        """Close every connection now."""
        self._closed = True
        self._discovery.close()
        self._warmth.close()
        self.connector.close()
        for opening in list(self._openings):
            opening.cancel()
        for connection in list(self._connections):
            connection.close("shutdown")

    def __repr__(self) -> str:
        address = self._discovery.address
        return f"<Dispatcher {address.host}:{address.port} {self.pool!r}>"
