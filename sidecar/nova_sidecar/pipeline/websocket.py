"""A WebSocket through the sidecar: relayed as it is, and closed in good order where Nova has to close it.

    open ── drain, age, idle ──▶ ending ── between messages ──▶ closing ── the client's close ──▶ left ── app's end ──▶
      └── and the two ends are closing by themselves ──▶ parting ── both have ended ──▶

* ending: the app is in the middle of a message; that is let through to its end.
* closing: the client has our close frame, so nothing of the app goes on to it any more (RFC 6455 section 5.5.1).
  What the client still sends does reach the app: no message of a client is lost.
* parting: one end has sent a close frame of its own; everything is relayed, as before, for a bounded time.
* left: the client has answered. The app gets a close frame of its own, 1001, as if its client had left, and is given
  a moment to end.

The app is told after the client, because it is the client who does not expect this: what it sends until it learns of
the close took a decision of nobody here. The app's messages of that time have no way to go any more; it is told by
the close that they may not have arrived.

A stream whose frames cannot be followed is closed without a close frame: one put in at the wrong place would be taken
for content.
"""

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final

from nova_sidecar.pipeline.tunnel import Tunnel
from nova_sidecar.policy.closing import Closed, Closing
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.transport.downstream import DownstreamConnection
from nova_sidecar.transport.upstream import UpstreamConnection
from nova_sidecar.wire.websocket import FrameTracker, Stop, close_frame

if TYPE_CHECKING:
    from nova_sidecar.pipeline.exchange import Exchange
    from nova_sidecar.pipeline.stats import WebSocketStats

GOING_AWAY: Final = 1001
REPLY_TIMEOUT: Final = 3.0
"""Longest wait for an end's close frame after the other one, seconds."""
LEAVE_TIMEOUT: Final = 2.0
"""Longest wait for the app to end its connection after its close frame, seconds."""

_WORDS: Final = {Closed.DRAIN: b"this instance is leaving", Closed.AGE: b"maximum age", Closed.IDLE: b"idle"}
_OURS: Final = frozenset((*_WORDS, Closed.CUT))


class _State(Enum):
    OPEN = "open"
    ENDING = "ending"
    PARTING = "parting"
    CLOSING = "closing"
    LEFT = "left"


_OPEN, _ENDING, _PARTING, _CLOSING, _LEFT = _State


