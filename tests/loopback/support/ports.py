"""Ports that nobody holds right now, and that nobody else takes before they are used.

The kernel gives ports to outgoing connections from its ephemeral range (from 32768 on Linux, ip(7)); these come from
below it, and each worker of a parallel run has its own part, in which each run begins at another place.
"""

import itertools
import os
import socket
from typing import Final

FIRST: Final = 18_000
PER_WORKER: Final = 3_000
WORKERS: Final = 4

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % WORKERS
_start = FIRST + _worker * PER_WORKER
_first = os.getpid() * 37 % PER_WORKER
_next = itertools.cycle(_start + (_first + number) % PER_WORKER for number in range(PER_WORKER))


def free_ports(count: int) -> list[int]:
    """Free TCP ports of 127.0.0.1, all different; one is not given twice for the next 3 000."""
    return list(itertools.islice(filter(is_free, _next), count))


def is_free(port: int) -> bool:
    """Whether a listener can be opened on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
