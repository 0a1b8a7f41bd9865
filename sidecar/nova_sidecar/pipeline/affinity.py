"""Session affinity at work: an exchange that may go to a sibling instead of the app, and the filter that decides.

    request ── filter ── this pod's ──▶ limiter ──▶ app
                 └────── a sibling's ──▶ sibling's sidecar ──▶ its limiter ──▶ its app
                             └── not reached, or leaving ──▶ as if this pod's, with a new cookie

Rules:

* What is handed over takes no place here: the sibling's limits hold, and its refusals are passed on.
* It falls back to this pod only while nothing can have happened: no connection, a sibling that says it is leaving, or
  a reset before the response of a request that is safe to repeat.
* A pod that leaves gives nobody a cookie with its name, but hands over and serves what comes.
* A cookie is set on responses of this pod alone, and not on one that shared caches may keep (RFC 9111 section 5.2.2):
  everybody behind such a cache would get the same pod.

It is imported where the policy is on.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from nova_sidecar.pipeline.accesslog import AccessLog
from nova_sidecar.pipeline.filters import AccessLogFilter
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.pipeline.stats import HandedOver
from nova_sidecar.pipeline.upgrade import field
from nova_sidecar.policy.affinity import MARK, Decision, Result
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.reasons import REJECT_HEADER, Reason, Reject
from nova_sidecar.telemetry.entry import AccessEntry, AffinityEntry
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Port
    from nova_sidecar.pipeline.sessions import SessionDesk
    from nova_sidecar.pipeline.stats import PortStats
    from nova_sidecar.transport.downstream import DownstreamConnection
    from nova_sidecar.transport.siblings import Sibling
    from nova_sidecar.wire.request import RequestHead

_MARK_LINE: Final = MARK + b": 1\r\n"
_LEAVING: Final = Reason.DRAINING.value.encode()
_UNREACHED: Final = frozenset((Reason.CONNECT_FAILURE, Reason.NO_ENDPOINT, Reason.POOL_EXHAUSTED))


class AffinityExchange(ManagedExchange):
    """See the module."""

    __slots__ = ("affinity", "cookie", "handed", "pod", "session", "sibling")

    def __init__(self, port: "Port", downstream: "DownstreamConnection", head: "RequestHead", now: float) -> None:
        super().__init__(port, downstream, head, now)
        self.affinity: Result | None = None
        self.cookie = b""
        """A line that goes with the response."""
        self.session = b""
        self.pod = b""
        """Whose the session is, as the store has it."""
        self.sibling: Sibling | None = None
        self.handed = b""
        """Lines that go to a sibling alone."""

    def hand_over(self, sibling: "Sibling", now: float) -> None:
        """Send it to this sibling instead of the app."""
        self.sibling = sibling
        self.dispatcher = sibling.dispatcher
        self.handed = _MARK_LINE
        if "cache" in self.chain.after:  # the cache, which comes later, has taken the client's conditions out
            from nova_sidecar.wire.storing import conditions  # noqa: PLC0415 - only where it is on

            self.handed = conditions(self.head) + _MARK_LINE
        self.trace += self.handed
        self.start_attempt(now)

    def take_back(self, now: float) -> None:
        """The sibling is not to be had: the app here takes it. Affinity may have been switched off meanwhile."""
        self.sibling = None
        self.dispatcher = self.port.dispatcher
        self.trace = self.trace.removesuffix(self.handed)
        self.affinity = Result.FAILED
        self.seat = None
        self.endpoint = None
        self.attempts = self.stale = 0
        self.upstream_seconds = 0.0
        if self.port.desk is not None:
            self.port.desk.move(self, lost=True)
        self.go_on("affinity", now)

    # --- the response

    def on_response(self, head: ResponseHead, body: bytes) -> None:
        """Pass it on, with a cookie where there is one to set."""
        if self.sibling is not None:
            if self._left(head):
                return
        elif self.cookie:
            self._set_cookie(head)
        super().on_response(head, body)

    def on_response_head(self, head: ResponseHead) -> None:
        """Pass it on, with a cookie where there is one to set."""
        if self.sibling is not None:
            if self._left(head):
                return
        elif self.cookie:
            self._set_cookie(head)
        super().on_response_head(head)

    def _set_cookie(self, head: ResponseHead) -> None:
        """It goes with the client's copy alone: who watches the response, and may keep it, does not see it."""
        control = field(head.forward, b"cache-control").lower()
        if not (b"public" in control or b"s-maxage" in control):
            self.lines += self.cookie

    def _left(self, head: ResponseHead) -> bool:
        """Whether the sibling refused because it leaves; then the request is served here."""
        assert self.sibling is not None  # noqa: S101 - asked of it alone
        self.sibling.reach.reached()
        if head.status != 503 or self.body is not None or field(head.forward, REJECT_HEADER) != _LEAVING:
            return False
        now = self.port.clock()
        self._drop_response(head, now)
        self.take_back(now)
        return True

    # --- failures

    def attempt_failed(self, reason: Reason, why: str) -> None:
        """Where a sibling has failed before anything can have happened, serve it here."""
        sibling = self.sibling
        if sibling is None:
            super().attempt_failed(reason, why)
            return
        now = self.port.clock()
        if reason in _UNREACHED:
            sibling.reach.failed(now)
            if self.port.desk is not None:
                self.port.desk.siblings.look_soon()
        elif not (reason is Reason.UPSTREAM_RESET and self.head.idempotent and self.body is None):
            super().attempt_failed(reason, why)
            return
        self.take_back(now)


