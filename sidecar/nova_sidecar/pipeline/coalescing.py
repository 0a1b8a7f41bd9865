"""Coalescing at work: see `policy.coalescing` for who goes and who waits.

    leader ──▶ app ── head ──▶ leader's client
                       └─────▶ each follower's client, as if it had asked the app itself; then content, then the end

Rules:

* A follower gets the response of a call that was begun before the response's head came; whoever comes later, asks.
* The leader's client is one of those who get the response, and nothing more: when it leaves, the call goes on for the
  others (`ManagedExchange.detach`), and ends when nobody is left.
* The app's connection is read as fast as all of them take it. What one has not taken waits in its connection, up to
  `maxLagBytes`; beyond it the app's response is held up. A client may hold up others who have taken everything for
  `maxHoldUp` in all; then it is broken off. It cannot go alone any more: it has got a part, and a request of its own
  might bring the rest of something else. Clients that are equally slow hold nobody up.
* A call that fails before its head fails nobody but its own client; one that breaks off later breaks off all, since
  none of them got all of it, and a response that is not whole must never look whole.

It is imported where the policy is on.
"""

import asyncio
from typing import TYPE_CHECKING, Final, cast

from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.pipeline.state import DONE, RESPONDING
from nova_sidecar.policy.coalescing import Flight, Flights, Shared
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.wire.identity import depends_on, identity, separates, shareable
from nova_sidecar.wire.memo import Memo
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Shared as PortShared
    from nova_sidecar.pipeline.stats import PortStats

STAGE: Final = "coalescing"


class CoalescingFilter(RequestFilter):
    """One per port and configuration; flights of a former configuration end by its terms. `own` names the fields that
    the port replaces in requests."""

    __slots__ = (
        "_clock", "_following", "_identities", "_loop", "_own", "_reading", "_shadow", "_timed", "counts", "flights",
        "hold_up", "ignored", "lag", "patience",
    )  # fmt: skip

    def __init__(
        self, policy: CoalescingPolicy, own: frozenset[bytes], stats: "PortStats", shared: "PortShared"
    ) -> None:
        self._loop = shared.loop
        self._clock = shared.clock
        self.patience = float(policy.patience)
        self.lag = policy.max_lag_bytes
        self.hold_up = float(policy.max_hold_up)
        self.ignored = frozenset(name.encode() for name in policy.ignored_headers)
        self.flights: Flights[ManagedExchange] = Flights(self.patience, policy.max_followers)
        self.counts: dict[Shared, int] = stats.policies.setdefault(STAGE, dict.fromkeys(Shared, 0))
        self._own = own
        self._shadow = policy.mode == "Shadow"
        self._identities: Memo[bytes, bytes] = Memo()
        self._following: dict[ManagedExchange, Flight[ManagedExchange]] = {}
        self._reading: dict[ManagedExchange, Leader] = {}
        self._timed: set[Flight[ManagedExchange]] = set()
        """Those that are looked at again."""

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """Let it lead, or wait for one that does."""
        managed = cast(ManagedExchange, exchange)  # ports for HTTP/1.1 make no others where a filter is on
        if not shareable(managed.head):
            return None
        flight, how = self.flights.enter(self._identity(managed), managed, now)
        if flight is None:
            self.counts[how] += 1
        elif how is Shared.LED:
            self.counts[how] += 1
            managed.watch(Leader(self, managed, flight))
        elif self._shadow:
            self.flights.abandon(flight, managed)
            self.counts[Shared.WOULD_FOLLOW] += 1
        else:
            self._following[managed] = flight
            managed.hold(now)
            if flight not in self._timed:
                self._timed.add(flight)
                self._loop.call_later(self.patience, self._look, flight)
            return QUEUED
        return None

    def _identity(self, exchange: ManagedExchange) -> bytes:
        head = exchange.head
        plain = not head.captured
        found = self._identities.get(head.forward) if plain else None
        if found is None:
            found = identity(head, self.ignored, self._own)
            if plain:
                self._identities.offer(head.forward, found)
        facts = exchange.facts
        return b"\n".join((found, facts.subject, facts.tenant)) if facts.subject or facts.tenant else found

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Whoever waited or read, and is over, counts no more."""
        managed = cast(ManagedExchange, exchange)
        flight = self._following.pop(managed, None)
        if flight is not None:
            self.flights.abandon(flight, managed)
            self._nobody(flight, now)
            return
        leader = self._reading.pop(managed, None)
        if leader is not None:
            leader.lost_reader(managed)

    def _nobody(self, flight: Flight[ManagedExchange], now: float) -> None:
        """Calls without a client end with the last one who waited for them."""
        if not flight.followers:
            for leader in tuple(flight.leaders):
                if leader.reason is Reason.CLIENT_CLOSED and leader.state is not DONE:
                    leader.give_up()

    # --- for leaders

    def release(self, members: list[ManagedExchange], how: Shared) -> None:
        """Let those who waited go to the app, in the next turn of the loop: what they do must not nest in what another
        one's end does."""
        for member in members:
            if self._following.pop(member, None) is not None:
                self.counts[how] += 1
                member.port.loop.call_soon(_go, member)

    def promote(self, members: list[ManagedExchange], flight: Flight[ManagedExchange]) -> None:
        """The same for those who go in a leader's place: one that leads, or all."""
        for member in members:
            leads = member in flight.leaders
            if leads:
                member.watch(Leader(self, member, flight))
            self.release([member], Shared.PROMOTED if leads else Shared.ALONE)

    def readers(self, leader: "Leader", head: ResponseHead, names: tuple[bytes, ...]) -> list[ManagedExchange]:
        """The waiting is over; those who get the response, of which they have the head by now."""
        found: list[ManagedExchange] = []
        alone: list[ManagedExchange] = []
        for member in self.flights.close(leader.flight):
            if names and separates(names, leader.exchange.head, member.head, self.ignored):
                alone.append(member)
                continue
            del self._following[member]
            self.counts[Shared.FOLLOWED] += 1
            self._reading[member] = leader
            found.append(member)
        self.release(alone, Shared.ALONE)
        return found

    def forget(self, member: ManagedExchange) -> None:
        """It has the whole response, or will never have it."""
        self._reading.pop(member, None)

    def _look(self, flight: Flight[ManagedExchange]) -> None:
        """The calls under way are slow, if they still are: one more goes."""
        now = self._clock()
        promoted = self.flights.next_due(flight, now)
        if promoted is not None:
            self.promote([promoted], flight)
        if flight.followers:
            self._loop.call_later(max(0.001, flight.due - now), self._look, flight)
        else:
            self._timed.discard(flight)


