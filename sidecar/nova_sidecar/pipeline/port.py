"""One inbound port or one upstream at work: its policies, its connections on both sides, its counters.

A port outlives every reload that keeps its name: breaker, pool, budget and counters stay, the values they work with
are replaced. The bytes that every message of the port carries are made here, once.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nova_api.policies import (
    AccessLogPolicy,
    BreakerPolicy,
    EndpointBreakerPolicy,
    FallbackPolicy,
    TracingPolicy,
)
from nova_api.proxy import Inbound, Outbound, ProxyConfig, Tls
from nova_sidecar.pipeline import refusals
from nova_sidecar.pipeline.accesslog import AccessLog
from nova_sidecar.pipeline.announce import breaker_moved, endpoint_changed
from nova_sidecar.pipeline.chain import Chain, build_chain
from nova_sidecar.pipeline.classes import FlowOf, limiter_filter, shown
from nova_sidecar.pipeline.exchange import Exchange
from nova_sidecar.pipeline.fallback import NOTHING, Fallback, FallbackExchange
from nova_sidecar.pipeline.filters import (
    AccessLogFilter,
    CorrelationFilter,
    DeadlineFilter,
    MetricsFilter,
    RetryFilter,
    SampledAccessLogFilter,
)
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.protection import Guard, ProtectionFilter
from nova_sidecar.pipeline.request_policies import RequestFilter, request_filters
from nova_sidecar.pipeline.split import Split, canary_settings
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.pipeline.tracing import SpanLog, TracingFilter
from nova_sidecar.pipeline.upgrade import UpgradeFilter
from nova_sidecar.policy import deadline
from nova_sidecar.policy.breaker import Breaker
from nova_sidecar.policy.closing import Closing
from nova_sidecar.policy.correlation import CorrelationIds
from nova_sidecar.policy.limiter import Limiter
from nova_sidecar.policy.outcome import Outcomes
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.retry import ATTEMPT, Retrier
from nova_sidecar.policy.sessions import Sessions
from nova_sidecar.policy.trace import CONTEXT, Sampler
from nova_sidecar.transport.dispatcher import Dispatcher
from nova_sidecar.transport.downstream import HEAD_TIMEOUT, DownstreamConnection
from nova_sidecar.transport.endpoints import Resolver
from nova_sidecar.transport.pool import NO_EJECTION
from nova_sidecar.transport.seat import Seat
from nova_sidecar.transport.upstream import UpstreamConnection
from nova_sidecar.transport.wheel import Wheel
from nova_sidecar.wire.fields import CHUNKED
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.request import FORWARDED_FOR, RequestHead, RequestLine, RequestReader, Upgrades
from nova_sidecar.wire.response import ResponseReader

if TYPE_CHECKING:  # HTTP/2 is imported where a port speaks it, session affinity where it is on
    from nova_sidecar.pipeline.affinity import AffinityAccessLogFilter, AffinityFilter
    from nova_sidecar.pipeline.desks import Desks
    from nova_sidecar.pipeline.sessions import SessionDesk
    from nova_sidecar.store.guarded import GuardedStore
    from nova_sidecar.transport.http2.balancer import Balancer
    from nova_sidecar.transport.http2.downstream import DownstreamSession

_UNREADABLE: Final = RequestHead(RequestLine(b"-", b"-", http10=False), b"", {}, keep_alive=False)
"""Stands for a request that could not be read, so that it is counted and logged like any other."""

_SAME_INSTANT: Final = 1e-5
"""Seconds by which an attempt's end may be off through rounding and still stand for its whole budget."""


class Shared:
    """What all ports of one proxy have in common."""

    __slots__ = (
        "access_log",
        "clock",
        "closing",
        "desk",
        "desks",
        "guard",
        "ids",
        "limiter",
        "loop",
        "resolver",
        "rng",
        "sessions",
        "spans",
        "wheel",
    )

    def __init__(
        self, *, access_log: AccessLog, clock: Callable[[], float], closing: Closing, ids: CorrelationIds,
        guard: Guard, limiter: Limiter[Handled], resolver: Resolver, rng: Random,
        spans: SpanLog | None = None,
    ) -> None:  # fmt: skip
        self.loop = asyncio.get_running_loop()
        self.access_log = access_log
        self.clock = clock
        self.ids = ids
        self.guard = guard
        self.limiter = limiter
        self.closing = closing
        self.sessions = Sessions(ids.generate())
        self.resolver = resolver
        self.rng = rng
        self.desk: SessionDesk | None = None
        """What session affinity needs; None where it is off."""
        self.desks: Desks | None = None
        """What request policies keep; None before there is a configuration."""
        self.spans = spans
        """Takes spans where `tracing` is on; None where nobody would."""
        self.wheel = Wheel(self.loop, clock)

    @property
    def store(self) -> "GuardedStore | None":
        """Where request policies share what they know; None where each sidecar has its own. Ask anew every time: a
        reload may bring another one."""
        return self.desks.store if self.desks is not None else None


