"""An exchange that request policies may hold, answer in place of the app, and watch.

    filter ── hold ──▶ waits for an answer from elsewhere ── go_on ──▶ what follows the filter
       ├──── read_body ──▶ waits for the request's content ── go_on ──▶ …
       ├──── answer ──▶ done: the app never hears of it
       ├──── watch ──▶ sees the response pass, to its end or loss
       ├──── screen ──▶ may take a response or a refusal away from the client, and answer itself
       └──── share ──▶ its call goes on without its client, for others who get the same response

Rules:

* Whoever holds an exchange lets it go on, refuses it or answers it, once; its deadline or its client may be sooner,
  and then `waits` is false and nothing is to be done any more.
* Content that was read goes on to the app unchanged.
* A watcher sees a response exactly as the app sent it, without what Nova adds, and learns once how it ended.

Ports without such a policy make plain exchanges and pay for none of this; it is imported where one is on.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from nova_sidecar.pipeline import again
from nova_sidecar.pipeline.exchange import Exchange
from nova_sidecar.pipeline.facts import UNKNOWN, Facts
from nova_sidecar.pipeline.state import DONE, QUEUED, RESPONDING, SENT, WAITING
from nova_sidecar.policy.outcome import CANCELLED
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.transport.absent import AbsentClient
from nova_sidecar.wire.chunked import LAST_CHUNK
from nova_sidecar.wire.fields import CHUNKED, unguarded
from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Port
    from nova_sidecar.transport.downstream import DownstreamConnection
    from nova_sidecar.wire.request import RequestHead

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

Read = Callable[[bytes | None], None]
"""Takes the content of a request, or None where it is larger than was asked for."""


class Watcher(Protocol):
    """Sees a response pass. `on_end` or `on_lost` is the last call, and there is exactly one of them; before `on_head`
    it may be `on_lost`, where the app was not reached, did not answer, or was not asked. None may raise."""

    def on_head(self, head: ResponseHead) -> None:
        """The response begins."""
        ...

    def on_body(self, data: bytes) -> None:
        """Content of the response, free of chunking."""
        ...

    def on_end(self, trailers: bytes) -> None:
        """The response is whole."""
        ...

    def on_lost(self) -> None:
        """There will be no whole response."""
        ...


class Screen(Protocol):
    """Stands between the app and the client."""

    def takes_response(self, head: ResponseHead) -> bool:
        """Whether the client gets something else than this response: the screen has called `replace`, or goes on to
        ask the app anew."""
        ...

    def takes_refusal(self, reject: Reject) -> bool:
        """Whether the client gets something else than this refusal: the screen has called `answer`."""
        ...


class Sharing(Protocol):
    """Knows who else gets the response of a call."""

    def client_gone(self, exchange: "ManagedExchange") -> bool:
        """Its client has left; whether the exchange goes on all the same, since it was detached."""
        ...

    def client_blocked(self, exchange: "ManagedExchange", blocked: bool) -> None:
        """Its client reads too slowly, or does so no more; in place of pausing the app's connection."""
        ...


