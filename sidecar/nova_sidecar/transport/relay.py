"""One TCP connection passed on: what one end sends, the other gets, as it is and in its order.

Rules:

* An end that cannot take more stops the reading of the other one; nothing is held here but what was read already.
* An end that closes its sending side is still written to (half-close). TLS has no such thing: it ends both ways.
* An end that is reset resets the other one: nobody takes a torn stream for a whole one.
* What an end sends before the other one is there is kept up to one read, then it is read no further.
* Silence in both directions is bounded, and so is the time for what is left to be sent at the end.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from math import inf
from typing import Any, Final, Protocol

from nova_sidecar.transport.endpoints import Endpoint
from nova_sidecar.transport.seat import CloseReason, Seat
from nova_sidecar.transport.tcp import reset_on_close
from nova_sidecar.transport.wheel import Timed, Wheel

FLUSH_TIMEOUT: Final = 30.0
"""Seconds for what is left to be sent when both ends have closed."""
TLS_LINGER: Final = 2.0
"""Seconds of silence that end a relay whose client sends no more, where TLS cannot tell the upstream so: most such
clients are gone, and the others wait for an answer that is under way."""


class RelayEnd(StrEnum):
    """How a relayed connection ended."""

    FINISHED = "finished"  # both ends said that they are done
    DOWNSTREAM_RESET = "downstream_reset"
    UPSTREAM_RESET = "upstream_reset"
    IDLE = "idle"
    REFUSED = "refused"  # a limit, an open breaker, or no connection to the upstream
    SHUTDOWN = "shutdown"  # the sidecar left, and the time to drain was over


class Side(asyncio.Protocol):
    """One end of a relay; as the upstream's end it has a seat in the pool of the dialer."""

    __slots__ = (
        "close_reason", "ended", "endpoint", "held", "name", "other", "reading", "relay", "requests", "retire_at",
        "reusable", "seat", "transport",
    )  # fmt: skip

    def __init__(self, seat: Seat[Any] | None = None) -> None:
        self.transport: Any = None
        self.relay: Relay | None = None
        self.other: Side | None = None
        self.reading = True
        self.ended = False
        """It sends no more."""
        self.held = b""
        """What came before there was another end; one read at most."""
        self.close_reason: CloseReason | None = None
        # as the upstream's end
        self.seat = seat
        self.endpoint: Endpoint = seat.endpoint if seat is not None else ("", 0)
        self.name = f"{self.endpoint[0]}:{self.endpoint[1]}"
        self.retire_at = inf
        self.requests = 0
        self.reusable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport = transport
        if self.relay is not None:
            self.relay.arrived()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from this end."""
        if self.other is not None and self.relay is not None:
            self.relay.passed(self, data)
        else:
            self.held += data
            self.read(on=False)

    def eof_received(self) -> bool:
        """asyncio: this end sends no more; True keeps it open to be written to."""
        self.ended = True
        if self.relay is not None:
            self.relay.half_closed(self)
        return bool(self.transport.can_write_eof())

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: this end is gone."""
        self.close_reason = self.close_reason or "peer"
        if self.relay is not None:
            self.relay.lost(self, exc)

    def pause_writing(self) -> None:
        """asyncio: this end reads too slowly."""
        if self.other is not None:
            self.other.read(on=False)

    def resume_writing(self) -> None:
        """asyncio: this end has caught up."""
        if self.other is not None:
            self.other.read(on=True)

    def read(self, *, on: bool) -> None:
        """Take bytes from this end, or none for now."""
        if self.reading is not on and not self.transport.is_closing():
            self.reading = on
            if on:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def close(self, reason: CloseReason) -> None:
        """Reset it."""
        if not self.close_reason:
            self.close_reason = reason
        reset_on_close(self.transport)
        self.transport.abort()

    def __repr__(self) -> str:
        return f"<Side {self.name} {self.close_reason or 'open'}>"


class Bytes(Protocol):
    """What is counted of relayed bytes; the pipeline's statistics provide it."""

    bytes_in: int
    bytes_out: int


class RelayOwner(Protocol):
    """What a relay needs of the port that accepted it."""

    @property
    def stats(self) -> Bytes:
        """What relayed bytes are counted in."""

    def connected(self, relay: "Relay") -> None:
        """A client came: find it an upstream, or refuse it."""

    def ended(self, relay: "Relay", how: RelayEnd) -> None:
        """Both ends are gone, or the client is and there is no upstream yet; called once."""


