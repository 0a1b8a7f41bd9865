"""Requests in flight to the app are bounded; overload is refused early, and every place comes back."""

import random
import threading
import time

import pytest

from nova_api.policies import BackpressurePolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.app import Call
from .support.message import Message, chunked, request, response
from .support.peer import Listener, Peer
from .support.sidecar import ONCE, Sidecar, document, inbound, outbound
from .support.waiting import eventually


def limited(listener: Listener, **policy: object):
    """A document whose app takes as many requests as the policy says."""
    return document(inbound(listener.address, pool=ONCE), backpressure=BackpressurePolicy(**policy))  # type: ignore[arg-type]


class Crowd:
    """Clients with a request in flight, and the app's ends of them."""

    def __init__(self, sidecar: Sidecar, listener: Listener) -> None:
        self.sidecar, self._listener = sidecar, listener
        self.clients: list[Peer] = []
        self.apps: list[Peer] = []

    def enter(self) -> None:
        """One more request, until it has reached the app."""
        self.send()
        self.arrive()

    def send(self) -> Peer:
        """One more request, wherever it may get."""
        self.clients.append(self.sidecar.connect())
        self.clients[-1].send(request("GET", f"/{len(self.clients)}"))
        return self.clients[-1]

    def arrive(self) -> Message:
        """The next request that reaches the app."""
        self.apps.append(self._listener.accept())
        return self.apps[-1].request()

    def finish(self, position: int = 0) -> None:
        """The app answers one."""
        self.apps.pop(position).send(response(body=b"done"))


@pytest.fixture
def crowd(start: StartSidecar, listener: Listener):
    """Make a crowd in front of a sidecar with this policy."""
    made: list[Crowd] = []

    def make(**policy: object) -> Crowd:
        made.append(Crowd(start(limited(listener, **policy)), listener))
        return made[-1]

    yield make
    for each in made:
        for peer in each.clients:
            peer.close()
        eventually(lambda: each.sidecar.metric("nova_requests_in_flight") == 0)  # noqa: B023 - called before the loop goes on


def in_flight(crowd: Crowd) -> float:
    return crowd.sidecar.metric("nova_requests_in_flight")


def test_above_the_threshold_is_refused_at_once(crowd) -> None:
    """0.85 of 10: 9 in flight are 90 %, so the tenth is refused."""
    full = crowd(max_concurrency=10, threshold=0.85)
    for _ in range(9):
        full.enter()

    began = time.monotonic()
    refusal = full.send().response()

    assert (refusal.status, refusal.get("x-nova-reject")) == (503, "overloaded")
    assert time.monotonic() - began < 1
    assert int(refusal.get("retry-after") or 0) >= 1
    assert full.sidecar.metric("nova_rejected_total", reason="overloaded") == 1


def test_a_refused_client_keeps_its_connection(crowd) -> None:
    """The refusal is about this request; the connection is worth keeping under load above all."""
    full = crowd(max_concurrency=1, threshold=0.5)
    full.enter()
    client = full.send()
    assert client.response().status == 503
    full.finish()
    assert full.clients[0].response().body == b"done"
    eventually(lambda: in_flight(full) == 0)

    client.send(request("GET", "/again"))

    assert full.arrive().target == "/again"
    full.finish()
    assert client.response().body == b"done"


def test_a_refused_upload_is_not_left_half_read(crowd) -> None:
    full = crowd(max_concurrency=1, threshold=0.5)
    full.enter()
    client = full.sidecar.connect()
    full.clients.append(client)
    client.send(request("POST", "/", "Content-Length: 11") + b"hello ")
    refusal = client.response()
    assert refusal.status == 503

    client.send_if_open(b"world" + request("GET", "/next"))

    if refusal.has("connection", "close"):
        client.expect_closed()
    else:
        assert client.response().status == 503  # the next request, and not the body, was refused
        assert client.unread == b""


def test_threshold_one_waits_for_a_place(crowd) -> None:
    full = crowd(max_concurrency=2, threshold=1.0, acquire_timeout=Duration(5))
    full.enter()
    full.enter()
    waiting = full.send()
    eventually(lambda: full.sidecar.waiting == 1)
    assert waiting.poll() == b""

    full.finish()

    assert full.arrive().target == "/3"
    full.finish(1)
    assert waiting.response().body == b"done"


def test_first_come_first_served(crowd) -> None:
    full = crowd(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(5))
    full.enter()
    for number in range(1, 6):
        full.send()
        eventually(lambda: full.sidecar.waiting == number)  # noqa: B023 - called before the loop goes on

    served = []
    for _ in range(5):
        full.finish()
        served.append(full.arrive().target)

    assert served == ["/2", "/3", "/4", "/5", "/6"]


def test_waiting_has_an_end(crowd) -> None:
    full = crowd(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(0.3))
    full.enter()
    began = time.monotonic()

    refusal = full.send().response()

    assert (refusal.status, refusal.get("x-nova-reject")) == (503, "acquire_timeout")
    assert 0.25 < time.monotonic() - began < 2
    assert full.sidecar.waiting == 0


def test_the_queue_has_an_end(crowd) -> None:
    full = crowd(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(5), max_queue=2)
    full.enter()
    full.send()
    full.send()
    eventually(lambda: full.sidecar.waiting == 2)

    refusal = full.send().response()

    assert (refusal.status, refusal.get("x-nova-reject")) == (503, "queue_full")


