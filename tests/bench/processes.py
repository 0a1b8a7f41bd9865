"""Start a program on one core, wait until it answers, and end it whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .tools import Unavailable

_STOP_SECONDS = 3.0


@dataclass(frozen=True)
class Address:
    """Where a listener is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody holds; all are held until the last is found, so no two are the same."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def pinned(command: Sequence[str], core: int) -> list[str]:
    """The command on one core; it dies with us, even when we are killed."""
    prefix = [setpriv, "--pdeathsig", "TERM"] if (setpriv := shutil.which("setpriv")) else []
    return [*prefix, "taskset", "-c", str(core), *command]


@contextlib.contextmanager
def running(command: Sequence[str], *, core: int, errors: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of the block.

    Standard output, where every access log goes, is discarded for all alike; standard error is kept in `errors`.
    """
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            pinned(command, core),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=errors.parent,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the program to end, then end its whole process group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until_serving(
    address: Address,
    path: str,
    size: int,
    process: subprocess.Popen[bytes],
    errors: Path,
    *,
    seconds: float = 15,
    header: str = "",
) -> None:
    """Return when `path` answers 200 with `size` bytes, asked with this header.

    Raises:
        Unavailable: the program ended or gave no such answer in time; its last words are in the message.
    """
    deadline = time.monotonic() + seconds
    answer = "no answer"
    while process.poll() is None and time.monotonic() < deadline:
        try:
            answer = _probe(address, path, size, header)
        except (OSError, http.client.HTTPException) as error:
            answer = f"{type(error).__name__}: {error}"
        if not answer:
            return
        time.sleep(0.05)
    lines = errors.read_text(errors="replace").strip().splitlines()
    state = f"ended with exit code {process.returncode}" if process.poll() is not None else f"is not serving ({answer})"
    raise Unavailable(f"{state}: {' | '.join(lines[-3:]) or 'nothing on stderr'}")


def wait_until_accepting(address: Address, process: subprocess.Popen[bytes], errors: Path) -> None:
    """Return when something listens there.

    Raises:
        Unavailable: the program ended or did not listen within 15 s; its last words are in the message.
    """
    deadline = time.monotonic() + 15
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((address.host, address.port), timeout=2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    lines = errors.read_text(errors="replace").strip().splitlines()
    raise Unavailable(f"does not listen at {address}: {' | '.join(lines[-3:]) or 'nothing on stderr'}")


def _probe(address: Address, path: str, size: int, header: str) -> str:
    """What is wrong with the answer; empty when it is right."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=2)
    try:
        connection.request("GET", path, headers=dict([header.split(": ", 1)] if header else []))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status == 200 and len(body) == size:
        return ""
    return f"HTTP {response.status} with {len(body)} bytes"
