"""The constant-rate client sees a stall as its users would: every request that was due meanwhile waited too."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from .fixedrate import Client, percentile

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def serve(listener: socket.socket, stall_at: int, stall_seconds: float, close_after: int) -> None:
    """Answer on one connection at a time; stall before one answer, close after another."""
    count = 0
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            while connection.recv(4096):
                count += 1
                if count == stall_at:
                    time.sleep(stall_seconds)
                connection.sendall(ANSWER)
                if count == close_after:
                    break


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server
        server.shutdown(socket.SHUT_RDWR)


def start(listener: socket.socket, *, stall_at: int = 0, stall_seconds: float = 0.0, close_after: int = 0) -> Client:
    arguments = (listener, stall_at, stall_seconds, close_after)
    threading.Thread(target=serve, args=arguments, daemon=True).start()
    return Client(listener.getsockname(), "/", rate=200, seconds=1.0, connections=1)


def test_a_stall_counts_for_every_request_that_was_due(listener: socket.socket) -> None:
    tally = start(listener, stall_at=100, stall_seconds=0.2).run()
    slow = [latency for latency in tally.latencies if latency > 50_000_000]
    assert tally.errors == 0
    # 200 ms at 200 req/s: 40 were due, 30 of them with more than 50 ms left to wait; a closed loop would see one
    assert len(slow) >= 25
    assert max(tally.latencies) >= 195_000_000


def test_rate_is_kept_and_every_request_counted(listener: socket.socket) -> None:
    began = time.monotonic()
    tally = start(listener).run()
    assert (tally.done, tally.errors) == (200, 0)
    assert time.monotonic() - began >= 0.99


def test_requests_take_turns_in_having_the_headers(listener: socket.socket) -> None:
    seen: list[bytes] = []

    def note() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(4096):
                seen.append(data.split(b"\r\n")[3])
                connection.sendall(ANSWER)

    thread = threading.Thread(target=note)
    thread.start()
    client = Client(listener.getsockname(), "/", rate=200, seconds=0.05, connections=1, headers=("a: 1", "b: 2"))
    assert client.run().errors == 0
    thread.join()
    assert seen == [b"a: 1", b"b: 2"] * 5


def test_a_connection_closed_between_requests_is_replaced(listener: socket.socket) -> None:
    tally = start(listener, close_after=50).run()
    assert tally.done == 200
    assert tally.errors <= 1  # the close may cross a request


def test_percentile_by_nearest_rank() -> None:
    values = list(range(1, 101))
    assert percentile(values, 0.99) == 100
    assert percentile(values, 0.5) == 51
    assert percentile([], 0.5) != percentile([], 0.5)
