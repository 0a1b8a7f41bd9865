"""One request and its response: the only object that knows both sides.

    waiting ── a connection ──▶ sent ── response head ──▶ responding ── last byte ──▶ done
       ▲                         │                           │
       └── another attempt ──────┘                           └── 101 ──▶ tunnel ──▶ done
    queued (for a place) ──▶ waiting            any state ── refusal, break-off, client gone ──▶ done

Rules:

* `complete` runs exactly once, whatever happens, and so does the breaker's `record` for every admission.
* Nothing is retried once a byte of a response has gone downstream.
* A response that cannot be finished breaks the client's connection: it must never look whole.
* Both directions push back: who cannot take more stops the other side's reading.
* Budgets of time end with the response head; while a request body is under way and after the head, silence counts.
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING

from nova_sidecar.pipeline import again, presence, timeouts
from nova_sidecar.pipeline.body import RequestBody
from nova_sidecar.pipeline.state import DONE, QUEUED, RESPONDING, SENT, TUNNEL, WAITING
from nova_sidecar.policy.closing import Closed
from nova_sidecar.policy.deadline import attempt_ends
from nova_sidecar.policy.outcome import CANCELLED, FAILURE, SUCCESS, Outcome
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.trace import Span
from nova_sidecar.transport.downstream import DownstreamConnection
from nova_sidecar.transport.seat import CloseReason, Seat
from nova_sidecar.transport.tcp import reset_on_close
from nova_sidecar.transport.upstream import UpstreamConnection
from nova_sidecar.wire.chunked import LAST_CHUNK, chunk
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.request import RequestHead
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Port


class Exchange:
    """See the module."""

    __slots__ = (
        "attempt_ends", "attempts", "body", "bytes_in", "bytes_out", "chain", "chunked", "correlation", "deadline_at",
        "dispatcher", "downstream", "endpoint", "head", "head_only", "keep", "place", "port", "reason", "seat",
        "sent_at", "span", "stale", "started", "state", "status", "ticket", "timer", "trace", "upstream",
        "upstream_seconds",
    )  # fmt: skip

    def __init__(self, port: "Port", downstream: DownstreamConnection, head: RequestHead, now: float) -> None:
        # the request
        self.port = port
        self.chain = port.chain  # a reload must not give back what another chain took
        self.dispatcher = port.dispatcher  # or a sibling's, which is where it came from and goes back to
        self.downstream = downstream
        self.head = head
        self.head_only = head.is_head
        self.started = now
        self.correlation = b""
        self.trace = b""
        """Field lines that go upstream in addition: the trace context, and whether it is handed over."""
        self.span: Span | None = None
        self.deadline_at = 0.0
        self.body = RequestBody(head, port.body_limit) if head.length else None
        self.place = False
        self.state = WAITING
        # one attempt
        self.attempts = 0
        self.attempt_ends = 0.0
        self.stale = 0
        self.ticket: int | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.upstream: UpstreamConnection | None = None
        self.seat: Seat[UpstreamConnection] | None = None
        self.endpoint: str | None = None
        self.sent_at = 0.0
        self.upstream_seconds = 0.0
        # the response
        self.status = 0
        self.reason: Reason | Closed | None = None
        self.chunked = False
        self.keep = False
        self.bytes_in = 0
        self.bytes_out = 0

    # --- before the upstream

    def wait_until(self, instant: float) -> None:
        """A filter lets it wait; `grant`, `go_on` or the deadline ends that."""
        self.state = QUEUED
        self.downstream.wheel.arm(self.downstream, instant)

    def grant(self) -> None:
        """The limiter gives it a place; it goes on in the next turn of the loop, so that grants do not nest."""
        self.place = True
        self.state = WAITING
        self.downstream.deadline = self.deadline_at
        self.port.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self.state is WAITING and self.attempts == 0:
            self.port.resume(self)

    def start_attempt(self, now: float) -> None:
        """Ask the breaker, then for a connection."""
        port = self.port
        ends = now + port.attempt_budget
        if ends > self.deadline_at:  # noqa: PLR1730 - `attempt_ends` at the price of a comparison
            ends = self.deadline_at
        self.attempt_ends = ends
        downstream = self.downstream
        downstream.deadline = ends
        if ends < downstream.wakes:
            downstream.wheel.place(downstream)
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
        found = self.dispatcher.acquire(self)
        if not self.head.idempotent:  # it cannot be sent again, so it is not sent where nobody listens any more
            while isinstance(found, UpstreamConnection) and found.ended:
                found.close("peer")
                found = self.dispatcher.acquire(self)
        if isinstance(found, UpstreamConnection):
            self._send(found, now)
        elif found is None:
            self.state = WAITING
        else:
            self.record(CANCELLED)
            self.refuse(Reject(found))

    def on_connection(self, connection: UpstreamConnection) -> None:
        """The connection it waited for."""
        self._send(connection, self.port.clock())

    def on_no_connection(self, reason: Reason, why: str) -> None:
        """There is no connection to be had."""
        self.attempt_failed(reason, why)

    def _send(self, connection: UpstreamConnection, now: float) -> None:
        port = self.port
        self.state = SENT
        self.upstream = connection
        self.seat = connection.seat
        self.endpoint = connection.name
        self.sent_at = now
        data = port.upstream_head(self, now)
        body = self.body
        if body is not None:
            data += body.opening()
            self._watch_upload(body)
        connection.send(self, data)

    def _watch_upload(self, body: RequestBody) -> None:
        """While a body is under way silence counts; a client that waits for 100 Continue is not the silent one."""
        downstream = self.downstream
        if not body.done and (self.bytes_in or not self.head.expects):
            downstream.wheel.arm(downstream, downstream.wheel.now + self.port.stream_idle)
        if not body.done and self.port.paces_uploads:
            waits = self.port.attempt_budget if self.head.expects and not self.bytes_in else 0.0
            body.measure(self.bytes_in, downstream.wheel.now + waits, self.port.stream_idle)
        downstream.resume_reading()

    # --- the request's body

    def on_request_body(self, data: bytes) -> None:
        """Content of the request."""
        self.bytes_in += len(data)
        body, upstream, downstream = self.body, self.upstream, self.downstream
        if body is None:
            return
        if upstream is None:
            if body.hold(data):
                downstream.pause_reading()
            return
        upstream.transport.write(body.passing(data))
        now = downstream.wheel.now
        downstream.deadline = now + self.port.stream_idle
        if now >= body.look_at:
            timeouts.look_at_upload(self, body, now)

    def on_request_end(self, trailers: bytes) -> None:
        """The request is complete; the budgets of time begin anew, since an upload is bounded by silence."""
        body = self.body
        if body is None:
            return
        ending = body.end(trailers)
        if self.upstream is None:
            return
        if ending:
            self.upstream.transport.write(ending)
        if self.state is SENT:
            self.sent_at = now = self.port.clock()  # from here on it is the app's time
            self.deadline_at += now - self.started
            self.attempt_ends = attempt_ends(now, self.port.attempt_budget, self.deadline_at)
            self.downstream.wheel.arm(self.downstream, self.attempt_ends)

    def on_request_broken(self, why: Malformed) -> None:
        """The body breaks HTTP: the upstream must not take it for whole."""
        answering = self.state is RESPONDING
        self.drop_upstream("aborted", CANCELLED)
        if answering:
            self.break_off(why.reason)
        else:
            self.refuse(Reject(why.reason), why.why)

    # --- the response

    def on_response(self, head: ResponseHead, body: bytes) -> None:
        """A whole response: one write downstream, and the connection goes back."""
        port = self.port
        now = port.clock()
        connection = self.upstream
        assert connection is not None  # noqa: S101 - it called
        self.upstream_seconds = now - self.sent_at
        status = head.status
        forward = head.forward
        if status >= 500:
            mark = self._retry_status(head, now)
            if mark is None:
                return
            forward += mark
        downstream = self.downstream
        request = self.head
        if request.keep_alive and not port.leaving and not request.http10 and not downstream.unread:
            keep = True
            tail = port.echo
        else:
            keep, tail = self._ending_of_head()
        downstream.transport.write(b"".join((forward, tail, self.correlation, port.head_end, body)))
        self.status = status
        self.bytes_out = len(body)
        self.upstream = None
        if self.ticket is not None:
            outcome, seat = head.outcome, connection.seat
            port.breaker.record(  # type: ignore[union-attr]  # it gave the ticket
                outcome, now, self.ticket, self.upstream_seconds
            )
            self.ticket = None
            if seat.failures or outcome is FAILURE:
                self.dispatcher.judge(seat, outcome, now)
        if not downstream.unread:
            self.dispatcher.release(connection, now)
        else:
            connection.close("aborted")
        self._complete(now)
        downstream.finished(keep=keep)

    def on_response_head(self, head: ResponseHead) -> None:
        """A response whose body follows."""
        now = self.port.clock()
        self.upstream_seconds = now - self.sent_at
        status = head.status
        forward = head.forward
        if status >= 500:
            mark = self._retry_status(head, now)
            if mark is None:
                return
            forward += mark
        if status == 101:
            self.port.upgrades.open(self, head)
            return
        downstream = self.downstream
        if head.length >= 0:
            self.keep, tail = self._ending_of_head()
        elif self.head.http10:
            self.keep, tail = False, b"connection: close\r\n" + self.port.echo
        else:
            self.chunked = True
            self.keep, tail = self._ending_of_head()
            tail = b"transfer-encoding: chunked\r\n" + tail
        self.state = RESPONDING
        self.status = status
        downstream.transport.write(b"".join((forward, tail, self.correlation, self.port.head_end)))
        downstream.wheel.arm(downstream, downstream.wheel.now + self.port.stream_idle)
        if head.outcome is not SUCCESS:
            self.record(head.outcome)
        elif self.ticket is not None and self.port.breaker.state != "closed":  # type: ignore[union-attr]  # as above
            self.record(SUCCESS)  # a probe tells at once; a long body must not keep the breaker half open

    def _ending_of_head(self) -> tuple[bool, bytes]:
        """Whether the connection is kept, and what says so in front of the correlation id."""
        request, port = self.head, self.port
        if not request.keep_alive or port.leaving or self.downstream.unread:
            return False, b"connection: close\r\n" + port.echo
        return True, b"connection: keep-alive\r\n" + port.echo if request.http10 else port.echo

    def on_interim(self, head: ResponseHead) -> None:
        """100 Continue, 103 Early Hints and their like go on; HTTP/1.0 does not know them (RFC 9110 section 15.2).
        A client that has begun its body was told to: a further attempt's 100 is nothing new to it."""
        if not self.head.http10 and not (head.status == 100 and self.bytes_in):
            self.downstream.transport.write(head.forward + b"\r\n")

    def on_response_body(self, data: bytes) -> None:
        """Content of the response."""
        self.bytes_out += len(data)
        downstream = self.downstream
        downstream.transport.write(chunk(data) if self.chunked else data)
        downstream.deadline = downstream.wheel.now + self.port.stream_idle

    def on_response_end(self, trailers: bytes) -> None:
        """The response is complete."""
        connection, self.upstream = self.upstream, None
        assert connection is not None  # noqa: S101 - it called
        downstream, now = self.downstream, self.port.clock()
        if self.chunked:
            downstream.transport.write(LAST_CHUNK + trailers + b"\r\n")
        self.record(SUCCESS)
        if not downstream.unread:
            connection.resume_reading()
            self.dispatcher.release(connection, now)
        else:
            self.keep = False
            connection.close("aborted")
        self._complete(now)
        downstream.finished(keep=self.keep)

    # --- pushing back

    def on_downstream_blocked(self, blocked: bool) -> None:
        """The client reads too slowly, or does so no more."""
        if self.upstream is not None:
            if blocked:
                self.upstream.pause_reading()
            else:
                self.upstream.resume_reading()
        self._heard()

    def on_upstream_blocked(self, blocked: bool) -> None:
        """The upstream reads too slowly, or does so no more."""
        if blocked:
            self.downstream.pause_reading()
        elif self.downstream.unread:  # else it is paused for what it has sent ahead
            self.downstream.resume_reading()
            if self.body is not None and self.body.look_at != inf:  # the client could not send meanwhile
                self.body.measure(self.bytes_in, self.downstream.wheel.now, self.port.stream_idle)
        self._heard()

    def _heard(self) -> None:
        """Somebody took bytes: no silence."""
        if self.state is RESPONDING or (self.state is SENT and self.downstream.unread):
            self.downstream.deadline = self.downstream.wheel.now + self.port.stream_idle

    # --- the client, when it sends no more

    def on_downstream_eof(self) -> None:
        """The client sends no more, and may or may not wait for its response."""
        presence.watch(self)

    @property
    def unanswered(self) -> bool:
        """Whether the client has got nothing of a response yet."""
        return self.state not in (DONE, RESPONDING, TUNNEL)

    def end_tunnel(self) -> None:
        """The tunnel that took its place is over."""
        self._complete(self.port.clock())

    # --- failures

    def on_upstream_failed(self, reason: Reason, why: str) -> None:
        """The connection is gone and the response is not whole."""
        connection, self.upstream = self.upstream, None
        if self.state is RESPONDING:
            self.record(FAILURE)
            self.break_off(reason)
        elif reason is Reason.UPSTREAM_RESET and connection is not None and again.was_stale(self, connection):
            self.stale += 1
            self.attempts -= 1
            self.record(CANCELLED)
            self.start_attempt(self.port.clock())
        else:
            self.attempt_failed(reason, why)

    def attempt_failed(self, reason: Reason, why: str) -> None:
        """Try again, or refuse."""
        self.record(FAILURE)
        self.state = WAITING
        mark = again.retry(self, reason, self.port.clock())
        if mark is not None:
            self.refuse(Reject(reason), why, mark)

    def _retry_status(self, head: ResponseHead, now: float) -> bytes | None:
        """None: the response is dropped in favour of another attempt. Else a line to add to it, or nothing."""
        if self.port.retrier is None:
            return b""
        mark = again.retry(self, head.status, now, retry_after=head.retry_after, retried=head.retried)
        if mark is None:
            self._drop_response(head, now)
        return mark

    def _drop_response(self, head: ResponseHead, now: float) -> None:
        """The client gets another one."""
        connection, self.upstream = self.upstream, None
        if connection is not None:
            if connection.exchange is None and not self.downstream.unread:
                self.dispatcher.release(connection, now)
            else:
                connection.close("aborted")
        self.record(head.outcome)

    def on_downstream_lost(self) -> None:
        """The client went away: whatever is under way for it is cancelled."""
        self.drop_upstream("aborted", CANCELLED)
        self._count(Reason.CLIENT_CLOSED)
        self._complete(self.port.clock())

    def on_deadline(self, now: float) -> None:
        """The deadline set on the client's connection is over."""
        timeouts.expire(self, now)

    # --- the end

    def refuse(self, reject: Reject, why: str = "", mark: bytes = b"") -> None:
        """Answer with a refusal; the exchange is over."""
        port, downstream = self.port, self.downstream
        self._count(reject.reason)
        data, self.status, keep = port.refusal(self, reject, why, mark or again.mark(self))
        downstream.transport.write(data)
        self._complete(port.clock())
        downstream.finished(keep=keep)

    def break_off(self, reason: Reason) -> None:
        """A response under way cannot be finished."""
        self._count(reason)
        self._complete(self.port.clock())
        self.downstream.exchange = None
        self.downstream.abort()

    def _count(self, reason: Reason) -> None:
        self.reason = reason
        self.port.stats.rejected[reason] += 1

    def record(self, outcome: Outcome) -> None:
        """Tell the breaker and the endpoint's health how the attempt ended, once."""
        ticket = self.ticket
        if ticket is not None:
            self.ticket = None
            now = self.port.clock()
            self.port.breaker.record(  # type: ignore[union-attr]  # it gave the ticket
                outcome, now, ticket, self.upstream_seconds
            )
            if self.seat is not None:
                self.dispatcher.judge(self.seat, outcome, now)

    def drop_upstream(self, why: CloseReason, outcome: Outcome) -> None:
        """Cancel what is under way towards the upstream."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        connection, self.upstream = self.upstream, None
        if connection is not None:
            reset_on_close(connection.transport)  # an end in order may be taken for half of one, and work go on
            connection.close(why)
        elif self.state is WAITING and self.attempts:
            self.dispatcher.cancel(self)
        self.record(outcome)

    def _complete(self, now: float) -> None:
        self.state = DONE
        for on_complete in self.chain.complete:
            on_complete(self, now)

    def __repr__(self) -> str:
        return f"<Exchange {self.head.verb} {self.head.path} {self.state.value} attempts={self.attempts}>"
