"""One end of a TCP connection in a transcript, and a listener to get one from."""

import contextlib
import select
import socket
import struct
import time

from tests.crowd import CROWD

from .message import Message, read_head, read_request, read_response

PATIENCE = 5.0 * CROWD
"""Seconds any single wait may take before the test fails."""


class Ended(AssertionError):  # noqa: N818 - it says what the other end did
    """The other end closed in the middle of what was asked for."""


class Peer:
    """A connected socket that says what it expects; `received` keeps every byte that arrived."""

    def __init__(self, sock: socket.socket, *, patience: float = PATIENCE) -> None:
        sock.settimeout(patience)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.received = bytearray()
        self._taken = 0
        self._ended = False

    @classmethod
    def connect(cls, address: tuple[str, int], *, receive_buffer: int | None = None) -> "Peer":
        """Connect; `receive_buffer` bytes makes a peer that soon stops accepting data."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return cls(sock)

    def __repr__(self) -> str:
        return f"<Peer received {bytes(self.received[-200:])!r}{' ended' if self._ended else ''}>"

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def unread(self) -> bytes:
        """What arrived and was not asked for yet."""
        return bytes(self.received[self._taken :])

    # sending

    def send(self, data: bytes) -> None:
        """Send everything; waits while the other end does not read."""
        self.socket.sendall(data)

    def send_if_open(self, data: bytes) -> None:
        """Send to an end that is entitled to have closed already."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def trickle(self, data: bytes, *, every: float) -> None:
        """Send byte by byte, one `every` so many seconds; stops when the other end answers or closes."""
        for byte in data:
            if select.select([self.socket], [], [], every)[0]:
                return
            self.send(bytes([byte]))

    def finish(self) -> None:
        """Half-close: no more data from here, still listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close with FIN, as a process that exits does."""
        self.socket.close()

    # receiving

    def read_exactly(self, count: int) -> bytes:
        """Read this many bytes."""
        while len(self.received) - self._taken < count:
            self._receive(f"{count} bytes")
        return self._take(count)

    def read_until(self, marker: bytes) -> bytes:
        """Read up to and including the marker."""
        while (at := self.received.find(marker, self._taken)) < 0:
            self._receive(repr(marker))
        return self._take(at + len(marker) - self._taken)

    def read_to_end(self) -> bytes:
        """Read until the other end closes in order."""
        while not self._ended:
            self._receive("the end", ends=True)
        return self._take(len(self.received) - self._taken)

    def discard(self, count: int) -> int:
        """Read at least this many bytes without keeping them, for big bodies; returns how many."""
        total = len(self.received) - self._taken
        del self.received[:]
        self._taken = 0
        while total < count:
            data = self.socket.recv(1 << 20)
            assert data, f"the connection ended after {total} of {count} bytes"
            total += len(data)
        return total

    def request(self) -> Message:
        """Read one complete request."""
        return read_request(self)

    def response(self, to: str = "GET", *, interim: bool = False) -> Message:
        """Read one complete response to a request of the method `to`."""
        return read_response(self, to=to, interim=interim)

    def head(self) -> Message:
        """Read a start line and the field lines only."""
        return read_head(self)

    def exchange(self, data: bytes, to: str = "GET") -> Message:
        """Send a request and read its response."""
        self.send(data)
        return self.response(to)

    # what the other end does

    def expect_closed(self, *, within: float = PATIENCE) -> bytes:
        """The other end closes (in order or by reset); returns what it still sent before."""
        deadline = time.monotonic() + within
        self.socket.settimeout(within)
        while not self._ended:
            with contextlib.suppress(ConnectionError):
                self._receive("a close", ends=True)
                assert time.monotonic() < deadline, f"still open after {within} s: {self!r}"
                continue
            self._ended = True
        return self._take(len(self.received) - self._taken)

    def is_closed(self) -> bool:
        """Whether the other end has closed by now."""
        self.poll()
        return self._ended

    def poll(self) -> bytes:
        """Take in what already arrived, without waiting; returns what is unread."""
        while not self._ended and select.select([self.socket], [], [], 0)[0]:
            try:
                self._receive("anything", ends=True)
            except ConnectionError:
                self._ended = True
        return self.unread

    def _take(self, count: int) -> bytes:
        data = bytes(self.received[self._taken : self._taken + count])
        self._taken += count
        return data

    def _receive(self, wanted: str, *, ends: bool = False) -> None:
        try:
            data = b"" if self._ended else self.socket.recv(1 << 16)
        except TimeoutError:
            raise AssertionError(f"waited for {wanted}, unread {self.unread[-500:]!r}") from None
        if not data:
            self._ended = True
            if not ends:
                raise Ended(f"ended while waiting for {wanted}, unread {self.unread[-500:]!r}")
        self.received += data


class Listener:
    """A listening socket whose connections the test takes itself, one by one."""

    def __init__(
        self,
        *,
        address: tuple[str, int] = ("127.0.0.1", 0),
        backlog: int = 512,
        receive_buffer: int | None = None,
    ) -> None:
        self._receive_buffer = receive_buffer
        self._backlog = backlog
        self.address = address
        self.peers: list[Peer] = []
        self.open()

    def open(self) -> None:
        """Listen; again on the same port after `close`, like an app that restarts."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(self.address)
        self._socket.listen(self._backlog)
        self.address = self._socket.getsockname()

    def accept(self) -> Peer:
        """Take the next connection; waits for it."""
        try:
            sock, _ = self._socket.accept()
        except TimeoutError:
            raise AssertionError("nobody connected") from None
        self.peers.append(Peer(sock))
        return self.peers[-1]

    def pending(self) -> bool:
        """Whether a connection waits to be taken."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        """Stop listening; what is connected stays so. The shutdown wakes a thread that waits in `accept`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def close_all(self) -> None:
        """Stop listening and close every connection."""
        self.close()
        for peer in self.peers:
            peer.close()
