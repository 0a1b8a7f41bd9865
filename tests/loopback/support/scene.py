"""A transcript on both sides of an HTTP/2 port: the test plays the client and the upstream."""

from .http2 import End, request_fields
from .peer import Listener, Peer
from .sidecar import Sidecar
from .waiting import eventually


class Scene:
    """A sidecar whose upstream is played by the test: `client` connects, `upstream` takes the next connection."""

    def __init__(self, sidecar: Sidecar, listener: Listener, direction: str = "inbound") -> None:
        self.sidecar = sidecar
        self.direction = direction
        self.listener = listener
        self.opened: list[Peer] = []

    def client(self, initial: dict[int, int] | None = None) -> End:
        peer = Peer.connect(self.sidecar.address())
        self.opened.append(peer)
        return End(peer, client=True, initial=initial)

    def upstream(self, initial: dict[int, int] | None = None) -> End:
        return End(self.listener.accept(), client=False, initial=initial)

    def pair(self, **initial: dict[int, int]) -> tuple[End, End]:
        """A client with a request to /a under way, which the upstream has read."""
        client = self.client(initial.get("client"))
        client.headers(1, request_fields("/a", "POST"))
        upstream = self.upstream(initial.get("upstream"))
        upstream.head(1)
        return client, upstream

    def close(self) -> None:
        """Close everything on both sides, and wait until the sidecar has seen it."""
        for peer in self.opened:
            peer.close()
        eventually(self._empty)
        self.listener.peers.clear()

    def _empty(self) -> bool:
        while self.listener.pending():
            self.listener.accept()
        for peer in self.listener.peers:
            peer.close()
        shown = self.sidecar.stats()[self.direction]["web"]
        left: list[int] = [shown["inFlight"], shown["pool"]["open"], shown["downstreamConnections"]]
        return left == [0, 0, 0]
