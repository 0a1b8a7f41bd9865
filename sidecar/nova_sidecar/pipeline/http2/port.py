"""A port whose protocol is gRPC, or any HTTP/2: calls over sessions on both sides, with the policies of every port."""

from math import inf
from typing import ClassVar, Final

from nova_api.proxy import Inbound, Outbound
from nova_sidecar.pipeline.filters import CorrelationFilter, DeadlineFilter
from nova_sidecar.pipeline.http2.answers import Answers
from nova_sidecar.pipeline.http2.call import Call
from nova_sidecar.pipeline.http2.filters import METADATA, CallCorrelationFilter, CallDeadlineFilter
from nova_sidecar.pipeline.port import Port, endpoints_of, found_at, tls_of
from nova_sidecar.pipeline.stats import OTHER_CODE
from nova_sidecar.policy import deadline
from nova_sidecar.policy.correlation import LONGEST
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.retry import ATTEMPT
from nova_sidecar.transport.http2.balancer import Balancer
from nova_sidecar.transport.http2.downstream import DownstreamSession
from nova_sidecar.transport.http2.outbox import Outbox
from nova_sidecar.wire.http2.fields import UNDECLARED
from nova_sidecar.wire.http2.heads import RequestBase, RequestHead, RequestReader, ResponseReader
from nova_sidecar.wire.http2.hpack import literal, literal_name, literals, text
from nova_sidecar.wire.request import FORWARDED_FOR

_UNREADABLE: Final = RequestBase(
    b"-", b"-", b"", last_pseudo=0, idempotent=False, is_grpc=False, length=UNDECLARED, expects=False
).head
"""Stands for a request that could not be read, so that it is counted and logged like any other."""