def test_who_leaves_the_queue_takes_no_place(crowd) -> None:
    full = crowd(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(5))
    full.enter()
    full.send().reset()
    last = full.send()
    eventually(lambda: full.sidecar.waiting == 1)

    full.finish()

    assert full.arrive().target == "/3"
    full.finish()
    assert last.response().body == b"done"


def test_shadow_counts_and_refuses_nothing(crowd) -> None:
    full = crowd(mode="Shadow", max_concurrency=1, threshold=0.5)
    full.enter()
    full.enter()
    full.enter()

    assert in_flight(full) == 3
    assert full.sidecar.metric("nova_shadow_rejected_total", reason="overloaded") == 2


def test_off_lets_everything_in(crowd) -> None:
    full = crowd(mode="Off", max_concurrency=1, threshold=0.5)
    for _ in range(5):
        full.enter()

    assert in_flight(full) == 5


def test_outbound_is_not_limited_by_the_apps_limit(start: StartSidecar, listener: Listener) -> None:
    """The app's own calls must get out while it is full, or it could never finish."""
    sidecar = start(
        document(
            inbound(listener.address, pool=ONCE),
            outbound(listener.address, pool=ONCE),
            backpressure=BackpressurePolicy(max_concurrency=1, threshold=0.5),
        )
    )
    with sidecar.connect() as client, sidecar.connect("db") as app:
        client.send(request())
        listener.accept().request()
        app.send(request())
        upstream = listener.accept()
        upstream.request()
        upstream.send(response(body=b"out"))
        assert app.response().body == b"out"


def test_all_ports_of_the_app_share_the_limit(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(
        document(
            inbound(listener.address, pool=ONCE),
            inbound(listener.address, "grpc", pool=ONCE),
            backpressure=BackpressurePolicy(max_concurrency=1, threshold=0.5),
        )
    )
    with sidecar.connect("web") as one, sidecar.connect("grpc") as two:
        one.send(request())
        listener.accept().request()
        assert two.exchange(request()).get("x-nova-reject") == "overloaded"


@pytest.mark.parametrize("seed", [1, 2])
def test_chaos_leaves_no_place_taken(start: StartSidecar, app: StartApp, seed: int) -> None:
    """However an exchange ends, its place comes back: nothing is in flight after any mixture of endings."""
    fates = random.Random(seed)
    lock = threading.Lock()

    def whim(call: Call) -> bytes | None:
        with lock:
            fate = fates.choice(["ok", "ok", "ok", "reset", "close", "half", "chunked", "stall", "bad", "500", "rude"])
        peer = call.peer
        if fate == "reset":
            peer.reset()
        elif fate == "half":
            peer.send(response("200 OK", "Content-Length: 100", body=None) + b"half")
        elif fate == "stall":
            peer.expect_closed(within=30)
        elif fate == "bad":
            peer.send(b"nonsense\r\n\r\n")
        elif fate == "rude":
            peer.send(response(body=b"and gone"))
        elif fate == "chunked":
            return response("200 OK", "Transfer-Encoding: chunked", body=None) + chunked(b"a", b"b" * 5000)
        elif fate == "500":
            return response("500 Oops", body=b"oops")
        elif fate == "ok":
            return response(body=b"x" * 3000)
        return None

    patience = TimeoutPolicy(
        request=Duration(0.4), attempt=Duration(0.2), connect=Duration(0.2), stream_idle=Duration(0.2)
    )
    sidecar = start(
        document(
            inbound(app(whim).address, timeout=patience),
            backpressure=BackpressurePolicy(
                max_concurrency=6, threshold=1.0, acquire_timeout=Duration(0.1), max_queue=3
            ),
        )
    )
    baseline = sidecar.sockets

    def client(number: int) -> None:
        mood = random.Random(seed * 1000 + number)
        for _ in range(25):
            peer = sidecar.connect()
            act = mood.choice(["polite", "polite", "polite", "reset", "half upload", "pipeline", "early close"])
            if act == "half upload":
                peer.send(request("POST", "/", "Content-Length: 1000") + b"x" * 10)
            elif act == "pipeline":
                peer.send(request() * 5)
            else:
                peer.send(request("POST", "/", body=b"x" * mood.choice([0, 10, 100_000])))
            if act in {"polite", "pipeline"}:
                peer.socket.settimeout(5)
                while act == "pipeline" or not peer.received:
                    try:
                        data = peer.socket.recv(65536)
                    except ConnectionError:
                        break
                    peer.received += data
                    if not data or peer.received.count(b"HTTP/1.1") >= 5:
                        break
            peer.reset() if act == "reset" else peer.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()

    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)
    assert sidecar.waiting == 0
    assert sidecar.metric("nova_rejected_total", reason="internal_error") == 0
    eventually(lambda: sidecar.sockets <= baseline + 6 + 2)  # at most the idle connections to the app stay
    pool = sidecar.stats()["inbound"]["web"]["pool"]
    assert pool["active"] == pool["waiting"] == 0
    assert (
        pool["open"]
        == pool["idle"]
        == sidecar.metric("nova_connections_opened_total") - sidecar.metric("nova_connections_closed_total")
    )
