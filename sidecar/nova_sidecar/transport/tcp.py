"""What only the kernel knows of a connection."""

import socket
from typing import Any, Final

TCP_ESTABLISHED: Final = 1
TCP_CLOSE: Final = 7


def tcp_state(transport: Any) -> int | None:
    """The state of a transport's connection (linux/tcp.h, the first byte of TCP_INFO); None where it cannot be had."""
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except (OSError, AttributeError):  # closed already, or not Linux
        return None
    return int(info[0])