class Port:
    """See the module. Exchanges read the public attributes."""

    correlation_filter: ClassVar[type[CorrelationFilter]] = CorrelationFilter
    deadline_filter: ClassVar[type[DeadlineFilter]] = DeadlineFilter

    def __init__(self, settings: Inbound | Outbound, config: ProxyConfig, shared: Shared, stats: PortStats) -> None:
        # for the life of the port
        self._shared = shared
        self.loop = shared.loop
        self.clock = shared.clock
        self.stats = stats
        self.connections: set[DownstreamConnection | DownstreamSession] = set()
        self.leaving = False
        """Responses say ``Connection: close``."""
        self.upgrades = UpgradeFilter(self, shared.closing, shared.sessions)
        self.breaker: Breaker | None = None
        self.retrier: Retrier | None = None
        self.fallback: Fallback | None = None
        self._exchange: type[Exchange] = Exchange
        self.desk: SessionDesk | None = None
        self._affinity: AffinityFilter | None = None
        self._policies: dict[str, RequestFilter] = {}
        self.guarded: frozenset[bytes] = frozenset()
        """Names of fields that are the sidecar's own word to the app, in hyphens."""
        self.split: Split | None = None
        """Who has a share of the requests; None where nobody has."""
        self._split_ended: list[Port] = []
        if isinstance(settings, Outbound):
            self.breaker = Breaker(settings.circuit_breaker, shared.rng, shared.clock())
            self.breaker.on_transition.append(self._log_transition)
            self.retrier = Retrier(settings.retry, shared.rng)
        # until the next configuration
        self._take_over(settings, config)
        self._connect(settings)
        self._share(settings, config)

    # --- configuration

    def configure(self, settings: Inbound | Outbound, config: ProxyConfig) -> None:
        """Take over new values; state and whatever is in flight stay."""
        if self.breaker is not None and isinstance(settings, Outbound) and self.retrier is not None:
            self.breaker.configure(settings.circuit_breaker, self.clock())
            self.retrier.configure(settings.retry)
        self._take_over(settings, config)
        self._reconnect(settings)
        self._share(settings, config)

    def _share(self, settings: Inbound | Outbound, config: ProxyConfig) -> None:
        """Give a canary its share of the requests, or no longer; what is under way there has time to end."""
        found = canary_settings(settings) if isinstance(settings, Outbound) else None
        if found is None or not isinstance(settings, Outbound) or settings.canary is None:
            if self.split is not None:
                ended: Port = self.split.port
                self._split_ended.append(ended)
                self.loop.call_later(float(config.drain.timeout), ended.close)
                self.split = None
        elif self.split is None:
            port = type(self)(found, config, self._shared, self.stats)
            self.split = Split(port, settings.canary.weight, self._shared.rng.random())
        else:
            self.split.port.configure(found, config)
            self.split.configure(settings.canary.weight)

    def _connect(self, settings: Inbound | Outbound) -> None:
        """Make what opens connections."""
        shared, stats = self._shared, self.stats
        self.dispatcher = Dispatcher(
            found_at(settings),
            settings.pool,
            connect_timeout=settings.timeout.connect,
            reader=self._response_reader,
            resolver=shared.resolver,
            wheel=shared.wheel,
            rng=shared.rng,
            counters=stats,
            clock=shared.clock,
            tls=tls_of(settings),
            endpoints=endpoints_of(settings),
        )
        self.upstreams: Dispatcher | Balancer = self.dispatcher
        self.dispatcher.pool.ejector.on_change.append(self._log_ejection)

    def _reconnect(self, settings: Inbound | Outbound) -> None:
        """Give new values to what opens connections."""
        self.dispatcher.configure(
            found_at(settings),
            settings.pool,
            connect_timeout=settings.timeout.connect,
            reader=self._response_reader,
            tls=tls_of(settings),
            endpoints=endpoints_of(settings),
        )

    def _take_over(self, settings: Inbound | Outbound, config: ProxyConfig) -> None:
        self.settings = settings
        timeout = settings.timeout
        self.attempt_budget = float(min(timeout.attempt, timeout.request))
        self.stream_idle = float(timeout.stream_idle)
        self.paces_uploads = isinstance(settings, Inbound) and config.backpressure.mode == "Enforce"
        """Whether a client must keep up a rate with its body, since it holds a place meanwhile."""
        self.stats.web_sockets.possible = _upgrades(settings) != "none"
        self.head_timeout = min(HEAD_TIMEOUT, float(timeout.request))
        self.body_limit = self.retrier.body_limit if self.retrier is not None else 0
        if isinstance(settings, Outbound):
            self._take_over_fallback(settings.fallback, config.tenancy.header.encode())
        self._full_left = self.attempt_budget - _SAME_INSTANT
        self._full_deadline = _deadline_line(0.0, self.attempt_budget)
        header = config.correlation.header.encode() if config.correlation.mode == "Enforce" else b""
        self._header = header
        self.echo = header + b": " if header else b""
        self.head_end = b"\r\n\r\n" if header else b"\r\n"
        inbound = isinstance(settings, Inbound)
        captured = {deadline.HEADER, FORWARDED_FOR if inbound else ATTEMPT} | ({header} if header else set())
        if config.tracing.mode == "Enforce":
            captured |= CONTEXT
        self._take_over_affinity(settings)
        self._take_over_policies(settings, config)
        self.outcomes = Outcomes(settings.circuit_breaker if isinstance(settings, Outbound) else BreakerPolicy())
        """What the answers of the app or upstream mean to the breaker."""
        self._shown = shown(config.backpressure) if inbound else frozenset()
        if self._affinity is not None:
            captured |= self._affinity.replaces
            self._shown |= self._affinity.shows
        for one in self._policies.values():
            replaces, shows = one.fields()
            captured |= replaces
            self._shown |= shows
        self.guarded = frozenset[bytes]().union(*(one.guards() for one in self._policies.values()))
        self._make_readers(settings, frozenset(captured))
        self._chain = self._build(settings, config)
        self.protect()

    def _make_readers(self, settings: Inbound | Outbound, captured: frozenset[bytes]) -> None:
        """Make what reads heads; `captured` names the fields that the port replaces in requests."""
        target = target_of(settings)
        self.reader = RequestReader(
            capture=captured,
            upgrades=_upgrades(settings),
            host=f"{target.host}:{target.port}".encode(),
            keyed=self.retrier is not None and self.retrier.on,
            listed=self.retrier.listed if self.retrier is not None and self.retrier.on else None,
            show=self._shown,
            guarded=self.guarded,
        )
        self._response_reader = ResponseReader(
            drop=frozenset((self._header,)) if self._header else frozenset(), outcomes=self.outcomes
        )

    def _take_over_fallback(self, policy: FallbackPolicy, tenant: bytes) -> None:
        if policy.mode == "Off":
            self.fallback, self._exchange = None, Exchange
            return
        if self.fallback is None:
            self.fallback, self._exchange = Fallback(policy, self.stats, tenant), FallbackExchange
        else:
            self.fallback.configure(policy, tenant)

    def _take_over_affinity(self, settings: Inbound | Outbound) -> None:
        self.desk = self._shared.desk if settings.protocol in ("http", "websocket") else None
        if not isinstance(settings, Inbound):
            self.desk = None
            return
        if self.desk is None:
            self._exchange, self._affinity = Exchange, None
            return
        from nova_sidecar.pipeline.affinity import AffinityExchange  # noqa: PLC0415 - only where it is on

        self._exchange = AffinityExchange
        self._affinity = self.desk.filter(settings.listen.port, self.stats)

    def _take_over_policies(self, settings: Inbound | Outbound, config: ProxyConfig) -> None:
        """After affinity, whose exchanges can do all that others can."""
        if not isinstance(settings, Inbound):
            return
        self._policies = request_filters(settings, config, self._shared, self.stats)
        if self._policies and self._exchange is Exchange:
            from nova_sidecar.pipeline.managed import ManagedExchange  # noqa: PLC0415 - only where one is on

            self._exchange = ManagedExchange

    def protect(self) -> None:
        """Put the chain into force that fits how the sidecar itself is."""
        chain = self._chain
        self.chain = chain._replace(request=chain.overloaded) if self._shared.guard.shedding else chain
        if self.split is not None:
            self.split.port.protect()

    def _build(self, settings: Inbound | Outbound, config: ProxyConfig) -> Chain:
        stats, shared = self.stats, self._shared
        correlation, backpressure, protection = config.correlation, config.backpressure, config.self_protection.mode
        access_log, tracing = config.access_log, config.tracing
        limited = isinstance(settings, Inbound) and backpressure.mode != "Off"
        return build_chain(
            correlation=(
                self.correlation_filter(self._header, shared.ids, stats) if correlation.mode == "Enforce" else None
            ),
            tracing=self._tracing(settings, tracing) if tracing.mode == "Enforce" else None,
            protection=ProtectionFilter(stats, enforce=protection == "Enforce") if protection != "Off" else None,
            upgrades=self.upgrades if isinstance(settings, Inbound) and _upgrades(settings) != "none" else None,
            deadline=self.deadline_filter(float(settings.timeout.request)),
            affinity=self._affinity,
            policies=self._policies,
            limiter=limiter_filter(backpressure, shared.limiter, self._flow_of(), stats) if limited else None,
            retry=RetryFilter(self.retrier) if self.retrier is not None else None,
            metrics=MetricsFilter(stats),
            access_log=self._access_log(access_log) if access_log.mode != "Off" else None,
        )

    def _flow_of(self) -> FlowOf | None:
        """Whose turn it is where requests wait; None where tenants are not told apart."""
        desk = self._shared.desks.get("tenancy") if self._shared.desks is not None else None
        return getattr(desk, "flow_of", None)

    def _access_log(self, policy: AccessLogPolicy) -> "AccessLogFilter | AffinityAccessLogFilter":
        log, stats = self._shared.access_log, self.stats
        if self._affinity is not None:
            return self._affinity.logging(log, lambda own: _access_log(policy, own, stats))
        return _access_log(policy, log, stats)

    def _tracing(self, settings: Inbound | Outbound, policy: TracingPolicy) -> TracingFilter | None:
        target, shared = target_of(settings), self._shared
        if shared.spans is None:
            return None
        sampler = Sampler(float(policy.sample), shared.rng)
        return TracingFilter(sampler, shared.spans, self.stats, (target.host, target.port))

    # --- for downstream connections

    def accept(self) -> DownstreamConnection:
        """A connection for a client that has come."""
        return DownstreamConnection(self, self._shared.wheel)

    def connected(self, connection: "DownstreamConnection | DownstreamSession") -> None:
        """A client came."""
        self.connections.add(connection)
        self.stats.downstream_total += 1
        self.stats.downstream_active += 1
        if isinstance(self.settings, Inbound):
            connection.forwarded = b"x-forwarded-for: %b\r\n" % connection.client.encode()
            if self.desk is not None:
                self.desk.met(connection.transport.get_extra_info("sockname")[0], self.settings.listen.host)

    def disconnected(self, connection: "DownstreamConnection | DownstreamSession") -> None:
        """A client left."""
        self.connections.discard(connection)
        self.stats.downstream_active -= 1

    def begin(self, connection: DownstreamConnection, head: RequestHead) -> None:
        """A request: through the filters, then upstream."""
        now = self.clock()
        if self.split is not None and (canary := self.split.turn(now)) is not None:
            canary.begin(connection, head)
            return
        exchange = self._exchange(self, connection, head, now)
        connection.exchange = exchange
        self.stats.in_flight += 1
        for on_request in self.chain.request:
            answer = on_request(exchange, now)
            if answer is not None:
                if isinstance(answer, Reject):
                    exchange.refuse(answer)
                return
        exchange.start_attempt(now)

    def resume(self, exchange: Exchange) -> None:
        """An exchange has the place it waited for: through what follows the limiter, then upstream."""
        now = self.clock()
        if self.retrier is not None:
            self.retrier.deposit(now)
        exchange.start_attempt(now)

    def refuse(self, connection: DownstreamConnection, why: Malformed) -> None:
        """Answer what is no request."""
        self._refuse_unread(connection, why.reason, why.why)

    def head_timed_out(self, connection: DownstreamConnection) -> None:
        """Answer a head that did not arrive in time."""
        self._refuse_unread(connection, Reason.REQUEST_TIMEOUT, "the head of the request did not arrive in time")

    def _refuse_unread(self, connection: DownstreamConnection, reason: Reason, why: str) -> None:
        exchange = self._exchange(self, connection, _UNREADABLE, self.clock())
        connection.exchange = exchange
        self.stats.in_flight += 1
        if self._header:
            exchange.correlation = self._shared.ids.generate()
            self.stats.correlation_generated += 1
        exchange.refuse(Reject(reason), why)

    # --- for exchanges

    def upstream_head(self, exchange: Exchange, now: float) -> bytes:
        """The head of a request as it goes upstream."""
        head = exchange.head
        ends = exchange.attempt_ends
        line = self._full_deadline if ends - now >= self._full_left else _deadline_line(now, ends)
        forwarded = exchange.downstream.forwarded
        if forwarded and FORWARDED_FOR in head.captured:
            client = exchange.downstream.client.encode()
            forwarded = b"x-forwarded-for: %b, %b\r\n" % (head.captured[FORWARDED_FOR], client)
        if exchange.attempts > 1 and self.retrier is not None:
            forwarded += b"x-nova-attempt: %d\r\n" % exchange.attempts
        if head.length == CHUNKED:
            forwarded += b"transfer-encoding: chunked\r\n"
        return b"".join((head.forward, forwarded, exchange.trace, line, self.echo, exchange.correlation, self.head_end))

    def refusal(self, exchange: Exchange, reject: Reject, why: str, mark: bytes) -> tuple[bytes, int, bool]:
        """The answer that refuses an exchange: its bytes, its status, and whether the connection is kept.

        `mark` is a line for callers that might repeat it."""
        head = exchange.head
        refusal = refusals.REFUSALS[reject.reason]
        unread = head.expects and exchange.downstream.unread
        keep = head.keep_alive and not (refusal.close or self.leaving or unread)
        data = refusals.render(
            reject.reason,
            why=why,
            retry_after=reject.retry_after,
            correlation=(self._header, exchange.correlation) if self._header else None,
            head_only=head.is_head,
            keep=keep,
            http10=head.http10,
            mark=mark + reject.lines,
        )
        return data, refusal.status, keep

    def _log_transition(self, before: str, after: str, cause: str, now: float) -> None:
        breaker_moved(self.stats, before, after, cause)

    def _log_ejection(self, seat: Seat[UpstreamConnection]) -> None:
        endpoint_changed(self.stats, seat.endpoint, seat, enforced=self.upstreams.pool.ejector.enforced)

    # --- leaving

    def leave(self) -> None:
        """From now on every response closes its connection."""
        self.leaving = True
        if self.split is not None:
            self.split.port.leave()

    def close_idle(self) -> None:
        """Close the connections of clients that have no exchange under way."""
        for connection in list(self.connections):
            if isinstance(connection, DownstreamConnection) and connection.exchange is None:
                connection.close()

    def close(self) -> None:
        """Break every connection on both sides."""
        for connection in list(self.connections):
            connection.abort()
        self.upstreams.close()
        for port in (*self._split_ended, *(() if self.split is None else (self.split.port,))):
            port.close()

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        shown: dict[str, Any] = {
            "inFlight": self.stats.in_flight,
            "downstreamConnections": self.stats.downstream_active,
            "pool": self.upstreams.pool.snapshot(now),
        }
        if self.breaker is not None and self.retrier is not None:
            shown["breaker"] = self.breaker.snapshot(now)
            shown["retry"] = self.retrier.snapshot(now)
            shown["fallback"] = self.fallback.snapshot() if self.fallback is not None else NOTHING
        if self.split is not None:
            shown["canary"] = self.split.port.snapshot(now)
        return shown

    def __repr__(self) -> str:
        return f"<Port {self.stats.direction} {self.stats.name} in_flight={self.stats.in_flight}>"


