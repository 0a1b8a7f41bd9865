"""Exchanges that go wrong, on the side of the app or of the client, and what the client must see of each.

They are meant for an app of `mill`: the target says what the app does.
"""

from collections import Counter
from typing import NamedTuple

from .message import request
from .peer import Peer


class Fault(NamedTuple):
    """What goes wrong, the bytes that bring it about, and what the client sees: a status, `cut` in the middle of an
    answer, or `leave` when it is the client who goes."""

    what: str
    data: bytes
    seen: str


FAULTS = (
    Fault("the app resets", request("POST", "/reset", body=b"x" * 100), "502"),
    Fault("half an answer", request("GET", "/half"), "cut"),
    Fault("garbage", request("GET", "/garbage"), "502"),
    Fault("an error", request("GET", "/500"), "500"),
    Fault("an error that is repeated", request("GET", "/503"), "503"),
    Fault("no answer in time", request("GET", "/never", "x-nova-deadline-ms: 20"), "504"),
    Fault("nobody waits for the answer", request("GET", "/never"), "leave"),
    Fault("no request", b"GET / HTTP/1.1\r\n\r\n", "400"),
    Fault("half a head", b"GET / HT", "leave"),
    Fault("half an upload", request("POST", "/ok", "Content-Length: 100") + b"x", "leave"),
    Fault("half a chunk", request("POST", "/ok", "Transfer-Encoding: chunked") + b"10\r\nx", "leave"),
    Fault("an answer that nobody reads", request("GET", "/chunked"), "leave"),
    Fault("an app that closes", request("GET", "/close"), "200"),
)


def fail(address: tuple[str, int], count: int) -> Counter[str]:
    """So many exchanges that go wrong, each on a connection of its own; what the clients saw of them."""
    return Counter(see(address, FAULTS[number % len(FAULTS)], reset=number % 2 == 1) for number in range(count))


def see(address: tuple[str, int], fault: Fault, *, reset: bool) -> str:
    """Bring one about; returns what the client saw. A client that leaves does so by RST where `reset` says so."""
    with Peer.connect(address) as client:
        client.send(fault.data)
        if fault.seen == "leave":
            client.reset() if reset else client.close()
            return fault.seen
        rest = client.expect_closed() if fault.seen == "cut" else b""
        return "cut" if rest[-4:] == b"half" else str(client.response().status)
