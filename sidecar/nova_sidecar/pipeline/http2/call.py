"""One request and its response on HTTP/2: a stream of the client's connection, and an attempt on an upstream's.

    waiting ── a connection ──▶ sent ── response head ──▶ responding ── last byte ──▶ done
       ▲                         │                           │
       └── another attempt ──────┘                           └── reset, silence, client gone ──▶ done
    queued (for a place) ──▶ waiting

It is to HTTP/2 what `Exchange` is to HTTP/1.1, goes through the same chain of filters and has the same names for what
they look at. The rules there hold here too; what HTTP/2 and gRPC add:

* A request that the upstream has not looked at (GOAWAY, REFUSED_STREAM) is sent again elsewhere, whatever it is, while
  its content is still kept: nobody sees a rolling restart.
* A gRPC call's outcome is its `grpc-status`, at the end, and the caller's `grpc-timeout` bounds all of it. Without one,
  time to the response head and silence count, as everywhere: a stream may last.
* A gRPC response that cannot be finished ends with a status of its own, other responses with a reset: neither can be
  taken for whole.
* A client that cancels (RST_STREAM) cancels the upstream's work in the same moment and gives its place back.
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING, Final

from nova_sidecar.pipeline.facts import UNKNOWN, Facts
from nova_sidecar.pipeline.http2 import again, timeouts, uploads
from nova_sidecar.pipeline.state import DONE, QUEUED, RESPONDING, SENT, WAITING
from nova_sidecar.pipeline.stats import OTHER_CODE
from nova_sidecar.policy.deadline import attempt_ends
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome
from nova_sidecar.policy.reasons import SHED, Reason, Reject
from nova_sidecar.policy.trace import Span
from nova_sidecar.transport.http2.downstream import DownstreamSession
from nova_sidecar.transport.http2.stream import WINDOW, Stream
from nova_sidecar.transport.http2.upstream import UpstreamSession, UpstreamStream
from nova_sidecar.transport.seat import Seat
from nova_sidecar.wire.http2.fields import UNDECLARED
from nova_sidecar.wire.http2.frames import END_STREAM, ErrorCode
from nova_sidecar.wire.http2.heads import RequestHead, ResponseHead, Trailers
from nova_sidecar.wire.http2.hpack import literals

if TYPE_CHECKING:
    from nova_sidecar.pipeline.http2.port import CallPort

REPLAY: Final = 64 * 1024
"""Bytes of a request kept for sending it again to another connection, where no policy asks for more."""
MAX_UNSEEN: Final = 3
"""Connections that may go away without having looked at a request before that counts as a failed attempt."""


class Call(Stream):
    """See the module."""

    __slots__ = (
        "attempt", "attempt_ends", "attempts", "body", "bytes_in", "bytes_out", "chain", "correlation", "deadline",
        "deadline_at", "downstream", "echo", "endpoint", "ends", "expected", "facts", "grpc_status", "head", "held",
        "kept", "lines", "pace", "place", "port", "prefix", "reason", "replayable", "seat", "sent_at", "span",
        "started", "state", "status", "ticket", "timer", "trace", "trailers", "unseen", "upstream_seconds",
    )  # fmt: skip

    def __init__(  # noqa: PLR0915, PLR0917 - one per request: calls and names of arguments cost
        self, port: "CallPort", session: DownstreamSession, number: int, head: RequestHead, prefix: bytes, now: float
    ) -> None:
        # the stream: `Stream.__init__`, without the price of a call
        self.session = self.downstream = session
        self.number = number
        self.room = WINDOW
        self.owed = 0
        self.read_end = False
        self.window = session.initial
        self.wrote_end = False
        self.queue = None
        self.last = None
        self.source = None
        # the request
        self.port = port
        self.chain = port.chain  # a reload must not give back what another chain took
        self.head = head
        self.prefix = prefix
        """What goes upstream of its head in every attempt."""
        self.started = now
        self.correlation = b""
        self.echo = b""
        """The field with the id, for both directions."""
        self.trace = b""
        self.span: Span | None = None
        self.deadline_at = 0.0
        """The instant at which there must be a response head."""
        self.ends = inf
        """The instant at which the whole call is over, where its caller set one."""
        self.deadline = inf
        """The instant at which this call is looked at; the connection wakes for the earliest."""
        self.facts: Facts = UNKNOWN
        self.lines = b""
        """Field lines, each with its CRLF, that go with whatever response the client gets."""
        self.place = False
        self.state = WAITING
        # its content
        self.body: list[bytes] | None = None
        self.kept = 0
        self.held = 0
        """Bytes that came before there was a connection; the client has no credit for them yet."""
        self.replayable = True
        self.trailers: bytes | None = None
        self.pace: uploads.Pace | None = None
        """How fast the client must be; None before there was content."""
        # one attempt
        self.attempts = 0
        self.unseen = 0
        self.attempt_ends = 0.0
        self.attempt: UpstreamStream | None = None
        self.ticket: int | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.endpoint: str | None = None
        self.seat: Seat[UpstreamSession] | None = None
        self.sent_at = 0.0
        self.upstream_seconds = 0.0
        # the response
        self.status = 0
        self.grpc_status = -1
        """Code of a gRPC response, -1 while there is none."""
        self.reason: Reason | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.expected = UNDECLARED
        """Bytes of the response that its head announces."""

    # --- before the upstream

    def wait_until(self, instant: float) -> None:
        """A filter lets it wait; `grant` or the deadline ends that."""
        self.state = QUEUED
        self.watch(instant)

    def hold(self, now: float) -> None:
        """Wait for an answer from elsewhere, until the deadline at most. The filter returns QUEUED."""
        self.wait_until(self.deadline_at)

    @property
    def waits(self) -> bool:
        """Whether it still waits to go on."""
        return self.state is QUEUED

    def go_on(self, stage: str, now: float) -> None:
        """Through what follows `stage` in the chain, and upstream."""
        self.state = WAITING
        self.deadline = self.deadline_at
        for on_request in self.chain.after[stage]:
            answer = on_request(self, now)
            if answer is not None:
                if isinstance(answer, Reject):
                    self.refuse(answer)
                return
        self.start_attempt(now)

    def grant(self) -> None:
        """The limiter gives it a place; it goes on in the next turn of the loop, so that grants do not nest."""
        self.place = True
        self.state = WAITING
        self.deadline = self.deadline_at
        self.port.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self.state is WAITING and self.attempts == 0:
            self.port.resume_call(self)

    def watch(self, instant: float) -> None:
        """Be looked at no later than then."""
        self.deadline = instant
        downstream = self.downstream
        if instant < downstream.deadline:
            downstream.wheel.arm(downstream, instant)

    def start_attempt(self, now: float, refused: UpstreamSession | None = None) -> None:
        """Ask the breaker, then for a connection, another one than that which `refused` the call."""
        port = self.port
        ends = now + port.attempt_budget
        if ends > self.deadline_at:  # noqa: PLR1730 - `attempt_ends` at the price of a comparison
            ends = self.deadline_at
        self.attempt_ends = self.deadline = ends
        downstream = self.downstream
        if ends < downstream.deadline:
            downstream.wheel.arm(downstream, ends)
        breaker = port.breaker
        if breaker is not None:
            reject = breaker.admit(now)
            if reject is not None:
                self.refuse(reject)
                return
            self.ticket = breaker.ticket
            if self.ticket < 0:
                port.stats.shadow_circuit_open()
        self.attempts += 1
        balancer = port.balancer
        found = balancer.acquire(self, now) if refused is None else balancer.acquire_other(self, refused)
        if isinstance(found, UpstreamSession):
            self._send(found, now)
        elif found is None:
            self.state = WAITING
            self.seat = None  # what fails from now on is not the former endpoint's
        else:
            self.record(CANCELLED)
            self.refuse(Reject(found))

    def on_session(self, session: UpstreamSession) -> None:
        """The connection it waited for."""
        self._send(session, self.port.clock())

    def on_no_connection(self, reason: Reason, why: str) -> None:
        """There is no connection to be had."""
        self.attempt_failed(reason, why)

    def _send(self, session: UpstreamSession, now: float) -> None:
        self.state = SENT
        self.endpoint = session.name
        self.seat = session.seat
        self.sent_at = now
        block = self.port.request_block(self, now)
        body = self.body
        if self.read_end and body is None and self.trailers is None:
            self.attempt = session.open(self, block, END_STREAM)
            return
        self.attempt = attempt = session.open(self, block, 0)
        if not self.read_end:  # `_heard`, without the price of a call
            until = self.downstream.wheel.now + self.port.stream_idle
            self.deadline = until if until < self.ends else self.ends
            if self.deadline < self.downstream.deadline:
                self.watch(self.deadline)
        if body is not None:
            self._replay(attempt, body)
        if self.trailers is not None:
            attempt.write_headers(self.trailers, END_STREAM)

    def _replay(self, attempt: UpstreamStream, body: list[bytes]) -> None:
        """What there is of the content so far."""
        ends = self.read_end and self.trailers is None
        for at, piece in enumerate(body, 1):
            attempt.write(piece, END_STREAM if ends and at == len(body) else 0)
        held, self.held = self.held, 0
        if held:
            self.credit(held)
        if self.kept > self._limit:
            self._keep_no_more()

    @property
    def _limit(self) -> int:
        return self.port.body_limit or REPLAY

    def _keep_no_more(self) -> None:
        self.body = None
        self.replayable = False

    # --- the request's content

    def on_data(self, data: bytes, flow: int, end: int) -> None:  # noqa: PLR0912 - hot: calls cost more than branches
        """Content of the request."""
        size = len(data)
        self.bytes_in += size
        if end:
            self.read_end = True
            if self.head.length not in (UNDECLARED, self.bytes_in):
                self.session.reset(self.number, ErrorCode.PROTOCOL_ERROR)
                return
        elif self.bytes_in > self.head.length >= 0:
            self.session.reset(self.number, ErrorCode.PROTOCOL_ERROR)
            return
        attempt = self.attempt
        if self.body is None and self.replayable:
            self.body = [data]
            self.kept = size
        elif self.replayable or attempt is None:
            self._keep(data)
        if attempt is None:
            self.held += flow
            return
        if not attempt.write(data, end, self):
            if flow > size:
                self.credit(flow - size)
        elif end:
            self.session.owed += flow  # `credit`, whose rest the session does once a read
        else:
            self.credit(flow)
        if not end:
            self._heard()
            pace = self.pace
            if pace is None:
                self.pace = uploads.begin(self, data)
            elif self.downstream.wheel.now >= pace.look_at:
                uploads.look(self, pace)
        elif self.state is SENT:
            if self.sent_at >= self.downstream.wheel.now:  # within one tick of the wheel
                self.deadline = self.attempt_ends
            else:
                self._request_complete()

    def _keep(self, data: bytes) -> None:
        """Keep content until there is a connection, and for a further attempt."""
        if self.body is None:
            self.body = [data]
        else:
            self.body.append(data)
        self.kept += len(data)
        if self.kept > REPLAY and self.attempt is not None and self.kept > self._limit:
            self._keep_no_more()

    def on_request_end(self, trailers: bytes) -> None:
        """The request ends with trailers."""
        if self.head.length not in (UNDECLARED, self.bytes_in):
            self.session.reset(self.number, ErrorCode.PROTOCOL_ERROR)
            return
        self.trailers = trailers
        if self.attempt is not None:
            self.attempt.write_headers(trailers, END_STREAM)
            if self.state is SENT:
                self._request_complete()

    def _request_complete(self) -> None:
        """The budgets of time begin anew, since an upload is bounded by silence."""
        now = self.port.clock()
        deadline_at = self.deadline_at + now - self.started
        self.deadline_at = deadline_at if deadline_at < self.ends else self.ends
        self.attempt_ends = attempt_ends(now, self.port.attempt_budget, self.deadline_at)
        self.watch(self.attempt_ends)

    def _heard(self) -> None:
        """Somebody sent or took bytes: no silence."""
        until = self.downstream.wheel.now + self.port.stream_idle
        self.watch(until if until < self.ends else self.ends)

    # --- the response

    def on_response_head(self, head: ResponseHead, end: int) -> None:
        """The head of the response; for a gRPC call that failed at once it is all of it."""
        port = self.port
        now = port.clock()
        self.upstream_seconds = now - self.sent_at
        status = head.status
        forward = head.forward
        if status >= 500 or (end and head.grpc_status):
            mark = again.retry_response(self, head, now, end=bool(end))
            if mark is None:
                return
            forward += mark
        self.expected = head.length
        if self.expected > 0 and self.head.is_head:
            self.expected = 0
        if end and self.expected > 0:
            self._broken_response()
            return
        self.state = RESPONDING
        self.status = status
        self.body = None
        self.replayable = False
        if self.lines:
            forward += literals(self.lines)
        self.write_headers(forward + self.echo, end)
        if end:
            if head.grpc_status is not None:
                self.grpc_status = head.grpc_status
            self._response_over(self.outcome_of(head, end=True), now)
            return
        downstream = self.downstream  # `_heard`, without the price of a call
        until = downstream.wheel.now + port.stream_idle
        if until > self.ends:  # noqa: PLR1730 - a call less
            until = self.ends
        self.deadline = until
        if until < downstream.deadline:
            downstream.wheel.arm(downstream, until)
        if self.ticket is not None and (status >= 400 or head.reject is not None):
            outcome = self.outcome_of(head, end=False)
            if outcome is not SUCCESS:
                self.record(outcome)

    def outcome_of(self, head: ResponseHead, *, end: bool) -> Outcome:
        """What a response head says about the upstream. That its sidecar sheds load does not say that it fails."""
        if head.reject is not None and head.reject in SHED:
            return CANCELLED
        if end and head.grpc_status is not None:
            return self.port.outcomes.code(head.grpc_status)
        return self.port.outcomes.of_status[head.status]

    def on_interim(self, head: ResponseHead) -> None:
        """103 Early Hints and their like go on."""
        if not (head.status == 100 and self.bytes_in):
            self.write_headers(head.forward, 0)

    def on_response_data(self, data: bytes, flow: int, end: int) -> None:
        """Content of the response."""
        size = len(data)
        self.bytes_out += size
        attempt = self.attempt
        assert attempt is not None  # noqa: S101 - it called
        if self.expected >= 0 and (self.bytes_out > self.expected or (end and self.bytes_out < self.expected)):
            self._broken_response()
            return
        if self.write(data, end, attempt):
            attempt.credit(flow)
        elif flow > size:
            attempt.credit(flow - size)
        if end:
            self._response_over(SUCCESS, self.port.clock())
            return
        until = self.downstream.wheel.now + self.port.stream_idle
        self.deadline = until if until < self.ends else self.ends
        if self.ticket is not None and self.port.breaker.state != "closed":  # type: ignore[union-attr]  # it gave the ticket
            self.record(SUCCESS)  # a probe tells at once; a long stream must not keep the breaker half open

    def on_response_end(self, trailers: Trailers) -> None:
        """The response ends with trailers; those of gRPC say how the call went."""
        if self.expected not in (UNDECLARED, self.bytes_out):
            self._broken_response()
            return
        code = trailers.grpc_status
        if code is not None:
            self.grpc_status = code
        self.write_headers(trailers.forward, END_STREAM)
        self._response_over(SUCCESS if not code else self.port.outcomes.code(code), self.port.clock())

    def _broken_response(self) -> None:
        """The content is not as long as its head said (RFC 9113 section 8.1.1)."""
        self.drop_upstream(FAILURE)
        if self.state is RESPONDING:
            self.break_off(Reason.BAD_RESPONSE)
        else:
            self.refuse(Reject(Reason.BAD_RESPONSE), "the content is not as long as the response says")

    def _response_over(self, outcome: Outcome, now: float) -> None:
        """All of the response has come."""
        attempt = self.attempt
        if attempt is not None:
            self.attempt = None
            if attempt.wrote_end:
                attempt.session.forget(attempt)
            else:
                attempt.session.drop(attempt, ErrorCode.NO_ERROR)
        ticket = self.ticket
        if ticket is not None:
            if outcome is SUCCESS and not self.seat.failures:  # type: ignore[union-attr]  # there was an attempt
                self.ticket = None
                self.port.breaker.record(outcome, now, ticket, self.upstream_seconds)  # type: ignore[union-attr]  # it gave the ticket
            else:
                self.record(outcome)
        if self.wrote_end:
            self._end(now)

    def on_written(self) -> None:
        """The last of what had to wait for the client has left."""
        self._end(self.port.clock())

    def on_progress(self) -> None:
        """The client took some of what waited for it."""
        if self.state is RESPONDING:
            self._heard()

    def on_upstream_progress(self) -> None:
        """The upstream took some of what waited for it."""
        if not self.read_end or self.state is RESPONDING:
            self._heard()
            if self.pace is not None and self.pace.look_at != inf:  # the client could not send meanwhile
                self.pace.measure(self)

    # --- failures

    def on_upstream_failed(self, reason: Reason, why: str, *, unseen: bool) -> None:
        """The stream is gone and the response is not whole."""
        attempt, self.attempt = self.attempt, None
        if self.state is RESPONDING:
            self.record(FAILURE)
            self.break_off(reason)
        elif unseen and self.unseen < MAX_UNSEEN and self.can_repeat:
            self.unseen += 1
            self.attempts -= 1
            self.record(CANCELLED)
            refused = attempt.session if attempt is not None else None
            self.start_attempt(self.port.clock(), refused)  # type: ignore[arg-type]  # an attempt is on an upstream's
        else:
            self.attempt_failed(reason, why, unseen=unseen)

    @property
    def can_repeat(self) -> bool:
        """Whether all of the request that has come is still here."""
        return self.replayable

    def attempt_failed(self, reason: Reason, why: str, *, unseen: bool = False) -> None:
        """Try again, or refuse."""
        self.record(CANCELLED if unseen else FAILURE)
        self.state = WAITING
        mark = again.retry(self, reason, self.port.clock(), unseen=unseen)
        if mark is not None:
            self.refuse(Reject(reason), why, mark)

    def on_reset(self, code: int) -> None:
        """The client cancels, or we do for a fault of it; the session has forgotten the stream."""
        self._client_gone(Reason.BAD_REQUEST if self.session.was_reset(self.number) else Reason.CLIENT_CLOSED)

    def on_lost(self, why: str, *, unseen: bool) -> None:
        """The client went away."""
        self._client_gone(Reason.CLIENT_CLOSED)

    def _client_gone(self, reason: Reason) -> None:
        if self.state is DONE:
            return
        self.drop_upstream(CANCELLED)
        self._count(reason)
        self._complete(self.port.clock())

    def on_deadline(self, now: float) -> None:
        """The deadline is over."""
        timeouts.expire(self, now)

    # --- the end

    def refuse(self, reject: Reject, why: str = "", mark: bytes = b"") -> None:
        """Answer with a refusal; the call is over."""
        self._count(reject.reason)
        port = self.port
        block, body, self.status, self.grpc_status = port.call_refusal(self, reject, why, mark or again.mark(self))
        if reject.lines or self.lines:
            block += literals(reject.lines + self.lines)
        self.state = RESPONDING
        self.write_headers(block, 0 if body else END_STREAM)
        if body:
            self._heard()
            self.write(body, END_STREAM)
        if self.wrote_end:
            self._end(port.clock())

    def break_off(self, reason: Reason) -> None:
        """A response under way cannot be finished."""
        self._count(reason)
        self.discard()
        if self.head.is_grpc:
            block, self.grpc_status = self.port.call_ending(self, reason)
            self.write_headers(block, END_STREAM)
            self._end(self.port.clock())
        else:
            self.session.drop(self, ErrorCode.INTERNAL_ERROR)
            self._complete(self.port.clock())

    def _count(self, reason: Reason) -> None:
        self.reason = reason
        self.port.stats.rejected[reason] += 1

    def record(self, outcome: Outcome) -> None:
        """Tell the breaker how the attempt ended, once."""
        ticket = self.ticket
        if ticket is not None:
            self.ticket = None
            now = self.port.clock()
            self.port.breaker.record(  # type: ignore[union-attr]  # it gave the ticket
                outcome, now, ticket, self.upstream_seconds
            )
            seat = self.seat
            if seat is not None and (seat.failures or outcome is FAILURE):
                self.port.balancer.judge(seat, outcome, now)

    def drop_upstream(self, outcome: Outcome) -> None:
        """Cancel what is under way towards the upstream."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            attempt.session.drop(attempt, ErrorCode.CANCEL)
        elif self.state is WAITING and self.attempts:
            self.port.balancer.cancel(self)
        self.record(outcome)

    def _end(self, now: float) -> None:
        """The response is out; a client that is still sending is told that nobody reads it (RFC 9113 section 8.1)."""
        if self.state is DONE:
            return
        self.state = DONE
        if self.read_end:
            self.session.forget(self)
        else:
            self.session.drop(self, ErrorCode.NO_ERROR)
        code = self.grpc_status
        if code >= 0:
            self.port.codes[code if code < OTHER_CODE else OTHER_CODE] += 1
        for on_complete in self.chain.complete:
            on_complete(self, now)

    def _complete(self, now: float) -> None:
        self.state = DONE
        for on_complete in self.chain.complete:
            on_complete(self, now)

    def __repr__(self) -> str:
        return f"<Call {self.number} {self.head.verb} {self.head.path} {self.state.value} attempts={self.attempts}>"
