"""Requests in flight to the app are bounded; overload is refused early, and every place comes back."""

import random
import threading
import time

import pytest

from nova_api.policies import (
    AdaptivePolicy,
    BackpressurePolicy,
    PriorityPolicy,
    TimeoutPolicy,
)
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_api.units import Duration, Share

from .conftest import StartApp, StartSidecar
from .support.app import Call
from .support.message import Message, chunked, request, response
from .support.peer import Listener, Peer
from .support.sidecar import ONCE, Sidecar, document, inbound, outbound, with_fields
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

    def send(self, *fields: str) -> Peer:
        """One more request, wherever it may get."""
        self.clients.append(self.sidecar.connect())
        self.clients[-1].send(request("GET", f"/{len(self.clients)}", *fields))
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


def classed(mode: str = "Enforce") -> PriorityPolicy:
    return PriorityPolicy(mode=mode, sheddable=Share(0.4))  # type: ignore[arg-type]


def test_what_matters_less_is_refused_first(crowd) -> None:
    full = crowd(max_concurrency=4, threshold=0.7, priority=classed())
    full.enter()
    full.enter()  # 50 %: too much for sheddable
    assert full.send("x-nova-priority: sheddable").response().get("x-nova-reject") == "overloaded"
    full.enter()  # 75 %: too much for normal
    assert full.send().response().get("x-nova-reject") == "overloaded"
    assert full.send("x-nova-priority: high").response().get("x-nova-reject") == "overloaded"  # no such class: normal
    full.send("x-nova-priority: critical")

    assert full.arrive().get("x-nova-priority") == "critical"  # the app sees it as it came
    assert full.send("x-nova-priority: critical").response().get("x-nova-reject") == "overloaded"
    refused = {
        name: full.sidecar.metric("nova_limiter_refused_by_priority_total", priority=name)
        for name in ("critical", "normal", "sheddable")
    }
    assert refused == {"critical": 1, "normal": 2, "sheddable": 1}


def test_who_matters_more_waits_less(crowd) -> None:
    policy = PriorityPolicy(mode="Enforce", sheddable=Share(1))
    full = crowd(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(10), priority=policy)
    full.enter()
    for number, name in enumerate(("sheddable", "normal", "critical"), 1):
        full.send(f"x-nova-priority: {name}")
        eventually(lambda: full.sidecar.waiting == number)  # noqa: B023 - called before the loop goes on

    served = []
    for _ in range(3):
        full.finish()
        served.append(full.arrive().get("x-nova-priority"))

    assert served == ["critical", "normal", "sheddable"]


def test_shadow_of_the_classes_counts_and_refuses_nothing(crowd) -> None:
    full = crowd(max_concurrency=4, threshold=1.0, priority=classed("Shadow"))
    for _ in range(3):
        full.send("x-nova-priority: sheddable")
        full.arrive()

    assert full.sidecar.metric("nova_shadow_rejected_total", reason="overloaded") == 1


def test_who_could_not_be_served_in_time_is_refused_at_once(crowd) -> None:
    """Once the pace is known: a place comes free every 100 ms, so whoever is fourth in line waits for 400 ms."""
    full = crowd(max_concurrency=1, threshold=1.0, acquire_timeout=Duration(30))
    full.enter()
    full.send()
    eventually(lambda: full.sidecar.waiting == 1)
    for _ in range(20):
        full.send()
        eventually(lambda: full.sidecar.waiting == 2)
        ends = time.monotonic() + 0.1
        full.finish()
        full.arrive()
        eventually(lambda: time.monotonic() >= ends)  # noqa: B023 - called before the loop goes on
    for waiting in (2, 3):
        full.send()
        eventually(lambda: full.sidecar.waiting == waiting)  # noqa: B023 - as above

    refusal = full.send("x-nova-deadline-ms: 150").response()

    assert (refusal.status, refusal.get("x-nova-reject")) == (504, "deadline_exceeded")
    limiter = full.sidecar.stats()["limiter"]
    assert limiter["rejected"]["deadline_exceeded"] == 1  # before it waited, not after
    assert limiter["abandoned"] == 0


