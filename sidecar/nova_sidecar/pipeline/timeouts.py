"""Time is up: the whole budget's, one attempt's, or a silence lasted too long. Which one it was, and whose fault."""

from typing import TYPE_CHECKING

from nova_sidecar.pipeline.state import QUEUED, RESPONDING, SENT, WAITING
from nova_sidecar.policy.deadline import patient
from nova_sidecar.policy.outcome import CANCELLED, FAILURE
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject

if TYPE_CHECKING:
    from nova_sidecar.pipeline.body import RequestBody
    from nova_sidecar.pipeline.exchange import Exchange


def expire(exchange: "Exchange", now: float) -> None:
    """End the exchange, or its attempt, for the deadline that is over. Upstreams are not blamed for slow clients, nor
    for callers with little time."""
    state = exchange.state
    if state is RESPONDING and exchange.downstream.blocked and exchange.downstream.takes(exchange.port.stream_idle):
        exchange.downstream.wheel.arm(exchange.downstream, now + exchange.port.stream_idle)  # slow, but no silence
    elif state is RESPONDING:
        exchange.drop_upstream("timeout", CANCELLED if exchange.downstream.blocked else FAILURE)
        exchange.break_off(Reason.STREAM_IDLE_TIMEOUT)
    elif state is SENT and exchange.downstream.unread and (exchange.bytes_in or not exchange.head.expects):
        _upload_stalled(exchange)
    elif state is QUEUED and now < exchange.deadline_at:
        exchange.refuse(Reject(Reason.ACQUIRE_TIMEOUT, OVERLOAD_RETRY_AFTER))
    elif now >= exchange.deadline_at:
        blame = state is SENT and patient(now - exchange.sent_at, exchange.port.attempt_budget)
        exchange.drop_upstream("timeout", FAILURE if blame else CANCELLED)
        exchange.refuse(Reject(Reason.DEADLINE_EXCEEDED))
    elif state is WAITING:
        missing = exchange.dispatcher.cancel(exchange)
        exchange.record(CANCELLED)
        exchange.refuse(Reject(missing, OVERLOAD_RETRY_AFTER))
    else:
        exchange.drop_upstream("timeout", FAILURE)
        exchange.attempt_failed(Reason.ATTEMPT_TIMEOUT, "the upstream did not answer within the attempt's budget")


def look_at_upload(exchange: "Exchange", body: "RequestBody", now: float) -> None:
    """End the exchange when its client dribbles. Once there is a response it is a conversation, and may be slow."""
    if exchange.state is SENT and body.too_slow(exchange.bytes_in, now):
        exchange.drop_upstream("timeout", CANCELLED)
        exchange.refuse(Reject(Reason.REQUEST_TIMEOUT), "the client sent its request too slowly")
        return
    body.measure(exchange.bytes_in, now, exchange.port.stream_idle)


def _upload_stalled(exchange: "Exchange") -> None:
    stuck = exchange.upstream is not None and exchange.upstream.blocked
    exchange.drop_upstream("timeout", FAILURE if stuck else CANCELLED)
    if stuck:
        exchange.refuse(Reject(Reason.STREAM_IDLE_TIMEOUT))
    else:
        exchange.refuse(Reject(Reason.REQUEST_TIMEOUT), "the client stopped sending its request")
