"""Ports that nobody holds right now, and that nobody else takes before they are used.

A port that was free a moment ago may be taken by the time a sidecar binds it. Two things could take it:

* The kernel, for an outgoing connection. It takes those from its ephemeral range (from 32768 on Linux, ip(7)); these
  come from below it.
* Another process of tests: a worker of this run, or a run beside it. So each process claims a block of ports as long
  as it lives, by a lock on a file (flock(2)), which the kernel lets go of however the process ends.
"""

import fcntl
import itertools
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FIRST: Final = 18_000
BLOCK: Final = 400
BLOCKS: Final = 36
_one_at_a_time = threading.Lock()
MOST_BLOCKS: Final = 5
"""That one process claims, one after the other; then it begins with its first one again."""


def free_ports(count: int) -> list[int]:
    """Free TCP ports of 127.0.0.1, all different up to 2 000, for whatever thread asks. Raises RuntimeError when other
    processes hold all blocks."""
    with _one_at_a_time:
        return list(itertools.islice(filter(is_free, _ports), count))


def is_free(port: int) -> bool:
    """Whether a listener can be opened on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _endless() -> Iterator[int]:
    """The ports of this process."""
    mine: list[int] = []
    while True:
        if len(mine) < MOST_BLOCKS * BLOCK:
            block = _claim()
            yield from block
            mine += block
        else:
            yield from mine


def _claim() -> range:
    """The ports of a block that nobody else has."""
    directory = Path(tempfile.gettempdir()) / f"nova-test-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    for number in range(BLOCKS):
        lock = os.open(directory / str(number), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:  # never closed: the lock is as old as the process
            return range(FIRST + number * BLOCK, FIRST + (number + 1) * BLOCK)
    raise RuntimeError(f"all {BLOCKS} blocks of ports are claimed by other processes")


_ports: Final = _endless()
