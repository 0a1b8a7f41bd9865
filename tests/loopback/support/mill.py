"""An app that grinds out answers as fast as Python can, good and bad: a process of its own, for a hundred thousand.

Run as a script it prints its port. What it does with a request is the first part of its target; requests have heads
without surprises; a chunked body must not hold what looks like its end.
"""

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = {
    b"/ok": OK,
    b"/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\n\r\n",
    b"/big": b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + b"x" * 65_536,
    b"/500": b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno",
    b"/503": b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno",
    b"/garbage": b"\x00\x01\x02\r\n\r\n",
}
ENDINGS = {
    b"/close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"/half": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    b"/reset": b"",
}


class Mill(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self.transport: Any = transport  # uvloop's is no asyncio.Transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        """asyncio: requests."""
        self.data += data
        while (end := self.data.find(b"\r\n\r\n") + 4) >= 4:
            head = self.data[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
            if b"\r\ntransfer-encoding:" in head:
                last = self.data.find(b"\r\n0\r\n\r\n", end)
                length = last + 7 - end if last >= 0 else len(self.data)
            if len(self.data) < end + length:
                return
            self.data = self.data[end + length :]
            self.answer(head.split(b" ", 2)[1].partition(b"?")[0])

    def answer(self, target: bytes) -> None:
        """Answer one request; a target that is not known is never answered."""
        if target in ANSWERS:
            self.transport.write(ANSWERS[target])
        elif target in ENDINGS:
            self.transport.write(ENDINGS[target])
            if target == b"/reset":
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.close()


@contextlib.contextmanager
def running(port: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
    """The process and its address; killed at the end."""
    process = subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process, ("127.0.0.1", int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Mill, "127.0.0.1", port, backlog=1024, reuse_address=True)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1])))