@pytest.mark.parametrize("tenancy", [TenancyPolicy(), TenancyPolicy(mode="Enforce")])
def test_the_limit_finds_itself(start: StartSidecar, app: StartApp, tenancy: TenancyPolicy) -> None:
    """Four at once are answered in 20 ms. Where it settles is the simulator's business; here it is seen to move, also
    where all of them are one tenant, who is refused before it is full."""
    workers = threading.Semaphore(4)

    def work(_: Call) -> bytes:
        with workers:
            time.sleep(0.02)
        return response(body=b"done")

    policy = BackpressurePolicy(
        max_concurrency=200, threshold=1.0, adaptive=AdaptivePolicy(mode="Enforce", min_concurrency=2)
    )
    sidecar = start(document(inbound(app(work).address), backpressure=policy, tenancy=tenancy))
    assert sidecar.metric("nova_limiter_limit") == 2
    stop = threading.Event()

    def client() -> None:
        with sidecar.connect() as peer:
            while not stop.is_set():
                peer.exchange(request())

    threads = [threading.Thread(target=client) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: 3 <= sidecar.metric("nova_limiter_limit") < 200)
        shown = sidecar.stats()["limiter"]
        assert shown["adaptive"]["longLatencySeconds"] >= 0.02
        assert shown["maxConcurrency"] == 200
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    eventually(lambda: sidecar.metric("nova_limiter_in_flight") == 0)


def test_what_was_learned_outlives_a_reload(start: StartSidecar, app: StartApp) -> None:
    found = AdaptivePolicy(mode="Shadow", min_concurrency=2)
    sidecar = start(document(inbound(app().address), backpressure=BackpressurePolicy(adaptive=found)))
    with sidecar.connect() as peer:
        eventually(lambda: peer.exchange(request()) and sidecar.stats()["limiter"]["adaptive"]["shortLatencySeconds"])
    learned = sidecar.stats()["limiter"]["adaptive"]["longLatencySeconds"]
    assert sidecar.stats()["limiter"]["utilization"] == 0

    sidecar.reload(with_fields(sidecar.config, backpressure=BackpressurePolicy(max_concurrency=100, adaptive=found)))

    eventually(lambda: sidecar.stats()["limiter"]["maxConcurrency"] == 100)
    assert sidecar.stats()["limiter"]["adaptive"]["longLatencySeconds"] == learned


def dribbling(start: StartSidecar, listener: Listener) -> Sidecar:
    patience = TimeoutPolicy(stream_idle=Duration(1), request=Duration(5))
    return start(document(inbound(listener.address, pool=ONCE, timeout=patience)))


def test_who_dribbles_a_body_does_not_keep_its_place(start: StartSidecar, listener: Listener) -> None:
    sidecar = dribbling(start, listener)
    with sidecar.connect() as client:
        client.send(request("POST", "/", "Content-Length: 100000"))
        listener.accept()
        began = time.monotonic()
        while not client.poll():
            client.send_if_open(b"x")
            assert time.monotonic() - began < 20, "it goes on for ever"
            time.sleep(0.1)  # the pace of the client is what is tested

        refusal = client.response()

    assert (refusal.status, refusal.get("x-nova-reject")) == (408, "request_timeout")
    assert time.monotonic() - began > 1
    eventually(lambda: sidecar.metric("nova_limiter_in_flight") == 0)


def test_who_sends_a_body_slowly_but_steadily_is_served(start: StartSidecar, listener: Listener) -> None:
    sidecar = dribbling(start, listener)
    with sidecar.connect() as client:
        client.send(request("POST", "/", "Content-Length: 60000"))
        app = listener.accept()
        for _ in range(30):
            client.send(b"x" * 2000)
            time.sleep(0.1)  # as above
        assert len(app.request().body) == 60000
        app.send(response(body=b"done"))
        assert client.response().body == b"done"


def test_an_app_that_reads_slowly_is_not_held_against_the_client(start: StartSidecar, listener: Listener) -> None:
    sidecar = dribbling(start, listener)
    size = 8 << 20
    with sidecar.connect() as client:
        client.send(request("POST", "/", f"Content-Length: {size}"))
        app = listener.accept()
        sender = threading.Thread(target=client.send, args=(b"x" * size,))
        sender.start()
        left = size
        while left > 0:
            data = app.socket.recv(min(left, 1 << 18))
            assert data, "it was cut off"
            left -= len(data)
            time.sleep(0.05)  # the pace of the app is what is tested
        sender.join(10)
        assert not client.poll()
