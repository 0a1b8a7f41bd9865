"""The connections to one upstream, or to the app, over which streams take turns.

    slots   [ A ]  [ B ]  [ C ]  [ D ]  …      `pool.grpcConnections` of them, each to the next endpoint in turn
              ▲ streams go round, one slot each

HTTP/2 puts any number of calls on one connection, and connections live for ever: so all calls of a client would go to
the one pod it happened to connect to first. Streams that take turns over several connections, which are renewed by
age, reach all pods, and new ones within the age.

Rules:

* A slot opens its connection when its turn comes. A call waits for it only where no other slot has one that takes it.
* A connection that is due (age, requests, its endpoint is gone) serves until its successor is there. Then it takes no
  new streams, finishes those it has, and closes: no caller sees any of it.
* Where the upstream takes no more streams on any connection (MAX_CONCURRENT_STREAMS), further slots are opened up to
  `pool.size`; beyond that calls wait, in order, at most `MAX_WAITING` of them. A further slot goes when it was idle.
"""

import asyncio
from collections.abc import Callable, Iterable
from math import inf
from random import Random
from typing import Any, Final, Protocol

from nova_api.policies import EndpointBreakerPolicy, PoolPolicy
from nova_api.proxy import Address, Tls
from nova_sidecar.policy.ejection import Ejector
from nova_sidecar.policy.outcome import FAILURE, Outcome
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.transport.connector import ConnectError, Connector, let_go
from nova_sidecar.transport.discovery import Discovery
from nova_sidecar.transport.dispatcher import LOG_PERIOD, MAX_WAITING, RENEW_AGAIN, Counters
from nova_sidecar.transport.endpoints import Endpoint, Resolver
from nova_sidecar.transport.http2.outbox import Outbox
from nova_sidecar.transport.http2.upstream import ASSUMED_STREAMS, UpstreamSession
from nova_sidecar.transport.pool import NO_EJECTION
from nova_sidecar.transport.race import STAGGER, race
from nova_sidecar.transport.seat import CloseReason, Seat
from nova_sidecar.transport.wheel import Wheel
from nova_sidecar.wire.http2.heads import ResponseReader

ASSUMED_ROOM: Final = ASSUMED_STREAMS
"""Calls that wait for one connection being opened; it takes that many before it says how many."""
MOST_STREAMS: Final = 2**30 - 4096
"""Streams in the life of a connection: their numbers are odd and end at 2^31 (RFC 9113 section 5.1.1)."""
MOST_ADDRESSES: Final = 3
"""Endpoints tried for one connection."""


class StreamWaiter(Protocol):
    """A call that waits for a connection."""

    def on_session(self, session: UpstreamSession) -> None:
        """Here it is."""

    def on_no_connection(self, reason: Reason, why: str) -> None:
        """There will be none: no_endpoint or connect_failure."""


class Slot:
    """A place in the turn: its connection, the task that opens one, and who waits for that."""

    __slots__ = ("opening", "session", "waiting")

    def __init__(self) -> None:
        self.session: UpstreamSession | None = None
        self.opening: asyncio.Task[UpstreamSession] | None = None
        self.waiting: dict[StreamWaiter, None] = {}

    def __repr__(self) -> str:
        return f"<Slot {self.session!r}{' opening' if self.opening else ''} waiting={len(self.waiting)}>"


