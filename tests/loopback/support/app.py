"""An app that answers by itself: a thread per connection, every request kept for the test to look at."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .message import Message, response
from .peer import Listener, Peer


@dataclass
class Call:
    """One request as the app got it, with the connection it came on (numbered from 0)."""

    connection: int
    request: Message
    peer: Peer


Answer = Callable[[Call], bytes | None]


def ok(_: Call) -> bytes:
    """Answer 200 with a short body."""
    return response(body=b"ok")


class App:
    """Answers each request with the bytes that `answer` returns; None: `answer` did it all and the connection ends.

    `answer` may be replaced while the app runs.
    """

    def __init__(self, answer: Answer = ok, *, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.connections: list[Peer] = []
        self.broken: list[str] = []
        """What was wrong with requests that were not simply cut short."""
        self._listener = Listener(address=address)
        self.address = self._listener.address
        self._closing = False
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def requests(self) -> list[Message]:
        """Every request so far."""
        return [call.request for call in self.calls]

    @property
    def received(self) -> bytes:
        """Every byte that any connection delivered."""
        return b"".join(bytes(peer.received) for peer in list(self.connections))

    @property
    def open_connections(self) -> int:
        """Connections that the other side has not closed."""
        return sum(peer.socket.fileno() >= 0 for peer in list(self.connections))

    def stop(self) -> None:
        """Close the listener and every connection with FIN, as a process that is killed does."""
        self._listener.close()
        for peer in list(self.connections):
            with contextlib.suppress(OSError):
                peer.socket.shutdown(2)

    def refuse_new(self) -> None:
        """Close the listener only."""
        self._listener.close()

    def restart(self) -> None:
        """Listen again on the same port."""
        self._listener.open()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def __enter__(self) -> "App":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self, listener: Listener) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                try:
                    peer = listener.accept()
                except AssertionError:
                    continue
                peer.socket.settimeout(60)
                number = len(self.connections)
                self.connections.append(peer)
                threading.Thread(target=self._serve, args=(peer, number), daemon=True).start()

    def _serve(self, peer: Peer, number: int) -> None:
        with contextlib.suppress(OSError, AssertionError), peer:
            while True:
                call = Call(number, self._read(peer), peer)
                self.calls.append(call)
                reply = self.answer(call)
                if reply is None:
                    return
                peer.send(reply)
                if b"connection: close" in reply.lower():
                    return

    def _read(self, peer: Peer) -> Message:
        try:
            return peer.request()
        except (AssertionError, ValueError) as error:
            if not peer.is_closed():
                self.broken.append(f"{error}: {bytes(peer.received)!r}")
            raise AssertionError from error
