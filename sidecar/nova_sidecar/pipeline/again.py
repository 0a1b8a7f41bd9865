"""What follows an attempt that failed: a further one, now or after a pause, or none."""

from typing import TYPE_CHECKING, Final

from nova_sidecar.pipeline.state import BACKOFF
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import Suppressed
from nova_sidecar.transport.upstream import UpstreamConnection

if TYPE_CHECKING:
    from nova_sidecar.pipeline.exchange import Exchange

MAX_STALE: Final = 3
"""Idle connections found closed by the peer that one attempt may meet before that counts as a failure."""


def was_stale(exchange: "Exchange", connection: UpstreamConnection) -> bool:
    """Whether an idle connection had been closed before the request got there: RFC 9112 section 9.3.1 lets what is
    idempotent be sent again, without it counting as a retry."""
    return (
        connection.requests > 1
        and not connection.answered
        and exchange.stale < MAX_STALE
        and exchange.head.idempotent
        and _replayable(exchange)
    )


def retry(exchange: "Exchange", failure: Reason | int, retry_after: float | None, now: float) -> bool:
    """Whether there will be another attempt; it is under way then. `failure` is a reason or a response's status,
    `retry_after` the seconds its Retry-After asks for."""
    port = exchange.port
    retrier = port.retrier
    if retrier is None:
        return False
    answer = retrier.next(
        exchange.attempts,
        failure,
        method=exchange.head.method,
        replayable=_replayable(exchange),
        remaining=exchange.deadline_at - now,
        now=now,
        retry_after=retry_after,
    )
    if isinstance(answer, Suppressed):
        port.stats.retries_suppressed[answer] += 1
        return False
    port.stats.retries += 1
    exchange.state = BACKOFF
    exchange.downstream.wheel.arm(exchange.downstream, exchange.deadline_at)
    exchange.timer = port.loop.call_later(answer, _start, exchange)
    return True


def _start(exchange: "Exchange") -> None:
    exchange.timer = None
    if exchange.state is BACKOFF:
        exchange.start_attempt(exchange.port.clock())


def _replayable(exchange: "Exchange") -> bool:
    return exchange.body is None or exchange.body.replayable
