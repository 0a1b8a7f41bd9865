"""Time is up for a call: all of it, one attempt, or a silence lasted too long. Which one it was, and whose fault."""

from typing import TYPE_CHECKING

from nova_sidecar.pipeline.state import QUEUED, RESPONDING, SENT, WAITING
from nova_sidecar.policy.deadline import patient
from nova_sidecar.policy.outcome import CANCELLED, FAILURE
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject

if TYPE_CHECKING:
    from nova_sidecar.pipeline.http2.call import Call


def expire(call: "Call", now: float) -> None:
    """End the call, or its attempt. Upstreams are not blamed for slow clients, nor for callers with little time."""
    state = call.state
    if state is RESPONDING:
        over = now >= call.ends
        blocked = over or call.queue is not None or call.attempt is None
        call.drop_upstream(CANCELLED if blocked else FAILURE)
        call.break_off(Reason.DEADLINE_EXCEEDED if over else Reason.STREAM_IDLE_TIMEOUT)
    elif now >= call.deadline_at and (state is not SENT or call.read_end or now >= call.ends):
        blame = state is SENT and patient(now - call.sent_at, call.port.attempt_budget)
        call.drop_upstream(FAILURE if blame else CANCELLED)
        call.refuse(Reject(Reason.DEADLINE_EXCEEDED))
    elif state is SENT and not call.read_end:
        _upload_stalled(call)
    elif state is QUEUED:
        call.refuse(Reject(Reason.ACQUIRE_TIMEOUT, OVERLOAD_RETRY_AFTER))
    elif state is WAITING:
        missing = call.port.balancer.cancel(call)
        call.record(CANCELLED)
        call.refuse(Reject(missing, OVERLOAD_RETRY_AFTER))
    else:
        call.drop_upstream(FAILURE)
        call.attempt_failed(Reason.ATTEMPT_TIMEOUT, "the upstream did not answer within the attempt's budget")


def _upload_stalled(call: "Call") -> None:
    stuck = call.attempt is not None and call.attempt.queue is not None
    call.drop_upstream(FAILURE if stuck else CANCELLED)
    if stuck:
        call.refuse(Reject(Reason.STREAM_IDLE_TIMEOUT))
    else:
        call.refuse(Reject(Reason.REQUEST_TIMEOUT), "the client stopped sending its request")