class WebSocketTunnel(Tunnel):
    """See the module."""

    __slots__ = ("_closed", "_incoming", "_outgoing", "_state", "_stats")

    def __init__(
        self,
        exchange: "Exchange",
        downstream: DownstreamConnection,
        upstream: UpstreamConnection,
        closing: Closing,
        stats: "WebSocketStats",
    ) -> None:
        super().__init__(exchange, downstream, upstream, closing)
        self._limit = downstream.wheel.after(closing.age_limit())
        self._stats = stats
        self._incoming = FrameTracker(masked=True)
        self._outgoing = FrameTracker(masked=False)
        self._state = _OPEN
        self._closed: Closed | None = None
        stats.opened += 1

    # --- what arrives

    def on_downstream_data(self, data: bytes) -> None:
        """Bytes from the client."""
        self._exchange.bytes_in += len(data)
        state = self._state
        if state is _CLOSING:
            self._take_last(data)
        elif state is not _LEFT:
            incoming = self._incoming
            incoming.feed(data)
            self._upstream.transport.write(data)
            self._renew()
            if incoming.closing:
                self._closed = self._closed or Closed.CLIENT
                if state is _ENDING:
                    self._part()

    def on_upstream_data(self, data: bytes) -> None:
        """Bytes from the app."""
        state = self._state
        if state is _OPEN or state is _PARTING:
            self._exchange.bytes_out += len(data)
            outgoing = self._outgoing
            outgoing.feed(data)
            self.downstream.transport.write(data)
            self._renew()
            if outgoing.closing and self._closed is None:
                self._closed = Closed.UPSTREAM
        elif state is _ENDING:
            end = self._outgoing.feed(data, Stop.MESSAGE_END)
            self._exchange.bytes_out += end
            self.downstream.transport.write(data[:end])
            self._try_to_close()

    def on_downstream_eof(self) -> None:
        """The client sends no more."""
        self._closed = self._closed or Closed.CLIENT_LOST
        if self._state is _CLOSING:
            self._leave()
        elif self._said_goodbye:
            self.end()
        elif self._state is not _LEFT:
            super().on_downstream_eof()

    def on_upstream_eof(self) -> None:
        """The app sends no more."""
        self._closed = self._closed or Closed.UPSTREAM_LOST
        if self._state is _LEFT or self._said_goodbye:
            self.end()
        elif self._state is _CLOSING:
            self._half_closed = True  # it is gone, and the client is not told to wait for it
        else:
            super().on_upstream_eof()

    @property
    def _said_goodbye(self) -> bool:
        return self._incoming.ended and self._outgoing.ended

    def on_downstream_lost(self) -> None:
        """The client's connection is over."""
        self._closed = self._closed or Closed.CLIENT_LOST
        if self._state is _CLOSING:
            self._tell_app()
        self.end()

    def on_upstream_failed(self, reason: Reason, why: str) -> None:
        """The app's connection is over."""
        self._closed = self._closed or Closed.UPSTREAM_LOST
        self.end()

    def on_downstream_blocked(self, blocked: bool) -> None:
        """The client reads too slowly, or does so no more."""
        if self._state is not _CLOSING and self._state is not _LEFT:
            super().on_downstream_blocked(blocked)

    # --- closing

    def on_deadline(self, now: float) -> None:
        """It is idle, old or to be closed because the pod leaves; or somebody took too long to end."""
        if self._state is _OPEN and not self._half_closed:
            if self._closed is None:
                aged = Closed.DRAIN if self._exchange.port.leaving else Closed.AGE
                self._closed = Closed.IDLE if now < self._limit else aged
            self._state = _ENDING
            self._limit = inf
            self._try_to_close()
            return
        if self._state is _CLOSING:
            self._tell_app()
        self.end()

    def close_after(self, seconds: float) -> None:
        """The pod leaves: close in so many seconds, or at the end of the message then under way."""
        wheel = self.downstream.wheel
        self._limit = min(self._limit, wheel.after(seconds))
        if self._state is _OPEN and self._limit < self.downstream.deadline:
            wheel.arm(self.downstream, self._limit)

    def _try_to_close(self) -> None:
        """Say it to the client, if this is between messages; in `ending` each piece of data asks again."""
        outgoing, incoming = self._outgoing, self._incoming
        if outgoing.lost:
            self.end()
        elif outgoing.closing or incoming.closing:
            self._part()
        elif not outgoing.between_messages:
            self._wait(self._idle)
        else:
            self.downstream.transport.write(self._frame())
            self._state = _CLOSING
            self._upstream.resume_reading()  # nothing of it goes on, so a slow client is no reason to hold it up
            self._wait(REPLY_TIMEOUT)
            if self.downstream.eof:
                self._leave()

    def _part(self) -> None:
        self._state = _PARTING
        self._limit = self.downstream.wheel.after(REPLY_TIMEOUT)
        self.downstream.wheel.arm(self.downstream, self._limit)

    def _frame(self) -> bytes:
        reason = self._closed
        code = self._closing.close_code if reason in (Closed.DRAIN, Closed.CUT) else GOING_AWAY
        return close_frame(code, _WORDS.get(reason, b"") if reason else b"")

    def _take_last(self, data: bytes) -> None:
        """What the client sends before its close frame goes on to the app; the close frame itself does not, since it
        echoes what the app need not know."""
        incoming = self._incoming
        end = incoming.feed(data, Stop.CLOSE)
        self._upstream.transport.write(data[:end])
        if end < len(data) or incoming.ended:
            self._leave()

    def _leave(self) -> None:
        """The client is done. Let the app end."""
        self._tell_app()
        if self._half_closed:
            self.end()
            return
        self._state = _LEFT
        self._wait(LEAVE_TIMEOUT)

    def _tell_app(self) -> None:
        if self._incoming.between_frames and not self._half_closed:
            self._upstream.transport.write(close_frame(GOING_AWAY, mask=self._closing.mask()))

    def cut(self) -> None:
        """All time is over: say so where that is possible, and close."""
        if self._state in (_OPEN, _ENDING, _PARTING):
            outgoing = self._outgoing
            cut = not (outgoing.lost or outgoing.closing or outgoing.between_messages)
            self._closed = Closed.CUT if cut else self._closed or Closed.DRAIN
            if outgoing.between_frames and not self._half_closed:
                self.downstream.transport.write(self._frame())
        if self._state is not _LEFT:
            self._tell_app()
        self.end()

    def end(self) -> None:
        """Close both connections, and count."""
        exchange, reason = self._exchange, self._closed or Closed.CLIENT_LOST
        self._state = _LEFT
        self._stats.close(reason, exchange.port.clock() - exchange.started)
        if reason in _OURS:
            exchange.reason = reason
        super().end()

    def __repr__(self) -> str:
        return f"<WebSocketTunnel {self._state.value}>"
