"""One TCP port, or one upstream of protocol tcp: limits, breaker, metrics and log around connections passed on.

A client that cannot be served is reset: TCP has no other way to say no, and an orderly end could be taken for an empty
answer. The breaker counts connections that could not be made; what happens on them later is not TCP's to judge.
"""

import time
from math import inf
from random import Random
from typing import Any, Final

from nova_api.policies import AccessLogPolicy
from nova_api.proxy import Inbound, Outbound, ProxyConfig
from nova_sidecar.pipeline.announce import breaker_moved, endpoint_changed
from nova_sidecar.pipeline.port import Shared, endpoints_of, found_at, tls_of
from nova_sidecar.pipeline.split import Split, canary_settings
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.telemetry.entry import AccessEntry
from nova_sidecar.transport.dialer import Dialer
from nova_sidecar.transport.relay import Relay, RelayEnd, Side
from nova_sidecar.transport.seat import Seat

_REASONS: Final = {
    RelayEnd.DOWNSTREAM_RESET: Reason.CLIENT_CLOSED,
    RelayEnd.UPSTREAM_RESET: Reason.UPSTREAM_RESET,
    RelayEnd.IDLE: Reason.STREAM_IDLE_TIMEOUT,
    RelayEnd.SHUTDOWN: Reason.DRAINING,
}


