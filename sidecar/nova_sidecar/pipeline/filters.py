"""Adapters between policies, which know no HTTP, and exchanges, which know no policy."""

import time
from binascii import crc32
from bisect import bisect_left
from typing import Final

from nova_sidecar.pipeline.accesslog import AccessLog
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.refusals import grpc_status
from nova_sidecar.pipeline.stats import DURATION_BOUNDS, PortStats
from nova_sidecar.policy import deadline
from nova_sidecar.policy.closing import ORDERLY
from nova_sidecar.policy.correlation import CorrelationIds
from nova_sidecar.policy.limiter import QUEUED, Limiter, Queued
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.retry import Retrier
from nova_sidecar.telemetry.entry import AccessEntry

_UPGRADED: Final = 101
NO_TIME: Final = Reject(Reason.DEADLINE_EXCEEDED)


class CorrelationFilter:
    """Takes over the caller's id or makes one."""

    __slots__ = ("_header", "_ids", "_stats")

    def __init__(self, header: bytes, ids: CorrelationIds, stats: PortStats) -> None:
        self._header = header
        self._ids = ids
        self._stats = stats

    def on_request(self, exchange: Handled, now: float) -> None:
        """Give the exchange its id."""
        given = exchange.head.captured.get(self._header)
        if given is None:
            exchange.correlation = self._ids.generate()
            self._stats.correlation_generated += 1
            return
        exchange.correlation = taken = self._ids.adopt(given)
        if taken is given:
            self._stats.correlation_taken += 1
        else:
            self._stats.correlation_generated += 1


class DeadlineFilter:
    """Sets the instant at which the exchange's time is over."""

    __slots__ = ("_budget",)

    def __init__(self, budget: float) -> None:
        self._budget = budget

    def on_request(self, exchange: Handled, now: float) -> Reject | None:
        """The port's budget, or the caller's where that is shorter; refused when nothing is left of it."""
        given = exchange.head.captured.get(deadline.HEADER)
        if given is None:
            exchange.deadline_at = now + self._budget
            return None
        exchange.deadline_at = deadline.begin(now, self._budget, given)
        return None if exchange.deadline_at > now else NO_TIME


class LimiterFilter:
    """Holds a place among the requests in flight to the app, from admission to completion."""

    __slots__ = ("_limiter", "_stats")

    def __init__(self, limiter: Limiter[Handled], stats: PortStats) -> None:
        self._limiter = limiter
        self._stats = stats

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """Take a place, or wait for one, or be refused."""
        answer = self._limiter.admit(now)
        if answer is None:
            exchange.place = True
        elif answer is QUEUED:
            until = self._limiter.enqueue(exchange, now, exchange.deadline_at)
            if isinstance(until, Reject):
                return until
            exchange.wait_until(until)
        return answer

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Give the place back, or leave the queue; at the end, or earlier where it becomes a tunnel."""
        if not exchange.place:
            self._limiter.abandon(exchange)
            return
        exchange.place = False
        waiter = self._limiter.release(now)
        if waiter is not None:
            waiter.grant()


class ShadowLimiterFilter(LimiterFilter):
    """The same in Shadow mode, and counts what Enforce would have refused."""

    __slots__ = ()

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """Take a place; nothing is refused."""
        limiter = self._limiter
        answer = super().on_request(exchange, now)
        reason = limiter.shadowed
        if reason is not None:
            limiter.shadowed = None
            self._stats.shadow_rejected[reason] += 1
        return answer


class RetryFilter:
    """Tells the retry budget of each request."""

    __slots__ = ("on_request",)

    def __init__(self, retrier: Retrier) -> None:
        deposit = retrier.deposit

        def on_request(exchange: Handled, now: float) -> None:
            deposit(now)

        self.on_request = on_request


class MetricsFilter:
    """Counts what is over."""

    __slots__ = ("_duration", "_responses", "_stats")

    def __init__(self, stats: PortStats) -> None:
        self._stats = stats
        self._responses = stats.responses
        self._duration = stats.duration

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Count it by status class, with its duration and its bytes."""
        stats = self._stats
        stats.in_flight -= 1
        if exchange.bytes_in:
            stats.bytes_in += exchange.bytes_in
        stats.bytes_out += exchange.bytes_out
        status = exchange.status
        self._responses[status // 100] += 1
        if status != _UPGRADED:
            duration = self._duration
            seconds = now - exchange.started
            duration.buckets[bisect_left(DURATION_BOUNDS, seconds)] += 1  # `observe`, without the price of a call
            duration.sum += seconds


class AccessLogFilter:
    """Leaves an entry for the access log."""

    __slots__ = ("_direction", "_errors_only", "_name", "_record", "_stats")

    def __init__(self, log: AccessLog, stats: PortStats, *, errors_only: bool) -> None:
        self._record = log.record
        self._stats = stats
        self._direction = stats.direction
        self._name = stats.name
        self._errors_only = errors_only

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Hand over the entry."""
        reason = exchange.reason
        if self._errors_only and exchange.status < 500 and (reason is None or reason in ORDERLY):
            return
        head = exchange.head
        endpoint = exchange.endpoint
        entry = AccessEntry(
            time.time(),
            self._direction,
            self._name,
            head.verb,
            head.path,
            exchange.status,
            "" if reason is None else reason.value,
            (now - exchange.started) * 1000,
            exchange.upstream_seconds * 1000,
            exchange.attempts,
            exchange.bytes_in,
            exchange.bytes_out,
            exchange.correlation.decode("ascii"),
            exchange.downstream.client,
            "" if endpoint is None else endpoint,
        )
        if self._stats.grpc is not None:  # a port of gRPC
            code = grpc_status(exchange)
            if code is not None:
                entry.grpc_status = code
        self._record(entry)


class SampledAccessLogFilter(AccessLogFilter):
    """Leaves an entry for every error and for a share of the rest, the same requests in every sidecar that sees their
    correlation id."""

    __slots__ = ("_least_skipped", "_owed", "_share")

    def __init__(self, log: AccessLog, stats: PortStats, *, share: float) -> None:
        super().__init__(log, stats, errors_only=False)
        self._share = share
        self._least_skipped = round(share * (1 << 32))
        self._owed = 0.0

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Hand over the entry, if it is an error or drawn."""
        reason = exchange.reason
        faulty = reason is not None and reason not in ORDERLY
        if faulty or exchange.status >= 500 or self._drawn(exchange.correlation):
            super().on_complete(exchange, now)

    def _drawn(self, correlation: bytes) -> bool:
        if correlation:
            return crc32(correlation) < self._least_skipped
        self._owed += self._share  # without an id, every so many requests
        if self._owed < 1:
            return False
        self._owed -= 1
        return True
