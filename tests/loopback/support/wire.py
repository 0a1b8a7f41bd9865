"""A transcript through the shared sidecar: clients on one side, the app's connections on the other."""

from .message import Message
from .peer import Listener, Peer
from .sidecar import Sidecar
from .waiting import eventually


class Wire:
    """Clients to a listener of the sidecar and the app behind it, both played by the test."""

    def __init__(self, sidecar: Sidecar, upstream: Listener) -> None:
        self.sidecar = sidecar
        self._upstream = upstream
        self._opened: list[Peer] = []

    def client(self, name: str = "web", *, receive_buffer: int | None = None) -> Peer:
        """Connect a client."""
        peer = self.sidecar.connect(name, receive_buffer=receive_buffer)
        self._opened.append(peer)
        return peer

    def app(self) -> Peer:
        """Take the next connection that the sidecar opens to the app."""
        peer = self._upstream.accept()
        self._opened.append(peer)
        return peer

    def arrived(self, data: bytes, name: str = "web") -> tuple[Peer, Peer, Message]:
        """A client sends a complete request: the client, the app's connection and the request as the app got it."""
        client = self.client(name)
        client.send(data)
        app = self.app()
        return client, app, app.request()

    def answered(self, data: bytes, reply: bytes, name: str = "web", to: str = "GET") -> Message:
        """The response that a client gets when the app answers its request with these bytes and closes."""
        client, app, _ = self.arrived(data, name)
        app.send(reply)
        app.close()
        return client.response(to)

    def refused(self, data: bytes, name: str = "web", to: str = "GET") -> Message:
        """The refusal of a request: the connection is closed after it and the app never hears of it."""
        client = self.client(name)
        client.send_if_open(data)
        refusal = client.response(to)
        rest = client.expect_closed()
        assert not rest, f"more than one response: {refusal} and {rest!r}"
        assert not self._upstream.pending(), "the app was called"
        return refusal

    def untouched(self) -> bool:
        """Whether no connection to the app waits to be taken."""
        return not self._upstream.pending()

    def gone(self, peer: Peer) -> None:
        """Wait until the sidecar has let go of this connection."""
        eventually(peer.is_closed)

    def close(self) -> None:
        """Close everything this transcript opened."""
        for peer in self._opened:
            peer.close()

    def drop_pending(self) -> None:
        """Close what the sidecar opened and nobody took."""
        while self._upstream.pending():
            self._upstream.accept().close()
        self._upstream.peers.clear()