class AffinityFilter:
    """Whose request it is. One per port, whose number its siblings have too; cookies are judged by the clock `wall`."""

    __slots__ = ("_counts", "_desk", "_handed_over", "_number", "_wall")

    replaces: Final = frozenset((MARK,))
    shows: Final = frozenset((b"cookie",))
    """Fields that it wants to see of a request: the first never reach the app as they come."""

    def __init__(
        self, port: int, desk: "SessionDesk", stats: "PortStats", wall: Callable[[], float] = time.time
    ) -> None:
        self._number = port
        self._desk = desk
        self._wall = wall
        if stats.affinity is None:
            stats.affinity = dict.fromkeys(Result, 0)
        if stats.handed_over is None:
            stats.handed_over = HandedOver()
        self._counts = stats.affinity
        self._handed_over = stats.handed_over

    def on_request(self, handled: Handled, now: float) -> Reject | Queued | None:
        """Let it pass where it is this pod's, hand it over where it is a sibling's."""
        exchange = cast(AffinityExchange, handled)  # ports with this filter make no others
        captured = exchange.head.captured
        decision = self._desk.affinity.decide(captured.get(b"cookie"), MARK in captured, self._wall())
        exchange.affinity = decision.result
        if decision.result is Result.LOCAL and not decision.issue:
            return None
        return self.carry_out(exchange, decision, now)

    def carry_out(self, exchange: AffinityExchange, decision: Decision, now: float) -> Queued | None:
        """Do what was decided; None: it is to be served here."""
        exchange.affinity = decision.result
        if decision.cookie is not None:
            exchange.session = decision.cookie.session
        if decision.address:
            sibling = self._desk.siblings.at(decision.address, self._number)
            if sibling.reach.may_try(now):
                exchange.hand_over(sibling, now)
                return QUEUED
            exchange.affinity = Result.FAILED
            self._desk.move(exchange, lost=True)
        elif decision.issue:
            self._desk.move(exchange)
        elif decision.result is Result.UNSURE:
            self._desk.siblings.look_soon()
        return None

    def on_complete(self, handled: Handled, now: float) -> None:
        """Count what became of it."""
        exchange = cast(AffinityExchange, handled)
        if exchange.affinity is not None:
            self._counts[exchange.affinity] += 1
        if exchange.sibling is not None:
            self._handed_over.count(exchange.status, now - exchange.started)

    def logging(self, log: AccessLog, make: Callable[[AccessLog], AccessLogFilter]) -> "AffinityAccessLogFilter":
        """The port's filter of the access log, with what this one knows."""
        return AffinityAccessLogFilter(log, make)


class AffinityAccessLogFilter:
    """The port's filter of the access log, whose entries also say what became of the request here."""

    __slots__ = ("_entry", "_inner", "_log")

    def __init__(self, log: AccessLog, make: Callable[[AccessLog], AccessLogFilter]) -> None:
        self._log = log
        self._entry: AccessEntry | None = None
        self._inner = make(self)

    def record(self, entry: AccessEntry) -> None:
        """Takes the entry that the port's filter makes."""
        self._entry = entry

    def on_complete(self, handled: Handled, now: float) -> None:
        """Hand over the entry, where there is one."""
        self._inner.on_complete(handled, now)
        entry, self._entry = self._entry, None
        if entry is not None:
            result = cast(AffinityExchange, handled).affinity
            self._log.record(AffinityEntry.of(entry, "" if result is None else result))
