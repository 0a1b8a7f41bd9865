"""A constant-rate HTTP/1.1 client without coordinated omission.

    python fixedrate.py HOST PORT PATH RATE SECONDS CONNECTIONS [HEADERS]

Why our own: wrk has no rate mode, wrk2 is no Debian package, h2load and vegeta count a latency from the moment a
request was sent, so a proxy that stalls delays the next requests and hides its stall. Here request number i is due at
`start + i / rate` whatever happens, waits for a free connection if none is idle, and its latency counts from then.
`nova_services.load` is open loop too, for seconds-long overloads; its aiohttp client costs more than what is measured
here.

The clock is a periodic timerfd (nanoseconds; event loops round up to a millisecond) in the same epoll as the
connections. HEADERS is a file; requests take turns in having one of its lines. It is a script of its own, started on
the load core, with the collector off and no import it does not need. Prints one JSON object.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import select
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field

_CLOCK_MONOTONIC, _TFD_NONBLOCK, _TFD_TIMER_ABSTIME = 1, os.O_NONBLOCK, 1
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WARM_UP_SECONDS = 0.2
_GRACE_NS = 2_000_000_000


def timer(start_ns: int, interval_ns: int) -> int:
    """A descriptor that counts a first tick at `start_ns` of the monotonic clock and one more each interval."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
    spec = struct.pack("qqqq", *divmod(interval_ns, 10**9), *divmod(start_ns, 10**9))
    if descriptor < 0 or libc.timerfd_settime(descriptor, _TFD_TIMER_ABSTIME, spec, None):
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor


class Connection:
    """One keep-alive connection with at most one request in flight."""

    __slots__ = ("address", "buffer", "due_ns", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.buffer = b""
        self.due_ns = 0
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        return connection

    def reconnect(self) -> None:
        self.socket.close()
        self.buffer = b""
        self.socket = self._connect()

    def send(self, request: bytes, due_ns: int) -> None:
        self.due_ns = due_ns
        if self.socket.send(request) != len(request):
            raise ConnectionError("a request of one segment was not taken at once")

    def receive(self) -> int:
        """Status of the answer once it is complete, 0 before.

        Raises:
            ConnectionError: the peer closed or reset.
        """
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the peer")
        self.buffer = buffer = self.buffer + data if self.buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return 0
        length = _CONTENT_LENGTH.search(buffer, 0, end)
        if len(buffer) < end + 4 + (int(length[1]) if length else 0):
            return 0
        self.buffer = b""
        return int(buffer[9:12])


@dataclass
class Tally:
    """What happened; times in nanoseconds."""

    latencies: list[int] = field(default_factory=list)
    lateness: list[int] = field(default_factory=list)
    done: int = 0
    errors: int = 0


class Client:
    """Sends `total` requests, one every `interval_ns`."""

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        rate: int,
        seconds: float,
        connections: int,
        *,
        headers: tuple[str, ...] = (),
    ) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: nova-bench\r\n"
        self.requests = [f"{head}{line}\r\n\r\n".encode() for line in headers] or [f"{head}\r\n".encode()]
        self.interval_ns = 10**9 // rate
        self.total = int(rate * seconds)
        self.warm_up = int(rate * min(_WARM_UP_SECONDS, seconds / 4))
        self.tally = Tally()
        self.poll = select.epoll()
        self.idle: deque[Connection] = deque(Connection(address) for _ in range(connections))
        self.busy: dict[int, Connection] = {}
        for connection in self.idle:
            self.poll.register(connection.socket, select.EPOLLIN)
        self.due = self.sent = 0
        self.start_ns = 0

    def run(self) -> Tally:
        self.start_ns = time.monotonic_ns() + 20_000_000
        give_up_ns = self.start_ns + self.total * self.interval_ns + _GRACE_NS
        clock = timer(self.start_ns, self.interval_ns)
        self.poll.register(clock, select.EPOLLIN)
        while self.tally.done < self.total and time.monotonic_ns() < give_up_ns:
            self._turn(clock)
        self.tally.errors += self.total - self.tally.done
        os.close(clock)
        self.close()
        return self.tally

    def close(self) -> None:
        self.poll.close()
        for connection in (*self.idle, *self.busy.values()):
            connection.socket.close()

    def _turn(self, clock: int) -> None:
        for descriptor, _event in self.poll.poll(0.5):
            if descriptor == clock:
                (ticks,) = struct.unpack("Q", os.read(clock, 8))
                self.due = min(self.total, self.due + ticks)
            elif connection := self.busy.get(descriptor):
                self._receive(connection)
            else:
                self._replace_idle(descriptor)
        self._send_due()

    def _send_due(self) -> None:
        while self.sent < self.due and self.idle:
            connection = self.idle.popleft()
            due_ns = self.start_ns + self.sent * self.interval_ns
            request = self.requests[self.sent % len(self.requests)]
            self.sent += 1
            if self.sent > self.warm_up:
                self.tally.lateness.append(time.monotonic_ns() - due_ns)
            self.busy[connection.socket.fileno()] = connection
            try:
                connection.send(request, due_ns)
            except OSError:
                self._fail(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            status = connection.receive()
        except BlockingIOError:
            return
        except OSError:
            self._fail(connection)
            return
        if not status:
            return
        tally = self.tally
        tally.done += 1
        tally.errors += status != 200
        if tally.done > self.warm_up:
            tally.latencies.append(time.monotonic_ns() - connection.due_ns)
        del self.busy[connection.socket.fileno()]
        self.idle.append(connection)

    def _fail(self, connection: Connection) -> None:
        del self.busy[connection.socket.fileno()]
        self.tally.done += 1
        self.tally.errors += 1
        self._reconnect(connection)
        self.idle.append(connection)

    def _replace_idle(self, descriptor: int) -> None:
        """The server closed a connection between requests, as it may; that is no error."""
        for connection in self.idle:
            if connection.socket.fileno() == descriptor:
                self._reconnect(connection)
                return

    def _reconnect(self, connection: Connection) -> None:
        self.poll.unregister(connection.socket)
        connection.reconnect()
        self.poll.register(connection.socket, select.EPOLLIN)


def percentile(values: list[int], share: float) -> float:
    """The value that `share` of the sorted values do not exceed, by nearest rank; NaN for none."""
    return float(values[min(len(values) - 1, int(len(values) * share))]) if values else float("nan")


def main(arguments: list[str]) -> None:
    host, port, path, rate, seconds, connections, *files = arguments
    headers: tuple[str, ...] = ()
    for file in files:
        with open(file) as lines:
            headers = tuple(lines.read().splitlines())
    client = Client((host, int(port)), path, int(rate), float(seconds), int(connections), headers=headers)
    gc.collect()
    gc.disable()
    tally = client.run()
    latencies, lateness = sorted(tally.latencies), sorted(tally.lateness)
    result = {
        "requests": tally.done,
        "errors": tally.errors,
        "p50_ms": percentile(latencies, 0.50) / 1e6,
        "p99_ms": percentile(latencies, 0.99) / 1e6,
        "late_p99_ms": percentile(lateness, 0.99) / 1e6,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