def _go(member: ManagedExchange) -> None:
    if member.waits:
        member.go_on(STAGE, member.port.clock())


class Leader:
    """Watches the call of a flight's leader, and passes its response on to those who follow."""

    __slots__ = ("_held", "_readers", "_spent", "_timers", "exchange", "filter", "flight")

    def __init__(self, of: CoalescingFilter, exchange: ManagedExchange, flight: Flight[ManagedExchange]) -> None:
        self.filter = of
        self.exchange = exchange
        self.flight = flight
        self._readers: dict[ManagedExchange, None] = {}
        self._held: dict[ManagedExchange, None] = {}
        """Clients for which the app is held up."""
        self._timers: dict[ManagedExchange, tuple[float, asyncio.TimerHandle]] = {}
        """Those of them that make others wait: since when, and when that ends."""
        self._spent: dict[ManagedExchange, float] = {}
        """Seconds for which they did before."""
        exchange.sharing = self

    # --- the response

    def on_head(self, head: ResponseHead) -> None:
        """The response begins. Where nobody is to get it, the call ends: a stream would go on for ever."""
        self._share(head)
        if not self._readers and self.exchange.reason is Reason.CLIENT_CLOSED:
            self.exchange.port.loop.call_soon(self._unwanted)  # others are still to be told of this head

    def _unwanted(self) -> None:
        if self.exchange.state is RESPONDING:
            self.exchange.give_up()

    def _share(self, head: ResponseHead) -> None:
        """The response is for all who wait, or for none of them."""
        flight, flights = self.flight, self.filter.flights
        if self.exchange not in flight.leaders:
            return  # another call of the flight had its head sooner
        now = self.exchange.port.clock()
        names = depends_on(head)
        if names is None:
            if head.status >= 500 or head.status == 429:
                self.filter.promote(flights.failed(flight, self.exchange, now), flight)
            else:
                flights.remember(flight.key, now)
                self.filter.release(flights.close(flight), Shared.ALONE)
            return
        for reader in self.filter.readers(self, head, names):
            self._readers[reader] = None
            reader.sharing = self
            reader.sent_at = now
            reader.on_response_head(head)
            if reader.state is not RESPONDING:
                self._drop(reader)

    def on_body(self, data: bytes) -> None:
        """Content of the response."""
        lag = self.filter.lag
        for reader in tuple(self._readers):
            reader.on_response_body(data)
            if reader.downstream.blocked and reader.downstream.transport.get_write_buffer_size() > lag:
                self._hold_up(reader)
        exchange = self.exchange
        if exchange.downstream.blocked and exchange.downstream.transport.get_write_buffer_size() > lag:
            self._hold_up(exchange)

    def on_end(self, trailers: bytes) -> None:
        """It is whole."""
        readers = self._finish()
        now = self.exchange.port.clock()
        for reader in readers:
            self.filter.forget(reader)
            reader.end_shared(trailers, now)

    def on_lost(self) -> None:
        """There is none, or it breaks off."""
        for reader in self._finish():
            self.filter.forget(reader)
            reader.break_off(Reason.UPSTREAM_RESET)
        exchange, flight = self.exchange, self.flight
        if exchange in flight.leaders:
            now = exchange.port.clock()
            gone = exchange.reason is Reason.CLIENT_CLOSED
            flights = self.filter.flights
            went = flights.left(flight, exchange, now) if gone else flights.failed(flight, exchange, now)
            self.filter.promote(went, flight)

    def _finish(self) -> list[ManagedExchange]:
        readers = list(self._readers)
        self._readers = {}
        self.exchange.sharing = None
        for reader in readers:
            reader.sharing = None
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers = {}
        self._held = {}
        return readers

    # --- those who read

    def client_gone(self, exchange: ManagedExchange) -> bool:
        """See `Sharing`."""
        if exchange is not self.exchange or not exchange.detachable:
            return False
        if not self._readers and not (exchange in self.flight.leaders and self.flight.followers):
            return False
        self._let_go(exchange)
        exchange.detach()
        return True

    def client_blocked(self, exchange: ManagedExchange, blocked: bool) -> None:
        """See `Sharing`; what is too much is seen when it is written."""
        if not self._readers and exchange is self.exchange:
            upstream = exchange.upstream
            if upstream is not None:
                if blocked:
                    upstream.pause_reading()
                else:
                    upstream.resume_reading()
        if not blocked:
            self._let_go(exchange)
        self._count()

    def lost_reader(self, reader: ManagedExchange) -> None:
        """Its client has gone."""
        self._drop(reader)
        exchange = self.exchange
        if self._readers or exchange.state is DONE:
            return
        if exchange.reason is Reason.CLIENT_CLOSED:
            exchange.give_up()
        elif exchange.downstream.blocked and exchange.upstream is not None:
            exchange.upstream.pause_reading()  # it has its call for itself again

    def _drop(self, reader: ManagedExchange) -> None:
        self._readers.pop(reader, None)
        self.filter.forget(reader)
        reader.sharing = None
        self._let_go(reader)

    def _hold_up(self, member: ManagedExchange) -> None:
        """The app waits for this client, as long as it may."""
        if member not in self._held:
            self._held[member] = None
            if self.exchange.upstream is not None:
                self.exchange.upstream.pause_reading()
            self._count()

    def _let_go(self, member: ManagedExchange) -> None:
        if member in self._held:
            del self._held[member]
            self._stop(member)
            if not self._held and self.exchange.upstream is not None:
                self.exchange.upstream.resume_reading()

    def _count(self) -> None:
        """Time counts for those who are waited for, while somebody waits."""
        if not self._held:
            return
        members = [*self._readers, *(() if self.exchange.reason is Reason.CLIENT_CLOSED else (self.exchange,))]
        waited_for = any(not member.downstream.blocked for member in members)
        for member in self._held:
            if not waited_for:
                self._stop(member)
            elif member not in self._timers:
                left = max(0.0, self.filter.hold_up - self._spent.get(member, 0.0))
                port = member.port
                self._timers[member] = (port.clock(), port.loop.call_later(left, self._give_up, member))

    def _stop(self, member: ManagedExchange) -> None:
        found = self._timers.pop(member, None)
        if found is not None:
            since, timer = found
            timer.cancel()
            self._spent[member] = self._spent.get(member, 0.0) + member.port.clock() - since

    def _give_up(self, member: ManagedExchange) -> None:
        """This client has held the others up for long enough."""
        self.filter.counts[Shared.CUT] += 1
        if member is self.exchange:
            client = member.downstream
            self._let_go(member)
            if self._readers and member.detachable:
                member.detach()
                client.abort()
            return
        self._drop(member)
        member.break_off(Reason.STREAM_IDLE_TIMEOUT)
