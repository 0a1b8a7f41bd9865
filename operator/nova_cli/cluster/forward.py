"""Carries connections from this machine's loopback into the node's network: `python -m nova_cli.cluster.forward`.

A socket belongs for ever to the network namespace it was made in. So the command that starts a cluster opens the
listening socket on the machine and hands it down as file descriptor 3, while this process runs in the node's network
and connects from there. It knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

LISTENER = 3
CHUNK_BYTES = 65536


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction; an end of file is passed on, so that half-closed connections work."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Forward every connection to `host`:`port` until SIGTERM."""

    async def carry(near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            near_writer.transport.abort()  # a reset says what happened: nobody listens
            return
        try:
            await asyncio.gather(_copy(near_reader, far_writer), _copy(far_reader, near_writer))
        finally:
            for writer in (near_writer, far_writer):
                writer.close()

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(carry, sock=listener)
    await stop.wait()
    server.close()


def main() -> None:
    """Arguments: the address and the port to forward to."""
    host, port = sys.argv[1:3]
    with socket.socket(fileno=LISTENER) as listener:
        listener.setblocking(False)
        asyncio.run(serve(listener, host, int(port)))


if __name__ == "__main__":
    main()