class CallPort(Port):
    """See the module. Calls read the public attributes."""

    correlation_filter: ClassVar[type[CorrelationFilter]] = CallCorrelationFilter
    deadline_filter: ClassVar[type[DeadlineFilter]] = CallDeadlineFilter

    # --- configuration

    def _connect(self, settings: Inbound | Outbound) -> None:
        if self.stats.grpc is None:
            self.stats.grpc = [0] * (OTHER_CODE + 1)
        self.codes = self.stats.grpc
        """Responses by gRPC code."""
        shared = self._shared
        self._outbox = Outbox(self.loop)
        self.balancer = Balancer(
            found_at(settings),
            settings.pool,
            connect_timeout=settings.timeout.connect,
            reader=self._call_response_reader,
            resolver=shared.resolver,
            wheel=shared.wheel,
            outbox=self._outbox,
            rng=shared.rng,
            counters=self.stats,
            clock=shared.clock,
            tls=tls_of(settings),
            endpoints=endpoints_of(settings),
        )
        self.upstreams = self.balancer
        self.balancer.ejector.on_change.append(self._log_ejection)  # type: ignore[arg-type]  # it reads the endpoint

    def _reconnect(self, settings: Inbound | Outbound) -> None:
        self.balancer.configure(
            found_at(settings),
            settings.pool,
            connect_timeout=settings.timeout.connect,
            reader=self._call_response_reader,
            tls=tls_of(settings),
            endpoints=endpoints_of(settings),
        )

    def _make_readers(self, settings: Inbound | Outbound, captured: frozenset[bytes]) -> None:
        retrier = self.retrier if self.retrier is not None and self.retrier.on else None
        header = self._header
        own = {deadline.GRPC_HEADER} | ({METADATA} if header else set())
        self.call_reader = RequestReader(
            capture=captured | own,
            keyed=retrier is not None,
            listed=retrier.listed if retrier is not None else None,
            show=self._shown,
            guarded=self.guarded,
        )
        self._call_response_reader = ResponseReader(drop=frozenset((header, METADATA)) if header else frozenset())
        self._answers = Answers(header)
        self._full_deadline = literal(deadline.HEADER, b"%d" % (self.attempt_budget * 1000))
        self._deadline_name = literal_name(deadline.HEADER)
        self._timeout_name = literal_name(deadline.GRPC_HEADER)
        self._id_names = _with_lengths(header) if header else ()
        self._metadata_names = _with_lengths(METADATA)

    # --- for downstream sessions

    def accept(self) -> DownstreamSession:  # type: ignore[override]  # a listener takes any protocol
        """A connection for a client that has come."""
        return DownstreamSession(self, self._outbox, self._shared.wheel)

    def connected(self, connection: DownstreamSession) -> None:  # type: ignore[override]  # a session for a connection
        """A client came."""
        super().connected(connection)
        if connection.forwarded:
            connection.forwarded = literal(FORWARDED_FOR, connection.client.encode())

    def begin_call(self, session: DownstreamSession, number: int, head: RequestHead, prefix: bytes, end: int) -> None:
        """A request: through the filters, then upstream."""
        now = self.clock()
        if self.split is not None and (canary := self.split.turn(now)) is not None:
            canary.begin_call(session, number, head, prefix, end)
            return
        call = Call(self, session, number, head, prefix, now)
        if end:
            call.read_end = True
        session.streams[number] = call
        self.stats.in_flight += 1
        if self.leaving:
            session.leave()
        for on_request in self.chain.request:
            answer = on_request(call, now)
            if answer is not None:
                if isinstance(answer, Reject):
                    call.refuse(answer)
                return
        call.start_attempt(now)

    def resume_call(self, call: Call) -> None:
        """A call has the place it waited for: through what follows the limiter, then upstream."""
        now = self.clock()
        if self.retrier is not None:
            self.retrier.deposit(now)
        call.start_attempt(now)

    def refuse_call(self, session: DownstreamSession, number: int, reason: Reason, why: str, end: int) -> None:
        """Answer a request that is none."""
        call = Call(self, session, number, _UNREADABLE, b"", self.clock())
        call.read_end = bool(end)
        session.streams[number] = call
        self._count_unread(call)
        call.refuse(Reject(reason), why)

    def turned_away(self, session: DownstreamSession, reason: Reason) -> None:
        """Count a connection that is closed for what its client did."""
        self.stats.rejected[reason] += 1

    def _count_unread(self, call: Call) -> None:
        self.stats.in_flight += 1
        if self._header:
            call.correlation = self._shared.ids.generate()
            self.stats.correlation_generated += 1

    # --- for calls

    def prefix(self, session: DownstreamSession, head: RequestHead) -> bytes:
        """What of a request's block goes on the same way in every attempt."""
        captured = head.captured
        forwarded = session.forwarded
        if head.is_grpc and FORWARDED_FOR not in captured:
            return head.forward + forwarded
        parts = [head.forward]
        if forwarded:
            if FORWARDED_FOR in captured:
                client = session.client.encode()
                forwarded = literal(FORWARDED_FOR, b"%b, %b" % (captured[FORWARDED_FOR], client))
            parts.append(forwarded)
        if captured and not head.is_grpc:
            parts += [literal(name, captured[name]) for name in (METADATA, deadline.GRPC_HEADER) if name in captured]
        return b"".join(parts)

    def request_block(self, call: Call, now: float) -> bytes:
        """The head of a request as it goes upstream. Sets `call.echo` too."""
        correlation = call.correlation
        if correlation:
            names = self._metadata_names if call.head.is_grpc else self._id_names
            call.echo = names[len(correlation)] + correlation
        if call.ends != inf:
            left = self._timeout_name + text(deadline.encode_grpc(now, call.ends))
        elif call.attempt_ends - now >= self._full_left:
            left = self._full_deadline
        else:
            left = self._deadline_name + text(deadline.encode(now, call.attempt_ends))
        if call.attempts > 1:
            left += literal(ATTEMPT, b"%d" % call.attempts)
        if call.trace:
            left += literals(call.trace)
        return call.prefix + left + call.echo

    def id_of(self, call: Call) -> bytes:
        """The field with the call's id, for a call that may not have been sent."""
        correlation = call.correlation
        if not correlation:
            return b""
        return (self._metadata_names if call.head.is_grpc else self._id_names)[len(correlation)] + correlation

    def call_refusal(self, call: Call, reject: Reject, why: str, mark: bytes) -> tuple[bytes, bytes, int, int]:
        """The answer that refuses a call: its block, its body, its status and its gRPC code."""
        return self._answers.refusal(call, reject, why, self.id_of(call) + mark)

    def call_ending(self, call: Call, reason: Reason) -> tuple[bytes, int]:
        """The trailers of a gRPC response that cannot be finished, and their code."""
        return self._answers.ending(reason)

    # --- leaving

    def leave(self) -> None:
        """Ask every client to open no more streams here."""
        super().leave()
        for session in list(self.connections):
            if isinstance(session, DownstreamSession):
                session.leave()

    def close_idle(self) -> None:
        """Close the connections of clients that have no call under way."""
        for session in list(self.connections):
            if isinstance(session, DownstreamSession) and not session.streams:
                session.leave_now()


def _with_lengths(name: bytes) -> tuple[bytes, ...]:
    """All of a literal field before its value, for the lengths a correlation id may have."""
    return tuple(literal(name, bytes(length))[: -length or None] for length in range(LONGEST + 1))