class RelayPort:
    """See the module. It has what the proxy asks of a port."""

    def __init__(self, settings: Inbound | Outbound, config: ProxyConfig, shared: Shared, stats: PortStats) -> None:
        # for the life of the port
        self._shared = shared
        self.clock = shared.clock
        self.stats = stats
        self.connections: set[Relay] = set()
        self.leaving = False
        self.upgrades = _NoUpgrades()
        self.breaker: Breaker | None = None
        self._tickets: dict[Relay, int] = {}
        self._refusals: dict[Relay, Reason] = {}
        self.split: Split | None = None
        """Who has a share of the connections; None where nobody has."""
        self._split_ended: list[RelayPort] = []
        stats.relays = stats.relays or dict.fromkeys(RelayEnd, 0)
        if isinstance(settings, Outbound):
            self.breaker = Breaker(settings.circuit_breaker, shared.rng, shared.clock())
            self.breaker.on_transition.append(self._log_transition)
        # until the next configuration
        self._take_over(settings, config)
        self.dispatcher = Dialer(
            found_at(settings),
            settings.pool,
            size=self._limit,
            connect_timeout=settings.timeout.connect,
            tls=tls_of(settings),
            endpoints=endpoints_of(settings),
            resolver=shared.resolver,
            rng=shared.rng,
            counters=stats,
            clock=shared.clock,
            answer=self._answered,
        )
        self.dispatcher.pool.ejector.on_change.append(self._log_ejection)
        self._share(settings, config)

    def configure(self, settings: Inbound | Outbound, config: ProxyConfig) -> None:
        """Take over new values; of connections that are there already, the longest silence changes."""
        if self.breaker is not None and isinstance(settings, Outbound):
            self.breaker.configure(settings.circuit_breaker, self.clock())
        self._take_over(settings, config)
        self.dispatcher.configure(
            found_at(settings),
            settings.pool,
            size=self._limit,
            connect_timeout=settings.timeout.connect,
            tls=tls_of(settings),
            endpoints=endpoints_of(settings),
        )
        for relay in self.connections:
            relay.limit(self._idle)
        self._share(settings, config)

    def _share(self, settings: Inbound | Outbound, config: ProxyConfig) -> None:
        """Give a canary its share of the connections, or no longer; those it has go on until it leaves."""
        found = canary_settings(settings) if isinstance(settings, Outbound) else None
        if found is None or not isinstance(settings, Outbound) or settings.canary is None:
            if self.split is not None:
                self._split_ended.append(self.split.port)
                self.split = None
        elif self.split is None:
            port = RelayPort(found, config, self._shared, self.stats)
            self.split = Split(port, settings.canary.weight, self._shared.rng.random())
        else:
            self.split.port.configure(found, config)
            self.split.configure(settings.canary.weight)

    def _take_over(self, settings: Inbound | Outbound, config: ProxyConfig) -> None:
        self.settings = settings
        self._limit = config.tcp.max_connections
        self._idle = float(config.tcp.idle_timeout) or inf
        self._sampling = Sampling(config.access_log, self._shared.rng)

    # --- for relays

    def accept(self) -> Side:
        """A client has come."""
        canary = self.split.turn(self.clock()) if self.split is not None else None
        return Relay(canary or self, self._shared.wheel, self.clock, self._idle).downstream

    def connected(self, relay: Relay) -> None:
        """A client is connected: find it an upstream, or refuse it."""
        stats = self.stats
        self.connections.add(relay)
        stats.downstream_total += 1
        stats.downstream_active += 1
        stats.in_flight += 1
        if len(self.connections) > self._limit:
            self._refuse(relay, Reason.CONNECTION_LIMIT)
            return
        if self.breaker is not None:
            if self.breaker.admit(self.clock()) is not None:
                self._refuse(relay, Reason.CIRCUIT_OPEN)
                return
            self._tickets[relay] = self.breaker.ticket
            if self.breaker.ticket < 0:
                stats.shadow_circuit_open()
        self.dispatcher.dial(relay)

    def _answered(self, relay: Relay, upstream: Side | None, reason: Reason, why: str) -> None:
        self._record(relay, FAILURE if upstream is None else SUCCESS)
        if upstream is None:
            self._refuse(relay, reason)
        else:
            relay.join(upstream, self.clock())

    def _refuse(self, relay: Relay, reason: Reason) -> None:
        self._refusals[relay] = reason
        relay.refuse()

    def ended(self, relay: Relay, how: RelayEnd) -> None:
        """A relay is over: count it, log it, forget it."""
        stats = self.stats
        self.dispatcher.cancel(relay)
        self._record(relay, CANCELLED)
        if relay.upstream is not None:
            self.dispatcher.ended(relay.upstream)
        self.connections.discard(relay)
        stats.downstream_active -= 1
        stats.in_flight -= 1
        if stats.relays is not None:
            stats.relays[how] += 1
        reason = self._refusals.pop(relay, None) or _REASONS.get(how)
        if reason is not None:
            stats.rejected[reason] += 1
        if self._sampling.wanted(failed=reason is not None):
            self._record_entry(relay, reason)

    def _record(self, relay: Relay, outcome: Outcome) -> None:
        ticket = self._tickets.pop(relay, None)
        if ticket is not None and self.breaker is not None:
            self.breaker.record(outcome, self.clock(), ticket)

    def _record_entry(self, relay: Relay, reason: Reason | None) -> None:
        now, upstream = self.clock(), relay.upstream
        self._shared.access_log.record(
            AccessEntry(
                time=time.time(),
                direction=self.stats.direction,
                name=self.stats.name,
                method="-",
                path="-",
                status=0,
                reason="" if reason is None else reason.value,
                duration_ms=(now - relay.started) * 1000,
                upstream_ms=(relay.connected_at - relay.started) * 1000 if upstream is not None else 0.0,
                attempts=0 if upstream is None else 1,
                bytes_in=relay.bytes_in,
                bytes_out=relay.bytes_out,
                correlation_id="",
                downstream=relay.client,
                upstream="" if upstream is None else upstream.name,
            )
        )

    # --- what is said of breaker and endpoints

    def _log_transition(self, before: str, after: str, cause: str, now: float) -> None:
        breaker_moved(self.stats, before, after, cause)

    def _log_ejection(self, seat: Seat[Side]) -> None:
        endpoint_changed(self.stats, seat.endpoint, seat, enforced=self.dispatcher.pool.ejector.enforced)

    # --- leaving

    def leave(self) -> None:
        """Nothing changes for connections there are: they end when their ends say so, or when the drain is over."""
        self.leaving = True

    def close_idle(self) -> None:
        """A relayed connection may be between two messages or not; only its ends know. None is idle."""

    def close(self) -> None:
        """Reset what is left."""
        for relay in list(self.connections):
            relay.cut()
        self.dispatcher.close()
        for port in (*self._split_ended, *(() if self.split is None else (self.split.port,))):
            port.close()

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        shown: dict[str, Any] = {
            "inFlight": self.stats.in_flight,
            "downstreamConnections": self.stats.downstream_active,
            "maxConnections": self._limit,
            "pool": self.dispatcher.pool.snapshot(now),
        }
        if self.breaker is not None:
            shown["breaker"] = self.breaker.snapshot(now)
        if self.split is not None:
            shown["canary"] = self.split.port.snapshot(now)
        return shown

    def __repr__(self) -> str:
        return f"<RelayPort {self.stats.direction} {self.stats.name} connections={len(self.connections)}>"


class Sampling:
    """Which connections leave a line in the access log: every failure, and a share of the rest drawn evenly."""

    __slots__ = ("_policy", "_rng")

    def __init__(self, policy: AccessLogPolicy, rng: Random) -> None:
        self._policy = policy
        self._rng = rng

    def wanted(self, *, failed: bool) -> bool:
        """Whether this one does."""
        if self._policy.mode == "Off":
            return False
        if failed:
            return True
        return self._policy.mode == "All" and self._rng.random() < self._policy.sample


class _NoUpgrades:
    """A relay knows no upgraded connections."""

    def leave(self, _seconds: float) -> None:
        """Nothing leaves."""

    def cut(self) -> tuple[()]:
        """Nothing is cut."""
        return ()
