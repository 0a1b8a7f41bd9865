"""What follows a failed attempt of a call: a further one, now or after a pause, or none."""

from typing import TYPE_CHECKING, Final

from nova_sidecar.pipeline.state import BACKOFF
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import RETRIED, Suppressed
from nova_sidecar.wire.http2.frames import ErrorCode
from nova_sidecar.wire.http2.hpack import literal

if TYPE_CHECKING:
    from nova_sidecar.pipeline.http2.call import Call
    from nova_sidecar.wire.http2.heads import ResponseHead

_SPENT: Final = frozenset((Suppressed.BUDGET_EXHAUSTED, Suppressed.NESTED))


def retry_response(call: "Call", head: "ResponseHead", now: float, *, end: bool) -> bytes | None:
    """None: the response is dropped in favour of another attempt. Else a field to add to it, or nothing."""
    if call.port.retrier is None:
        return b""
    code = head.grpc_status
    failure = head.status if code is None or not end else code
    pushback = None if head.pushback_ms is None else b"%d" % head.pushback_ms
    answer = retry(call, failure, now, retry_after=head.retry_after, retried=head.retried, pushback=pushback)
    if answer is not None:
        return answer
    attempt, call.attempt = call.attempt, None
    if attempt is not None:
        if end and attempt.wrote_end:
            attempt.session.forget(attempt)
        else:
            attempt.session.drop(attempt, ErrorCode.CANCEL)
    call.record(call.outcome_of(head, end=end))
    return None


def retry(
    call: "Call", failure: Reason | int, now: float, *, retry_after: float | None = None, retried: bool = False,
    pushback: bytes | None = None, unseen: bool = False,
) -> bytes | None:  # fmt: skip
    """None: another attempt is under way. Else a field to mark the failure with, or nothing; see `pipeline.again`."""
    port = call.port
    retrier = port.retrier
    if retrier is None:
        return b""
    head = call.head
    answer = retrier.next(
        call.attempts,
        failure,
        method=head.method,
        replayable=call.can_repeat,
        remaining=call.deadline_at - now,
        now=now,
        retry_after=retry_after,
        repeatable=head.idempotent,
        unseen=unseen,
        nested=retried or head.nested,
        pushback=pushback,
    )
    if isinstance(answer, Suppressed):
        port.stats.retries_suppressed[answer] += 1
        if retried:
            return b""
        return _mark(call) if answer in _SPENT else mark(call)
    port.stats.retries += 1
    if call.span is not None:
        call.span.event(now, "nova.retry", str(failure), call.attempts + 1)
    call.state = BACKOFF
    call.watch(call.deadline_at)
    call.timer = port.loop.call_later(answer, _start, call)
    return None


def mark(call: "Call") -> bytes:
    """The field that marks the failure of a call that was repeated; nothing for one that was not."""
    return _mark(call) if call.attempts > 1 else b""


def _mark(call: "Call") -> bytes:
    return literal(RETRIED, b"%d" % call.attempts)


def _start(call: "Call") -> None:
    call.timer = None
    if call.state is BACKOFF:
        call.start_attempt(call.port.clock())
