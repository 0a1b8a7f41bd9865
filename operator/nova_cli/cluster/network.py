"""Ports of this machine, and the node's own network."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on. It stays free only as long as nobody else takes it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listener(preferred: int) -> socket.socket:
    """A listening socket on 127.0.0.1, on `preferred` if that is free: kubeconfigs then stay valid across starts."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(("127.0.0.1", preferred))
    except OSError:
        opened.bind(("127.0.0.1", 0))
    opened.listen(128)
    return opened