class ManagedExchange(Exchange):
    """See the module."""

    __slots__ = ("_collected", "_most", "_read", "_watchers", "facts", "lines", "screen", "sharing")

    def __init__(self, port: "Port", downstream: "DownstreamConnection", head: "RequestHead", now: float) -> None:
        super().__init__(port, downstream, head, now)
        self.facts: Facts = UNKNOWN
        self.lines = b""
        """Field lines, each with its CRLF, that go with whatever response the client gets."""
        self.screen: Screen | None = None
        """Looks at what the client is to get, before it does."""
        self.sharing: Sharing | None = None
        """Who else gets it; None where nobody may."""
        self._watchers: list[Watcher] = []
        self._read: Read | None = None
        self._most = 0
        self._collected = 0

    # --- waiting

    def hold(self, now: float) -> None:
        """Wait for an answer from elsewhere, until the deadline at most. The filter returns QUEUED."""
        self.wait_until(self.deadline_at)

    @property
    def waits(self) -> bool:
        """Whether it still waits to go on."""
        return self.state is QUEUED

    def go_on(self, stage: str, now: float) -> None:
        """Through what follows `stage` in the chain, and to the app."""
        self.state = WAITING
        self.downstream.deadline = self.deadline_at
        for on_request in self.chain.after[stage]:
            answer = on_request(self, now)
            if answer is not None:
                if isinstance(answer, Reject):
                    self.refuse(answer)
                return
        self.start_attempt(now)

    # --- the request's content

    def read_body(self, most: int, then: Read) -> None:
        """Wait for the whole content, of `most` bytes at most, and give it to `then`, which lets the exchange go on.
        The filter returns QUEUED, though `then` may have been called by now: of a request without content it is b"",
        of one that announces more than `most` None."""
        self.hold(self.port.clock())
        body = self.body
        if body is None:
            then(b"")
        elif self.head.length != CHUNKED and self.head.length > most:
            then(None)
        elif body.done:
            then(b"".join(body.pieces))
        elif body.size > most:
            then(None)
        else:
            self._read, self._most, self._collected = then, most, body.size
            if self.head.expects and not self.bytes_in:
                self.downstream.transport.write(_CONTINUE)
            self.downstream.resume_reading()

    def on_request_body(self, data: bytes) -> None:
        """Content of the request."""
        if self._read is None or self.body is None:
            super().on_request_body(data)
            return
        self.bytes_in += len(data)
        self._collected += len(data)
        full = self.body.hold(data)
        if self._collected > self._most:
            if full:
                self.downstream.pause_reading()
            self._give(None)

    def on_request_end(self, trailers: bytes) -> None:
        """The request is complete."""
        if trailers and self.port.guarded:
            trailers = unguarded(trailers, self.port.guarded)
        super().on_request_end(trailers)
        if self._read is not None and self.body is not None:
            self._give(b"".join(self.body.pieces))

    def on_request_broken(self, why: Malformed) -> None:
        """The content breaks HTTP."""
        self._read = None
        super().on_request_broken(why)

    def _give(self, content: bytes | None) -> None:
        then, self._read = self._read, None
        if then is not None and self.waits:
            then(content)

    # --- the response

    def watch(self, watcher: Watcher) -> None:
        """Let it see the response."""
        self._watchers.append(watcher)

    def answer(self, status: int, head: bytes, body: bytes, now: float, reason: Reason | None = None) -> None:
        """Answer in place of the app. `head` is the status line and the fields, content-length among them, each line
        with its CRLF; what every response of the port carries is added."""
        self.state = WAITING
        self.status = status
        self.reason = reason
        keep, tail = self._ending_of_head()
        if self.head_only:
            body = b""
        self.bytes_out = len(body)
        downstream = self.downstream
        downstream.transport.write(b"".join((head, self.lines, tail, self.correlation, self.port.head_end, body)))
        self._complete(now)
        downstream.finished(keep=keep)

    def replace(self, dropped: ResponseHead, status: int, head: bytes, body: bytes, now: float) -> None:
        """Answer in place of a response of the app; see `answer`."""
        self._drop_response(dropped, now)
        self.answer(status, head, body, now)

    def ask_again(self, dropped: ResponseHead, now: float) -> None:
        """Ask the app once more, in place of a response that is of no use."""
        self._drop_response(dropped, now)
        self.attempts = 0
        self.start_attempt(now)

    def on_response(self, head: ResponseHead, body: bytes) -> None:
        """Pass a whole response on."""
        if self.screen is not None and self.screen.takes_response(head):
            return
        watchers, self._watchers = self._watchers, []
        super().on_response(head.with_line(self.lines) if self.lines else head, body)
        for watcher in watchers:
            if self.state is not DONE:  # it was dropped in favour of another attempt
                self._watchers.append(watcher)
                continue
            watcher.on_head(head)
            if body:
                watcher.on_body(body)
            watcher.on_end(b"")

    def on_response_head(self, head: ResponseHead) -> None:
        """Pass it on."""
        if self.screen is not None and self.screen.takes_response(head):
            return
        super().on_response_head(head.with_line(self.lines) if self.lines else head)
        if self.state is RESPONDING:
            for watcher in self._watchers:
                watcher.on_head(head)

    def on_response_body(self, data: bytes) -> None:
        """Pass it on."""
        super().on_response_body(data)
        for watcher in self._watchers:
            watcher.on_body(data)

    def on_response_end(self, trailers: bytes) -> None:
        """Pass the end on."""
        watchers, self._watchers = self._watchers, []
        super().on_response_end(trailers)
        for watcher in watchers:
            watcher.on_end(trailers)

    # --- shared

    def detach(self) -> None:
        """Its client is gone, or sent away; the call goes on for others. Only while there is a call."""
        former = self.downstream
        self.downstream = absent = AbsentClient(self.port, former.wheel, former.client, former.forwarded)
        absent.exchange = self
        former.exchange = None
        self._count(Reason.CLIENT_CLOSED)
        ends = absent.wheel.now + self.port.stream_idle if self.state is RESPONDING else self.attempt_ends
        absent.wheel.arm(absent, ends)
        if self.upstream is not None:
            self.upstream.resume_reading()

    @property
    def detachable(self) -> bool:
        """Whether there is a call that can go on without a client."""
        return self.upstream is not None and self.state in (SENT, RESPONDING)

    def give_up(self) -> None:
        """Nobody is left whom the call could be for."""
        self.drop_upstream("aborted", CANCELLED)
        self._complete(self.port.clock())
        self.downstream.abort()

    def end_shared(self, trailers: bytes, now: float) -> None:
        """The response that it got from another's call is whole."""
        watchers, self._watchers = self._watchers, []
        if self.chunked and not self.head_only:
            self.downstream.transport.write(LAST_CHUNK + trailers + b"\r\n")
        self._complete(now)
        self.downstream.finished(keep=self.keep)
        for watcher in watchers:
            watcher.on_end(trailers)

    def on_downstream_lost(self) -> None:
        """The client went away."""
        if self.sharing is None or not self.sharing.client_gone(self):
            super().on_downstream_lost()

    def on_downstream_blocked(self, blocked: bool) -> None:
        """The client reads too slowly, or does so no more."""
        if self.sharing is None:
            super().on_downstream_blocked(blocked)
        else:
            self.sharing.client_blocked(self, blocked)
            self._heard()

    def refuse(self, reject: Reject, why: str = "", mark: bytes = b"") -> None:
        """Answer with a refusal; the exchange is over."""
        if self.screen is not None and self.screen.takes_refusal(reject):
            return
        super().refuse(reject, why, (mark or again.mark(self)) + self.lines)

    def _complete(self, now: float) -> None:
        self._read = None
        watchers, self._watchers = self._watchers, []
        super()._complete(now)
        for watcher in watchers:
            watcher.on_lost()
