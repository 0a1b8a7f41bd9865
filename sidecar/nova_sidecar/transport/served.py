"""What a client's connection needs of those above it: its exchange, its tunnel, the port that took it in."""

from typing import TYPE_CHECKING, Protocol

from nova_sidecar.wire.grammar import Malformed
from nova_sidecar.wire.request import RequestHead, RequestReader

if TYPE_CHECKING:
    from nova_sidecar.transport.downstream import DownstreamConnection


class Handler(Protocol):
    """What a downstream connection needs of the exchange it carries."""

    def on_request_body(self, data: bytes) -> None:
        """Content of the request."""

    def on_request_end(self, trailers: bytes) -> None:
        """The request is complete."""

    def on_request_broken(self, why: Malformed) -> None:
        """The body broke HTTP; the connection is of no use any more."""

    def on_downstream_eof(self) -> None:
        """The client sends no more; it may still read."""

    def on_downstream_lost(self) -> None:
        """The client went away."""

    def on_downstream_blocked(self, blocked: bool) -> None:
        """The client reads too slowly, or does so no more."""

    def on_deadline(self, now: float) -> None:
        """The deadline that the exchange set on the connection is over."""


class Tunnelled(Protocol):
    """What a downstream connection needs of the tunnel it is one end of."""

    def on_downstream_data(self, data: bytes) -> None:
        """Bytes from the client."""

    def on_downstream_eof(self) -> None:
        """The client sends no more."""


class Service(Protocol):
    """What a downstream connection needs of the port that accepted it."""

    reader: RequestReader
    head_timeout: float

    def begin(self, connection: "DownstreamConnection", head: RequestHead) -> None:
        """Start the exchange: set ``connection.exchange``, or answer and end at once."""

    def refuse(self, connection: "DownstreamConnection", why: Malformed) -> None:
        """Answer what could not be read as a request; the connection is closed after it."""

    def head_timed_out(self, connection: "DownstreamConnection") -> None:
        """The head did not arrive in time."""

    def connected(self, connection: "DownstreamConnection") -> None:
        """A client came."""

    def disconnected(self, connection: "DownstreamConnection") -> None:
        """A client left."""