class Balancer:
    """See the module."""

    def __init__(
        self,
        address: Address,
        policy: PoolPolicy,
        *,
        connect_timeout: float,
        reader: ResponseReader,
        resolver: Resolver,
        wheel: Wheel,
        outbox: Outbox,
        rng: Random,
        counters: Counters,
        clock: Callable[[], float],
        tls: Tls | None = None,
        endpoints: EndpointBreakerPolicy = NO_EJECTION,
    ) -> None:
        # for the life of the port
        self._loop = asyncio.get_running_loop()
        self._wheel = wheel
        self._outbox = outbox
        self._rng = rng
        self._counters = counters
        self._clock = clock
        self._lifespan = Lifespan(policy, rng)
        self._sessions: set[UpstreamSession] = set()
        self._open = 0
        """Connections open, being opened, or finishing what they have."""
        self._seats: dict[Endpoint, Seat[UpstreamSession]] = {}
        self.ejector: Ejector[Seat[UpstreamSession]] = Ejector(endpoints)
        self._seat_at = 0
        self._slots: list[Slot] = []
        self._at = 0
        self._queue: dict[StreamWaiter, None] = {}
        self._waiting: dict[StreamWaiter, Slot] = {}
        self._next_log = -inf
        self._closed = False
        self.connector = Connector(timeout=connect_timeout, tls=tls, alpn="h2", stats=counters.tls)
        self._discovery = Discovery(address, resolver, found=self._take_over, missing=self._fail_unresolved)
        self.pool = self
        # until the next configuration
        self.reader = reader
        self._policy = policy
        self._resize()
        self._discovery.locate(address)

    # --- for calls

    def acquire(self, waiter: StreamWaiter, now: float) -> UpstreamSession | Reason | None:
        """A connection with room for a stream; a Reason when there can be none; None: the waiter will be told."""
        if self.ejector.out:
            self.ejector.readmit(now)
        slots = self._slots
        at = self._at + 1
        if at >= len(slots):
            at = 0
        self._at = at
        slot = slots[at]
        session = slot.session
        if session is not None and len(session.streams) < session.max_streams and not session.closing:
            if now >= session.retire_at or session.requests >= self._most_requests:
                self._renew(slot, session, now)
            return session
        return self._acquire_elsewhere(slot, waiter)

    def acquire_other(self, waiter: StreamWaiter, refused: UpstreamSession) -> UpstreamSession | Reason | None:
        """The same for a call that a connection has just refused: rather wait for another one than ask it again."""
        slots = self._slots
        self._at = at = (self._at + 1) % len(slots)
        others = [slot for slot in slots[at:] + slots[:at] if slot.session is not refused]
        for slot in others:
            if slot.session is not None and slot.session.usable:
                return slot.session
        for slot in others:
            if slot.opening is None and slot.session is None and self._open < self._policy.size and self.ejector.ring:
                self._fill(slot)
            if slot.opening is not None:
                return self._wait(slot, waiter)
        return self._acquire_elsewhere(slots[at], waiter)

    def _acquire_elsewhere(self, slot: Slot, waiter: StreamWaiter) -> UpstreamSession | Reason | None:
        if not self.ejector.ring:
            if len(self._queue) >= MAX_WAITING:
                return Reason.POOL_EXHAUSTED
            self._queue[waiter] = None
            self._discovery.look_soon()
            return None
        if slot.session is not None and slot.session.closing:
            slot.session = None  # its end has not been told yet
        if slot.session is None and slot.opening is None and self._open < self._policy.size:
            self._fill(slot)
        session = self._any()
        if session is not None:
            return session
        return self._wait(slot, waiter)

    def _any(self) -> UpstreamSession | None:
        """A connection with room, looked for from the slot whose turn it is."""
        slots, at = self._slots, self._at
        for slot in slots[at:] + slots[:at]:
            if slot.session is not None and slot.session.usable:
                return slot.session
        return None

    def _wait(self, slot: Slot, waiter: StreamWaiter) -> Reason | None:
        if slot.opening is None:
            found = next((other for other in self._slots if other.opening is not None), None)
            if found is None and self._open < self._policy.size:
                found = Slot()
                self._slots.append(found)
                self._fill(found)
            if found is None or len(found.waiting) >= ASSUMED_ROOM:
                if len(self._queue) >= MAX_WAITING:
                    return Reason.POOL_EXHAUSTED
                self._queue[waiter] = None
                return None
            slot = found
        slot.waiting[waiter] = None
        self._waiting[waiter] = slot
        return None

    def cancel(self, waiter: StreamWaiter) -> Reason:
        """The caller waits no more; what it would have been refused for."""
        slot = self._waiting.pop(waiter, None)
        if slot is not None:
            del slot.waiting[waiter]
            return Reason.CONNECT_FAILURE
        self._queue.pop(waiter, None)
        return Reason.POOL_EXHAUSTED if self.ejector.ring else Reason.NO_ENDPOINT

    def judge(self, seat: Seat[UpstreamSession], outcome: Outcome, now: float) -> None:
        """Tell how an attempt at an endpoint ended; a success at one without `failures` need not be told."""
        if not self.ejector.record(seat, outcome, now) or not self.ejector.acts(seat):
            return
        for slot in self._slots:
            if slot.session is not None and slot.session.seat is seat:
                session, slot.session = slot.session, None
                session.retire("ejected")

    # --- for connections

    def lost(self, session: UpstreamSession, reason: CloseReason) -> None:
        """A connection is closed, by whomever."""
        if session not in self._sessions:
            return
        self._sessions.remove(session)
        self._counters.connections_closed[reason] += 1
        self._drop(session.seat)
        slot = self._slot_of(session)
        if slot is not None:
            slot.session = None
        self._trim()
        self._serve_queue()

    def going(self, session: UpstreamSession) -> None:
        """The peer takes no more streams on it."""
        slot = self._slot_of(session)
        if slot is not None:
            slot.session = None

    def idle_expired(self, session: UpstreamSession) -> bool:
        """Whether a connection that was idle for too long may go; one that is kept warm goes when its successor is
        there."""
        slot = self._slot_of(session)
        if slot is None or self._closed or len(self._sessions) > self._policy.warm_connections:
            return True
        session.close_reason = "idle"
        if slot.opening is None:
            self._fill(slot)
        return False

    def _warm_up(self) -> None:
        """Open what is to be there before anybody calls."""
        missing = self._policy.warm_connections - self._open
        for slot in self._slots:
            if missing > 0 and slot.session is None and slot.opening is None and self.ejector.ring:
                self._fill(slot)
                missing -= 1

    def room(self, session: UpstreamSession) -> None:
        """It takes another stream: for whoever waits longest."""
        while self._queue and session.usable:
            waiter = next(iter(self._queue))
            del self._queue[waiter]
            waiter.on_session(session)

    def _serve_queue(self) -> None:
        """Whoever waits for room anywhere."""
        while self._queue and not self._closed:
            waiter = next(iter(self._queue))
            del self._queue[waiter]
            answer = self.acquire(waiter, self._clock())
            if isinstance(answer, UpstreamSession):
                waiter.on_session(answer)
            elif answer is not None:
                waiter.on_no_connection(answer, "too many callers wait for a connection")
            elif waiter in self._queue:  # it is at the end now, and so would be all others
                return

    def _slot_of(self, session: UpstreamSession) -> Slot | None:
        return next((slot for slot in self._slots if slot.session is session), None)

    def _trim(self) -> None:
        """Further slots are there for a while only."""
        slots = self._slots
        while len(slots) > self._policy.grpc_connections and slots[-1].session is None and slots[-1].opening is None:
            slots.pop()

    # --- opening

    def _renew(self, slot: Slot, session: UpstreamSession, now: float) -> None:
        """Open a successor, unless too many are renewed at once or one is on its way."""
        if slot.opening is not None or self._closed:
            return
        due_by_age = session.requests < self._most_requests
        if due_by_age and not session.seat.taken_away and not self._lifespan.may_retire(now, len(self._slots)):
            return
        self._fill(slot)

    def _fill(self, slot: Slot) -> None:
        slot.opening = task = self._loop.create_task(self._connect())
        task.add_done_callback(lambda done: self._settle(slot, done))

    async def _connect(self) -> UpstreamSession:
        timeout = self.connector.timeout
        ends = self._loop.time() + timeout
        running: set[UpstreamSession] = set()
        tried: list[Seat[UpstreamSession]] = []

        def following() -> UpstreamSession | None:
            if len(tried) >= min(MOST_ADDRESSES, max(1, len(self.ejector.ring))) or not self.ejector.ring:
                return None
            seat = self._next_seat()
            tried.append(seat)
            session = self._fresh(seat)
            running.add(session)
            return session

        def lost(session: UpstreamSession, _: BaseException | None) -> None:
            running.discard(session)
            self._abandon(session)
            self._counters.connect_failures += 1
            self.judge(session.seat, FAILURE, self._clock())
            self._discovery.look_soon()

        async def attempt(session: UpstreamSession) -> None:
            await self.connector.open(lambda: session, session.endpoint, ends)

        try:
            made = await race(attempt, following, lost=lost, stagger=min(STAGGER, timeout / 4))
            running.discard(made)
        finally:
            for session in running:
                self._abandon(session)
        return made

    def _next_seat(self) -> Seat[UpstreamSession]:
        ring = self.ejector.ring
        self._seat_at = at = (self._seat_at + 1) % len(ring)
        return ring[at]

    def _fresh(self, seat: Seat[UpstreamSession]) -> UpstreamSession:
        self._open += 1
        seat.open += 1
        return UpstreamSession(
            self, seat, self._outbox, self._wheel,
            retire_at=self._lifespan.retire_at(self._clock()), idle_limit=self._lifespan.idle_limit(),
        )  # fmt: skip

    def _abandon(self, session: UpstreamSession) -> None:
        self._drop(session.seat)
        if session.transport is not None:  # made in the very moment it was no longer wanted
            session.abort()

    def _drop(self, seat: Seat[UpstreamSession]) -> None:
        self._open -= 1
        seat.open -= 1

    def _settle(self, slot: Slot, task: asyncio.Task[UpstreamSession]) -> None:
        """A callback and not the end of the task, because a task that is cancelled before its first step never runs."""
        slot.opening = None
        waiting, slot.waiting = list(slot.waiting), {}
        for waiter in waiting:
            del self._waiting[waiter]
        if task.cancelled():
            return
        error = task.exception()
        if error is None and not self._closed:
            self._take_in(slot, task.result(), waiting)
            return
        if error is None:
            self._abandon(task.result())
            return
        if isinstance(error, ConnectError):
            let_go(error)
        else:  # a fault of ours: it is told, and nobody waits for ever
            self._loop.call_exception_handler({"message": "opening a connection failed", "exception": error})
        self._failed(slot, str(error), waiting)

    def _take_in(self, slot: Slot, session: UpstreamSession, waiting: list[StreamWaiter]) -> None:
        if session.closing:
            self._abandon(session)
            self._failed(slot, "the connection was closed as soon as it was made", waiting)
            return
        self._counters.connections_opened += 1
        self._sessions.add(session)
        self._wheel.arm(session, self._wheel.now + session.idle_limit)
        old, slot.session = slot.session, session
        if old is not None:
            old.retire(self._why_due(old))
        for waiter in waiting:
            self._queue[waiter] = None
        self.room(session)
        self._serve_queue()

    def _why_due(self, session: UpstreamSession) -> CloseReason:
        if session.close_reason:
            return session.close_reason
        if session.seat.taken_away:
            return "removed"
        return "requests" if session.requests >= self._most_requests else "age"

    def _failed(self, slot: Slot, why: str, waiting: list[StreamWaiter]) -> None:
        """No connection for this slot; what served it so far goes on, its callers go elsewhere where there is any."""
        self._log(why)
        if slot.session is not None:
            slot.session.retire_at = self._clock() + RENEW_AGAIN
        self._trim()
        for waiter in waiting:
            other = self._any()
            if other is not None:
                waiter.on_session(other)
            else:
                waiter.on_no_connection(Reason.CONNECT_FAILURE, why)
        self._serve_queue_or_fail(why)

    def _serve_queue_or_fail(self, why: str) -> None:
        """Who waits for room waits on only while there is a connection that may have some, or one is being opened."""
        if any(slot.session is not None or slot.opening is not None for slot in self._slots):
            return
        waiting, self._queue = list(self._queue), {}
        for waiter in waiting:
            waiter.on_no_connection(Reason.CONNECT_FAILURE, why)

    # --- addresses

    def _take_over(self, endpoints: Iterable[Endpoint]) -> None:
        known = self._seats
        seats = {endpoint: known.get(endpoint) or Seat[UpstreamSession](endpoint) for endpoint in endpoints}
        for endpoint, seat in known.items():
            if endpoint not in seats:
                seat.taken_away = True
        self._seats = seats
        self.ejector.replace(seats.values())
        if not known:
            self._seat_at = self._rng.randrange(len(seats))  # not every sidecar begins with the same pod
        for slot in self._slots:
            session = slot.session
            if session is not None and session.seat.taken_away:
                session.retire_at = -inf
                self._renew(slot, session, self._clock())
        self._serve_queue()
        self._warm_up()

    def _fail_unresolved(self, why: str) -> None:
        if self.ejector.ring:
            return
        waiting, self._queue = list(self._queue), {}
        for waiter in waiting:
            waiter.on_no_connection(Reason.NO_ENDPOINT, why)

    def _log(self, why: str) -> None:
        now = self._clock()
        if now >= self._next_log:
            self._next_log = now + LOG_PERIOD
            address = self._discovery.address
            get_logger().warning("no connection", address=f"{address.host}:{address.port}", error=why)

    # --- configuration and end

    def configure(
        self, address: Address, policy: PoolPolicy, *, connect_timeout: float, reader: ResponseReader,
        tls: Tls | None = None, endpoints: EndpointBreakerPolicy = NO_EJECTION,
    ) -> None:  # fmt: skip
        """Take over new values; connections in use go on, those to a former address are replaced."""
        self.reader = reader
        self._policy = policy
        self._lifespan.configure(policy)
        self.ejector.configure(endpoints)
        self.connector.configure(timeout=connect_timeout, tls=tls)
        self._resize()
        if address != self._discovery.address:
            self._discovery.locate(address)

    def _resize(self) -> None:
        self._most_requests = min(self._lifespan.max_requests, MOST_STREAMS)
        slots, wanted = self._slots, min(self._policy.grpc_connections, self._policy.size)
        while len(slots) < wanted:
            slots.append(Slot())
        for slot in slots[wanted:]:
            if slot.session is not None:
                slot.session.retire("removed")
                slot.session = None
        self._trim()

    def close(self) -> None:
        """Close every connection now."""
        self._closed = True
        self._discovery.close()
        self.connector.close()
        for slot in self._slots:
            if slot.opening is not None:
                slot.opening.cancel()
        for session in list(self._sessions):
            session.close_reason = session.close_reason or "shutdown"
            session.abort()

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data; the fields of `Pool.snapshot`, and the streams."""
        self.ejector.readmit(now)
        idle = sum(not session.streams for session in self._sessions)
        return {
            "size": self._policy.size,
            "open": self._open,
            "idle": idle,
            "active": self._open - idle,
            "waiting": len(self._queue) + len(self._waiting),
            "streams": sum(len(session.streams) for session in self._sessions),
            "endpoints": [self._shown(seat, now) for seat in self._seats.values()],
            "ejection": self.ejector.snapshot(),
        }

    def _shown(self, seat: Seat[UpstreamSession], now: float) -> dict[str, Any]:
        return {
            "address": f"{seat.endpoint[0]}:{seat.endpoint[1]}",
            "open": seat.open,
            "idle": sum(session.seat is seat and not session.streams for session in self._sessions),
            **self.ejector.shown(seat, now),
        }

    def __repr__(self) -> str:
        return f"<Balancer {self._discovery.address.host} open={self._open} slots={len(self._slots)}>"
