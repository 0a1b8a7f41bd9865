"""A closed-loop gRPC client: unary calls over HTTP/2 connections, as many streams in flight on each as asked for.

    python grpcload.py HOST PORT PATH SECONDS CONNECTIONS STREAMS REQUEST_BYTES RESPONSE_BYTES [CALLS]

Why our own: h2load repeats one header block, and a proxy that remembers blocks would look better with it than behind
real clients, whose every call has a `traceparent` and a `grpc-timeout` of its own. With CALLS, a file of `write_calls`,
no two calls are alike: the client of Go indexes such fields, which changes the header table with every call.

Everything that can be is encoded before the clock starts. During the run a call is a few bytes objects and one slice of
a join, and a response is found by walking over frame headers, so that the generator takes a few microseconds a call.
It is a script of its own, started on the load core. Prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LARGEST_WINDOW = (1 << 31) - 1
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK = 1, 1
_GRACE_SECONDS = 2.0
_HEAD = struct.Struct(">HBBBI")  # the 24-bit length as 16 bits and 8 bits, type, flags, stream
_PACK_STREAM = struct.Struct(">I").pack


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 255, kind, flags, stream) + payload


def _string(text: bytes) -> bytes:
    """A string literal without Huffman coding (RFC 7541 section 5.2)."""
    if len(text) < 127:
        return bytes((len(text),)) + text
    rest, more = len(text) - 127, b""
    while rest >= 128:
        more += bytes((rest & 127 | 128,))
        rest >>= 7
    return b"\x7f" + more + bytes((rest,)) + text


def block(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A header block of literals that leaves the header table alone."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def call_fields(path: str) -> list[tuple[bytes, bytes]]:
    """What every call carries."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"bench"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"nova-bench"),
    ]