class Relay(Timed):
    """Two ends of one connection. `idle` is the longest silence in seconds, infinity for none."""

    __slots__ = (
        "_closing", "_counted", "_how", "_left", "_owner", "bytes_in", "bytes_out", "client", "connected_at",
        "downstream", "idle", "started", "upstream", "waiting", "wheel",
    )  # fmt: skip

    def __init__(self, owner: RelayOwner, wheel: Wheel, clock: Callable[[], float], idle: float) -> None:
        super().__init__()
        self._owner = owner
        self._counted = owner.stats
        self.wheel = wheel
        self.idle = idle
        self.started = clock()
        self.connected_at = 0.0
        self.client = ""
        self.waiting = True
        """For a connection to the upstream."""
        self.downstream = Side()
        self.downstream.relay = self
        self.upstream: Side | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self._left = 1
        self._how = RelayEnd.FINISHED
        self._closing = False

    # --- joining the ends

    def arrived(self) -> None:
        """The client is connected."""
        peer = self.downstream.transport.get_extra_info("peername")
        self.client = peer[0] if peer else ""
        self._owner.connected(self)

    def join(self, upstream: Side, now: float) -> None:
        """The upstream is there: pass on what is waiting, and go on."""
        downstream = self.downstream
        self.waiting = False
        self.connected_at = now
        self.upstream = upstream
        self._left = 2
        upstream.relay = self
        upstream.other, downstream.other = downstream, upstream
        self._arm(self.idle)
        for side in (downstream, upstream):
            if side.held:
                self.passed(side, side.held)
                side.held = b""
            side.read(on=True)
            if side.ended:
                self.half_closed(side)

    def limit(self, idle: float) -> None:
        """From now on the longest silence is this, in seconds."""
        if self._closing or idle == self.idle or (self.idle <= TLS_LINGER and self.downstream.ended):
            return
        self.idle = idle
        if idle == inf:
            self.deadline = inf
        elif not self.waiting:
            self._arm(idle)

    # --- what the ends tell

    def passed(self, side: Side, data: bytes) -> None:
        """Bytes from one end to the other."""
        if side is self.downstream:
            self.bytes_in += len(data)
            self._counted.bytes_in += len(data)
        else:
            self.bytes_out += len(data)
            self._counted.bytes_out += len(data)
        other = side.other
        if other is not None and not other.close_reason:
            other.transport.write(data)
        if not self._closing and self.idle != inf:
            self.deadline = self.wheel.now + self.idle

    def half_closed(self, side: Side) -> None:
        """One end sends no more."""
        other = side.other
        if other is None or other.close_reason:
            return
        if other.ended:
            self._close()
        elif other.transport.can_write_eof():
            other.transport.write_eof()
        else:
            self.idle = min(self.idle, TLS_LINGER)
            self._arm(self.idle)

    def lost(self, side: Side, error: Exception | None) -> None:
        """One end is gone; the other one follows, in order or by a reset."""
        self._left -= 1
        if error is not None and not self._closing:
            self._end(RelayEnd.DOWNSTREAM_RESET if side is self.downstream else RelayEnd.UPSTREAM_RESET)
        elif self._left:
            self._close()
        if not self._left or self.upstream is None:
            self.waiting = False
            self.wheel.remove(self)
            self._owner.ended(self, self._how)
            for end in (self.downstream, self.upstream):
                if end is not None:  # no cycles: the collector of those runs rarely here
                    end.relay = end.other = None

    def expire(self, now: float) -> None:
        """It was silent for too long, or did not get rid of its last bytes."""
        if self._closing:
            self._reset()
        elif self.downstream.ended and self.idle <= TLS_LINGER:
            self._close()
        else:
            self._end(RelayEnd.IDLE)

    # --- ending

    def refuse(self) -> None:
        """There is no upstream for it."""
        self._end(RelayEnd.REFUSED)

    def cut(self) -> None:
        """The sidecar leaves."""
        self._end(RelayEnd.SHUTDOWN)

    def _end(self, how: RelayEnd) -> None:
        """Reset both ends."""
        if not self._closing:
            self._closing = True
            self._how = how
        self._reset()

    def _reset(self) -> None:
        for side in (self.downstream, self.upstream):
            if side is not None and side.close_reason != "peer":
                side.close("aborted")

    def _close(self) -> None:
        """Close both ends when what is written to them has gone."""
        self._closing = True
        for side in (self.downstream, self.upstream):
            if side is not None and not side.close_reason:
                side.transport.close()
        self._arm(FLUSH_TIMEOUT)

    def _arm(self, seconds: float) -> None:
        if seconds != inf:
            self.wheel.arm(self, self.wheel.after(seconds))

    def __repr__(self) -> str:
        state = "waiting" if self.waiting else "closing" if self._closing else "open"
        return f"<Relay {self.client} {state} in={self.bytes_in} out={self.bytes_out}>"
