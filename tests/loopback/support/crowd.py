"""Thousands of WebSockets in two processes of their own: `crowd.py app` echoes, `crowd.py clients HOST PORT N` talk.

Every message carries the number of its connection and its own number there, so that one that is lost, cut, doubled or
out of order is seen. Each process reports one JSON object per line.

    app:      {"port": …} at the start; at SIGTERM {"received": [messages per connection], "wrong": […]}
    clients:  {"open": N} when all are; talks after a line on standard input; when all are closed
              {"sent": [messages per connection], "closes": [[code, seconds since the epoch] …], "wrong": […]}
"""

import asyncio
import json
import signal
import struct
import sys
import time
from typing import Any

import uvloop

BINARY, CLOSE = 0x82, 0x88
SLICES = 40  # of a connection's period, which is that many ticks
TICK = 0.1
AT_ONCE = 200
_NUMBERS = struct.Struct("!II")
UPGRADE = (
    b"GET /crowd HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class End(asyncio.Protocol):
    """One end of one WebSocket: short frames only. A head ends with an empty line; frames follow."""

    mask = b""

    def __init__(self, crowd: Any) -> None:
        self.crowd = crowd
        self.buffer = b""
        self.upgraded = False
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data
        at = 0
        if not self.upgraded:
            at = data.find(b"\r\n\r\n") + 4
            if at < 4:
                self.buffer = data
                return
            self.upgraded = True
            self.on_head(data[:at])
        while len(data) - at >= 2:
            masked = 4 if data[at + 1] & 0x80 else 0
            end = at + 2 + masked + (data[at + 1] & 0x7F)
            if end > len(data):
                break
            self.on_frame(data[at], data[at + 2 : at + 2 + masked], data[at + 2 + masked : end])
            at = end
        self.buffer = data[at:]

    def write_frame(self, first: int, payload: bytes) -> None:
        if self.mask:
            self.transport.write(bytes((first, 0x80 | len(payload))) + bytes(4) + payload)  # a mask of zeros
        else:
            self.transport.write(bytes((first, len(payload))) + payload)

    def on_head(self, head: bytes) -> None:
        raise NotImplementedError

    def on_frame(self, first: int, mask: bytes, payload: bytes) -> None:
        raise NotImplementedError


class AppEnd(End):
    """Echoes messages and answers a close frame."""

    def on_head(self, head: bytes) -> None:
        self.transport.write(SWITCHED)

    def on_frame(self, first: int, mask: bytes, payload: bytes) -> None:
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        if first == BINARY and not self.closed:
            self.crowd.count(*_NUMBERS.unpack(payload))
            self.write_frame(BINARY, payload)
        elif first == CLOSE:
            self.closed = True
            if payload[:2] != (1001).to_bytes(2):
                self.crowd.wrong.append(f"the app was told {payload!r}")
            self.write_frame(CLOSE, payload)
            self.transport.close()
        else:
            self.crowd.wrong.append(f"the app got {first:#x} {payload!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed:
            self.crowd.wrong.append("the app was left without a word")


class App:
    """All connections of the app."""

    def __init__(self) -> None:
        self.received: dict[int, int] = {}
        self.wrong: list[str] = []

    def count(self, connection: int, number: int) -> None:
        if self.received.get(connection, 0) != number:
            self.wrong.append(f"{connection}: got {number} after {self.received.get(connection, 0)} messages")
        self.received[connection] = number + 1

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        server = await loop.create_server(lambda: AppEnd(self), "127.0.0.1", 0, backlog=1024)
        report(port=server.sockets[0].getsockname()[1])
        await stop.wait()
        count = max(self.received, default=-1) + 1
        report(received=[self.received.get(number, 0) for number in range(count)], wrong=self.wrong[:20])


class ClientEnd(End):
    """Sends numbered messages, expects each back, and answers a close frame."""

    mask = b"\0\0\0\0"

    def __init__(self, crowd: "Clients", number: int) -> None:
        super().__init__(crowd)
        self.number = number
        self.sent = 0
        self.echoed = 0
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport.write(UPGRADE % b"%024d" % self.number)

    def on_head(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 101 "):
            self.crowd.wrong.append(f"{self.number}: answered {head[:200]!r}")
        self.opened.set_result(None)

    def talk(self) -> None:
        if not self.closed:
            self.write_frame(BINARY, _NUMBERS.pack(self.number, self.sent))
            self.sent += 1

    def on_frame(self, first: int, mask: bytes, payload: bytes) -> None:
        if first == BINARY and not self.closed:
            if _NUMBERS.unpack(payload) != (self.number, self.echoed):
                self.crowd.wrong.append(f"{self.number}: expected echo {self.echoed}, got {_NUMBERS.unpack(payload)}")
            self.echoed += 1
        elif first == CLOSE and not self.closed:
            self.talk()  # a last word before the answer: it must arrive too
            self.closed = True
            self.crowd.closes.append((int.from_bytes(payload[:2]), time.time()))
            self.write_frame(CLOSE, payload[:2])
        else:
            self.crowd.wrong.append(f"{self.number}: got {first:#x} {payload!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
        if not self.closed or self.buffer:
            self.crowd.wrong.append(f"{self.number}: cut off with {self.buffer!r} ({exc})")
        self.crowd.lost()


class Clients:
    """All connections of the clients."""

    def __init__(self, host: str, port: int, count: int) -> None:
        self.address = (host, port)
        self.count = self.left = count
        self.ends: list[ClientEnd] = []
        self.closes: list[tuple[int, float]] = []
        self.wrong: list[str] = []
        self.over = asyncio.Event()

    def lost(self) -> None:
        self.left -= 1
        if not self.left:
            self.over.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for first in range(0, self.count, AT_ONCE):
            fresh = [ClientEnd(self, number) for number in range(first, min(first + AT_ONCE, self.count))]
            await asyncio.gather(*(loop.create_connection(lambda end=end: end, *self.address) for end in fresh))
            await asyncio.gather(*(end.opened for end in fresh))
            self.ends += fresh
        report(open=len(self.ends))
        await loop.run_in_executor(None, sys.stdin.readline)
        talking = loop.create_task(self.talk())
        await self.over.wait()
        talking.cancel()
        report(sent=[end.sent for end in self.ends], closes=self.closes, wrong=self.wrong[:20])

    async def talk(self) -> None:
        number = 0
        while True:
            for end in self.ends[number % SLICES :: SLICES]:
                end.talk()
            number += 1
            await asyncio.sleep(TICK)


def report(**values: Any) -> None:
    print(json.dumps(values), flush=True)


async def main(arguments: list[str]) -> None:
    if arguments[0] == "app":
        await App().run()
    else:
        await Clients(arguments[1], int(arguments[2]), int(arguments[3])).run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
