"""What only the kernel knows of a connection."""

import fcntl
import socket
import struct
import sys
import termios
from contextlib import suppress
from typing import Any, Final

TCP_ESTABLISHED: Final = 1
TCP_CLOSE: Final = 7

_NO_LINGER: Final = struct.pack("ii", 1, 0)


def tcp_state(transport: Any) -> int | None:
    """The state of a transport's connection (linux/tcp.h, the first byte of TCP_INFO); None where it cannot be had."""
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except (OSError, AttributeError):  # closed already, or not Linux
        return None
    return int(info[0])


def unsent(transport: Any) -> int:
    """Bytes written that the other end has not acknowledged: those in the transport, and those in the kernel."""
    waiting: int = transport.get_write_buffer_size()
    with suppress(OSError, AttributeError, ValueError):  # closed already
        number = transport.get_extra_info("socket").fileno()
        waiting += int.from_bytes(fcntl.ioctl(number, termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)
    return waiting


def reset_on_close(transport: Any) -> None:
    """Let the kernel end a connection with a reset when it is closed, so that nobody takes what came for whole."""
    with suppress(OSError, AttributeError):  # a closed socket has no options
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
