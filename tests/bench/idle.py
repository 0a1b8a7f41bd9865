"""Keep-alive connections that have had one answer each and then only stand there.

    python idle.py HOST PORT PATH CONNECTIONS

Prints how many were answered and ends when its standard input does.
"""

from __future__ import annotations

import resource
import socket
import sys

_AT_ONCE = 200
_SECONDS = 10.0


def main(arguments: list[str]) -> None:
    host, port, path, count = arguments
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held: list[socket.socket] = []
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    answered = 0
    while len(held) < int(count):
        fresh = [
            socket.create_connection((host, int(port)), _SECONDS) for _ in range(min(_AT_ONCE, int(count) - len(held)))
        ]
        held += fresh
        for connection in fresh:
            connection.sendall(request)
        answered += sum(connection.recv(65536).startswith(b"HTTP/1.1 200") for connection in fresh)
    print(answered, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
