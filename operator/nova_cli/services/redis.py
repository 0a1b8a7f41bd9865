"""Redis from Debian's package."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from nova_cli.errors import MissingRequirementError


def prepare(folder: Path) -> None:
    """Make its folder. Raises MissingRequirementError."""
    if not shutil.which("redis-server"):
        raise MissingRequirementError("redis-server is not installed: apt-get install redis-server")
    folder.mkdir(parents=True, exist_ok=True)


def command(folder: Path, port: int) -> list[str]:
    """What starts the server."""
    return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--daemonize", "no"]


def ready(port: int) -> bool:
    """Whether it answers, within a second. https://redis.io/docs/latest/commands/ping/"""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
    except OSError:
        return False


def url(port: int) -> str:
    """Of its first database."""
    return f"redis://127.0.0.1:{port}/0"