def target_of(settings: Inbound | Outbound) -> Any:
    """Whom the port's requests are for, by the name that callers use."""
    return settings.app if isinstance(settings, Inbound) else settings.upstream


def found_at(settings: Inbound | Outbound) -> Any:
    """Where that is: at its own address, or where its pods are told apart."""
    return settings.app if isinstance(settings, Inbound) else settings.endpoints or settings.upstream


def tls_of(settings: Inbound | Outbound) -> Tls | None:
    """Whether and how by TLS."""
    return settings.tls if isinstance(settings, Outbound) else None


def endpoints_of(settings: Inbound | Outbound) -> EndpointBreakerPolicy:
    """What takes its single endpoints out of rotation."""
    return settings.circuit_breaker.endpoints if isinstance(settings, Outbound) else NO_EJECTION


def _upgrades(settings: Inbound | Outbound) -> Upgrades:
    if isinstance(settings, Outbound):
        return "any"
    return "websocket" if settings.protocol == "websocket" else "none"


def _access_log(policy: AccessLogPolicy, log: AccessLog, stats: PortStats) -> AccessLogFilter:
    if policy.mode == "All" and policy.sample < 1:
        return SampledAccessLogFilter(log, stats, share=float(policy.sample))
    return AccessLogFilter(log, stats, errors_only=policy.mode == "Errors")


def _deadline_line(now: float, ends: float) -> bytes:
    return b"%b: %b\r\n" % (deadline.HEADER, deadline.encode(now, ends))
