"""Files of a mounted Secret that are not certificates, kept up to date.

Kubernetes renews them in place by turning a symbolic link (see `transport.tls`), so what `stat` says of them is looked
at every `PERIOD` seconds, outside of requests. Content that cannot be used changes nothing: what was in use before
stays, and the log says so, without a word of the content.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from nova_sidecar.telemetry.logs import get_logger

PERIOD: Final = 1.0
"""Seconds between two looks."""
LARGEST: Final = 64 * 1024

Take = Callable[[Mapping[str, bytes]], None]
"""Takes over the files there are, by name. Raises ValueError, saying why, for what cannot be used."""


class SecretFiles:
    """The files called `names` in a folder, from `start` until `close`; each may be missing."""

    __slots__ = ("_directory", "_handle", "_names", "_seen", "_take")

    def __init__(self, directory: str, names: tuple[str, ...], take: Take) -> None:
        self._directory = Path(directory)
        self._names = names
        self._take = take
        self._seen: tuple[tuple[int, int, int] | None, ...] = ()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take over what is there, and look again from time to time."""
        self.look()
        self._handle = asyncio.get_running_loop().call_later(PERIOD, self.start)

    def close(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()

    def look(self) -> None:
        """Take over the files if they have changed."""
        state = tuple(state_of(self._directory / name) for name in self._names)
        if state == self._seen:
            return
        first, self._seen = not self._seen, state
        try:
            self._take({name: found for name in self._names if (found := _read(self._directory / name)) is not None})
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            get_logger().warning("secret refused", file=str(self._directory), error=why)
            return
        if not first:
            get_logger().info("secret taken over", file=str(self._directory))

    def __repr__(self) -> str:
        return f"<SecretFiles {self._directory}>"


def state_of(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None where there is none. Links are followed, as Kubernetes turns them."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    if len(content) > LARGEST:
        raise ValueError(f"expected at most {LARGEST} bytes in {file.name}")
    return content
