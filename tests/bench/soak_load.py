"""What goes through the sidecar in a soak: callers of every kind, each at a pace of its own, and what they must see.

Each caller is a thread that does one thing, waits, and does it again. What a caller sees that it should not is counted
by its words. While an upstream is being restarted, and for a moment after, any failure may be seen: those are counted
apart.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

from tests.loopback.support import websocket
from tests.loopback.support.failing import FAULTS, see
from tests.loopback.support.grpcapp import GrpcClient
from tests.loopback.support.grpcapp import request as call
from tests.loopback.support.message import chunked, request
from tests.loopback.support.peer import Listener, Peer

Place = tuple[str, int]
Act = Callable[[], str]
"""Does one thing; returns what is wrong with what was seen, "" where nothing is."""

_RECOVERY = 3.0
"""Seconds after a restart in which callers may still see its traces."""
_KEPT = 200
"""Exchanges on one client connection."""


@dataclass
class Ledger:
    """What all callers saw so far."""

    done: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    disturbed: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    """Restarts so far."""
    _restarts: int = 0
    _calm_at: float = 0.0

    @contextlib.contextmanager
    def restarting(self) -> Iterator[None]:
        """An upstream goes and comes back within this block."""
        self._restarts += 1
        self.begun += 1
        try:
            yield
        finally:
            self._calm_at = time.monotonic() + _RECOVERY
            self._restarts -= 1

    @property
    def calm(self) -> bool:
        """Whether every upstream has been up for a while."""
        return not self._restarts and time.monotonic() >= self._calm_at

    def note(self, kind: str, wrong: str, *, calm: bool) -> None:
        """One thing was done; `calm`: no restart can have to do with what is wrong."""
        self.done[kind] += 1
        if wrong:
            (self.wrong if calm else self.disturbed)[f"{kind}: {wrong}"[:300]] += 1


@contextlib.contextmanager
def callers(ledger: Ledger, kinds: list[tuple[str, float, Act]]) -> Iterator[None]:
    """One thread for each kind, with seconds between two acts, until the block ends."""
    over = threading.Event()

    def run(kind: str, pause: float, act: Act) -> None:
        while not over.wait(pause):
            calm, begun = ledger.calm, ledger.begun
            try:
                wrong = act()
            except (AssertionError, OSError, grpc.RpcError) as error:
                code = error.code() if isinstance(error, grpc.RpcError) else ""
                wrong = f"{type(error).__name__} {code} {error}"
            ledger.note(kind, wrong, calm=calm and ledger.begun == begun)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in kinds]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


class Kept:
    """A client that keeps its connection for a while and sends these requests in turn."""

    def __init__(self, address: Place, data: Callable[[int], bytes]) -> None:
        self._address = address
        self._data = data
        self._count = 0
        self._peer: Peer | None = None

    def __call__(self) -> str:
        """One exchange, answered with 200."""
        number = self._count
        self._count += 1
        if self._peer is None or number % _KEPT == 0:
            self.close()
            self._peer = Peer.connect(self._address)
        try:
            status = self._peer.exchange(self._data(number)).status
        except BaseException:
            self.close()
            raise
        if status != 200:
            self.close()
        return "" if status == 200 else f"status {status}"

    def close(self) -> None:
        """Close the connection."""
        if self._peer is not None:
            self._peer.close()
        self._peer = None


def alike(_: int) -> bytes:
    """The same head each time."""
    return request("GET", "/ok", "Accept: */*", "User-Agent: soak")


def unlike(number: int) -> bytes:
    """A head like no other."""
    return request("GET", f"/ok?{number}", f"traceparent: 00-{number:032x}-{number:016x}-01", f"x-own-{number}: 1")


_BODIES = (
    request("POST", "/ok", body=b"x" * 65_536),
    request("POST", "/ok", "Transfer-Encoding: chunked") + chunked(b"x" * 20_000, b"y"),
    request("GET", "/big"),
    request("GET", "/chunked"),
)


def bodies(number: int) -> bytes:
    """Bodies both ways, with a length and in chunks."""
    return _BODIES[number % len(_BODIES)]


def faults(address: Place) -> Act:
    """Everything that can go wrong, in turn."""
    numbers = itertools.count()

    def act() -> str:
        number = next(numbers)
        fault = FAULTS[number % len(FAULTS)]
        seen = see(address, fault, reset=number % 2 == 1)
        return "" if seen == fault.seen else f"{fault.what}: {seen}"

    return act


def calls(client: GrpcClient) -> Act:
    """Calls and streams of gRPC, errors, and calls that are given up."""
    numbers = itertools.count()

    def act() -> str:
        number = next(numbers)
        options = {"timeout": 10, "metadata": (("x-number", str(number)),)}
        match number % 5:
            case 0:
                return "" if client.unary(call(b"x" * 3000, echo=True), **options) == b"x" * 3000 else "another answer"
            case 1:
                return "" if len(list(client.download(call(sizes=[2000] * 5), **options))) == 5 else "too few messages"
            case 2:
                answers = list(client.duplex(iter([call(b"x" * 200, echo=True)] * 3), **options))
                return "" if answers == [b"x" * 200] * 3 else "other messages"
            case 3:
                code = client.code(status=5)
                return "" if code is grpc.StatusCode.NOT_FOUND else f"{code}"
        given_up = client.download(call(sizes=[10] * 50, sleep=0.02), **options)
        next(given_up)
        given_up.cancel()
        return ""

    return act


def web_sockets(address: Place) -> Act:
    """A WebSocket that opens, says a few things, and ends in one of three ways."""
    numbers = itertools.count()

    def act() -> str:
        number = next(numbers)
        with Peer.connect(address) as client:
            client.send(websocket.UPGRADE)
            status = client.response(interim=True).status
            if status != 101:
                return f"status {status}"
            for size in (0, 10, 125):
                client.send(websocket.frame(websocket.TEXT, b"x" * size, masked=True))
                heard = websocket.read_frame(client)
                if heard != (websocket.TEXT, b"x" * size, False):
                    return f"{heard}"
            if number % 3 == 0:
                client.send(websocket.closing(1000, masked=True))
                return "" if websocket.read_frame(client).code == 1000 else "another close code"
            if number % 3 == 1:
                client.reset()
        return ""

    return act


@contextlib.contextmanager
def echoing() -> Iterator[Place]:
    """An app that takes WebSockets and says what it hears."""
    listener = Listener()

    def serve(peer: Peer) -> None:
        with contextlib.suppress(OSError, AssertionError), peer:
            peer.head()
            peer.send(websocket.SWITCHED)
            while True:
                heard = websocket.read_frame(peer)
                peer.send(websocket.frame(heard.opcode, heard.payload, masked=False))
                if heard.opcode == websocket.CLOSE:
                    return

    def accept() -> None:
        while True:
            try:
                peer = listener.accept()
            except AssertionError:
                continue
            except (OSError, ValueError):
                return
            listener.peers.clear()
            threading.Thread(target=serve, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.address
    finally:
        listener.close_all()
