"""A TCP link that misbehaves on command, to put between two programs that know nothing of the test."""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field

_READ = 1 << 16


@dataclass
class _Direction:
    """One way of one connection: what was read from `source` and is not yet with `sink`."""

    source: socket.socket
    sink: socket.socket
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)  # (due, data); empty data is the end
    ended: bool = False


class FaultyLink:
    """Forwards connections to `target`, with faults that can be switched on while it runs.

    `latency` seconds are added to each direction. `stalled` forwards nothing but keeps everything open, as a network
    that lost its route. The link runs in one thread.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.latency = 0.0
        self.stalled = False
        self.accepted = 0
        self.address: tuple[str, int] = ("127.0.0.1", 0)
        self._directions: list[_Direction] = []
        self._resets = False
        self._stop = False
        self._listener: socket.socket | None = None
        self.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def listen(self) -> None:
        """Take connections (again), on the same port."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        listener.listen(512)
        listener.setblocking(False)
        self.address = listener.getsockname()
        self._listener = listener

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        listener, self._listener = self._listener, None
        if listener:
            listener.close()

    def reset_all(self) -> None:
        """Reset every open connection on both sides."""
        self._resets = True

    @property
    def open_connections(self) -> int:
        """Connections through the link right now."""
        return len(self._directions) // 2

    def __enter__(self) -> "FaultyLink":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop:
            if self._resets:
                self._reset_now()
            with contextlib.suppress(OSError, ValueError):  # a socket that another thread just closed
                self._step()
        self.refuse()
        self._reset_now()

    def _step(self) -> None:
        listener = self._listener
        with selectors.DefaultSelector() as selector:
            if listener:
                selector.register(listener, selectors.EVENT_READ)
            for way in () if self.stalled else self._directions:
                if not way.ended and len(way.waiting) < 16:
                    selector.register(way.source, selectors.EVENT_READ, way)
            for key, _ in selector.select(0.005):
                if key.data is None:
                    self._accept(key.fileobj)  # type: ignore[arg-type]
                else:
                    self._read(key.data)
        if not self.stalled:
            for way in list(self._directions):
                self._deliver(way)

    def _accept(self, listener: socket.socket) -> None:
        near, _ = listener.accept()
        self.accepted += 1
        try:
            far = socket.create_connection(self.target, 2)
        except OSError:
            _abort(near)
            return
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._directions += [_Direction(near, far), _Direction(far, near)]

    def _read(self, way: _Direction) -> None:
        try:
            data = way.source.recv(_READ)
        except OSError:
            self._drop(way)
            return
        way.ended = not data
        way.waiting.append((time.monotonic() + self.latency, data))

    def _deliver(self, way: _Direction) -> None:
        try:
            while way.waiting and way.waiting[0][0] <= time.monotonic():
                _, data = way.waiting[0]
                if not data:
                    way.sink.shutdown(socket.SHUT_WR)
                    way.waiting.popleft()
                    continue
                sent = way.sink.send(data)
                way.waiting.popleft()
                if sent < len(data):
                    way.waiting.appendleft((0.0, data[sent:]))
        except BlockingIOError:
            return
        except OSError:
            self._drop(way)
            return
        other = next((each for each in self._directions if each.source is way.sink), None)
        if other and way.ended and other.ended and not way.waiting and not other.waiting:
            self._drop(way, abort=False)

    def _drop(self, way: _Direction, *, abort: bool = True) -> None:
        for sock in (way.source, way.sink):
            if abort:
                _abort(sock)
            sock.close()
        self._directions = [each for each in self._directions if each.source not in (way.source, way.sink)]

    def _reset_now(self) -> None:
        self._resets = False
        while self._directions:
            self._drop(self._directions[0])


def _abort(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
