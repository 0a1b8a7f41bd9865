"""What follows an attempt that failed: a further one, now or after a pause, or none."""

from typing import TYPE_CHECKING, Final

from nova_sidecar.pipeline.state import BACKOFF
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import RETRIED, Suppressed
from nova_sidecar.transport.upstream import UpstreamConnection

if TYPE_CHECKING:
    from nova_sidecar.pipeline.exchange import Exchange

MAX_STALE: Final = 3
"""Idle connections found closed by the peer that one attempt may meet before that counts as a failure."""

_SPENT: Final = frozenset((Suppressed.BUDGET_EXHAUSTED, Suppressed.NESTED))
"""Why not to repeat that is as good for the layer above as for this one."""


def was_stale(exchange: "Exchange", connection: UpstreamConnection) -> bool:
    """Whether an idle connection had been closed before the request got there: RFC 9112 section 9.3.1 lets what is
    idempotent be sent again, without it counting as a retry."""
    return (
        (connection.requests > 1 or connection.ahead)
        and not connection.answered
        and exchange.stale < MAX_STALE
        and exchange.head.idempotent
        and _replayable(exchange)
    )


def retry(
    exchange: "Exchange", failure: Reason | int, now: float, *, retry_after: float | None = None, retried: bool = False
) -> bytes | None:
    """None: another attempt is under way. Else a field line to mark the failure with, so that no other layer repeats
    what was repeated here, or nothing. `failure` is a reason or a response's status, `retry_after` the seconds its
    Retry-After asks for, `retried` whether it carries that mark already."""
    port = exchange.port
    retrier = port.retrier
    if retrier is None:
        return b""
    answer = retrier.next(
        exchange.attempts,
        failure,
        method=exchange.head.method,
        replayable=_replayable(exchange),
        remaining=exchange.deadline_at - now,
        now=now,
        retry_after=retry_after,
        repeatable=exchange.head.idempotent,
        nested=retried or exchange.head.nested,
    )
    if isinstance(answer, Suppressed):
        port.stats.retries_suppressed[answer] += 1
        if retried:
            return b""
        return _mark(exchange) if answer in _SPENT else mark(exchange)
    port.stats.retries += 1
    if exchange.span is not None:
        exchange.span.event(now, "nova.retry", str(failure), exchange.attempts + 1)
    exchange.state = BACKOFF
    exchange.downstream.wheel.arm(exchange.downstream, exchange.deadline_at)
    exchange.timer = port.loop.call_later(answer, _start, exchange)
    return None


def mark(exchange: "Exchange") -> bytes:
    """The line that marks the failure of a request that was repeated; nothing for one that was not."""
    return _mark(exchange) if exchange.attempts > 1 else b""


def _mark(exchange: "Exchange") -> bytes:
    return b"%b: %d\r\n" % (RETRIED, exchange.attempts)


def _start(exchange: "Exchange") -> None:
    exchange.timer = None
    if exchange.state is BACKOFF:
        exchange.start_attempt(exchange.port.clock())


def _replayable(exchange: "Exchange") -> bool:
    return exchange.body is None or exchange.body.replayable