class Connection:
    """One connection: calls in flight, windows and what was measured."""

    def __init__(self, address: tuple[str, int], blocks: Iterator[bytes], size: int) -> None:
        self.socket = socket.create_connection(address, timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.blocks = blocks
        message = b"\x00" + struct.pack(">I", size - 5) + b"m" * (size - 5)
        self.data_head = frame(_DATA, _END_STREAM, 0, message)[:5]
        self.message = message
        self.window = 65535
        self.stream = 1
        self.sent_at: dict[int, float] = {}
        self.latencies: list[float] = []
        self.done = 0
        self.errors = 0
        self.received = 0
        self.exhausted = False
        self._tail = b""
        settings = struct.pack(">HIHI", 3, 0, 4, _LARGEST_WINDOW)
        update = struct.pack(">I", _LARGEST_WINDOW - 65535)
        self.socket.sendall(_PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW_UPDATE, 0, 0, update))

    def send(self, calls: int) -> None:
        """Begin so many calls, as far as the connection's window and the blocks go."""
        parts: list[bytes] = []
        now = time.perf_counter()
        for _ in range(min(calls, self.window // len(self.message))):
            head = next(self.blocks, None)
            if head is None:
                self.exhausted = True
                break
            number = _PACK_STREAM(self.stream)
            parts += (head[:5], number, head[5:], self.data_head, number, self.message)
            self.sent_at[self.stream] = now
            self.stream += 2
        if parts:
            self.window -= len(self.message) * (len(parts) // 6)
            self._write(b"".join(parts))

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                select.select([], [self.socket], [], 1.0)

    def receive(self) -> None:
        """Read what is there and account for it. Raises ConnectionError when the peer closed."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("closed by the peer")
        data = self._tail + data if self._tail else data
        at, size = 0, len(data)
        while at + 9 <= size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            end = at + 9 + (high << 8 | low)
            if end > size:
                break
            if kind <= _HEADERS:  # DATA or HEADERS
                if kind == _DATA:
                    self.received += end - at - 9
                if flags & _END_STREAM:
                    self._finish(stream)
            else:
                self._control(kind, flags, stream, data[at + 9 : end])
            at = end
        self._tail = data[at:]

    def _finish(self, stream: int) -> None:
        sent_at = self.sent_at.pop(stream, None)
        if sent_at is not None:
            self.latencies.append(time.perf_counter() - sent_at)
            self.done += 1

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE and stream == 0:
            self.window += struct.unpack(">I", payload)[0]
        elif kind == _RST_STREAM:
            self.errors += self.sent_at.pop(stream, None) is not None
        elif kind == _SETTINGS and not flags & _ACK:
            self._write(frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._write(frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            raise ConnectionError("the peer said goodbye")


def run(connections: list[Connection], streams: int, seconds: float) -> float:
    """Keep `streams` calls in flight on each connection; returns the seconds from the first call to the last answer."""
    poll = select.epoll()
    by_descriptor = {connection.socket.fileno(): connection for connection in connections}
    for descriptor, connection in by_descriptor.items():
        connection.socket.setblocking(False)
        poll.register(descriptor, select.EPOLLIN)
    began = time.perf_counter()
    ends = began + seconds
    for connection in connections:
        connection.send(streams)
    while True:
        now = time.perf_counter()
        sending = now < ends
        if not sending and (now > ends + _GRACE_SECONDS or not any(each.sent_at for each in connections)):
            break
        if all(each.exhausted and not each.sent_at for each in connections):
            break
        for descriptor, _event in poll.poll(0.2):
            connection = by_descriptor[descriptor]
            try:
                connection.receive()
            except (BlockingIOError, InterruptedError):
                continue
            if sending and not connection.exhausted:
                connection.send(streams - len(connection.sent_at))
    poll.close()
    return min(time.perf_counter(), ends + _GRACE_SECONDS) - began


def repeated(path: str) -> Iterator[bytes]:
    """The HEADERS frame of the same call for ever; the stream is filled in later."""
    head = frame(_HEADERS, 4, 0, block(call_fields(path)))
    head = head[:5] + head[9:]
    while True:
        yield head


def write_calls(file: Path, path: str, connections: int, calls: int) -> None:
    """For each connection the header blocks of so many calls, each with its own trace and timeout, encoded as a client
    does that indexes what it sends. Takes about 40 µs a call."""
    from hpack import Encoder  # noqa: PLC0415 - the script itself starts without it

    fields = call_fields(path)
    with file.open("wb") as out:
        for connection in range(connections):
            encoder = Encoder()
            for call in range(calls):
                trace = (connection << 64 | call * 0x9E3779B97F4A7C15 & (1 << 64) - 1) + (1 << 120)
                own = [
                    (b"grpc-timeout", b"%dm" % (9000 + call % 1000)),
                    (b"traceparent", b"00-%032x-%016x-01" % (trace, trace & (1 << 64) - 1 | 1)),
                ]
                encoded = encoder.encode([*fields, *own])
                out.write(struct.pack(">HI", connection, len(encoded)) + encoded)


def read_calls(file: Path, connections: int) -> list[Iterator[bytes]]:
    """The HEADERS frames that `write_calls` left, by connection."""
    frames: list[list[bytes]] = [[] for _ in range(connections)]
    data, at = file.read_bytes(), 0
    while at < len(data):
        connection, size = struct.unpack_from(">HI", data, at)
        head = frame(_HEADERS, 4, 0, data[at + 6 : at + 6 + size])
        if connection < connections:
            frames[connection].append(head[:5] + head[9:])
        at += 6 + size
    return [iter(each) for each in frames]


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the sorted values do not exceed; NaN for none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def main(arguments: list[str]) -> None:
    host, port, path, seconds, count, streams, size, answer, *calls = arguments
    number = int(count)
    blocks = read_calls(Path(calls[0]), number) if calls else [repeated(path) for _ in range(number)]
    connections = [Connection((host, int(port)), each, int(size)) for each in blocks]
    gc.collect()
    gc.disable()
    elapsed = run(connections, int(streams), float(seconds))
    latencies = sorted(latency for connection in connections for latency in connection.latencies)
    unanswered = sum(len(connection.sent_at) for connection in connections)
    wrong = sum(connection.done - connection.received // int(answer) for connection in connections)
    print(
        json.dumps(
            {
                "requests": sum(connection.done for connection in connections),
                "seconds": elapsed,
                "errors": sum(connection.errors for connection in connections) + unanswered + max(0, wrong),
                "p50_ms": percentile(latencies, 0.50) * 1e3,
                "p99_ms": percentile(latencies, 0.99) * 1e3,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
