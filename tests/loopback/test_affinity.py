"""Session affinity between real sidecars: whoever gets a request, the pod that its cookie names answers it."""

import socket
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from nova_api.policies import BackpressurePolicy, CorrelationPolicy
from nova_api.proxy import DrainPolicy
from nova_api.request_policies.cache import CachePolicy
from nova_api.units import Duration

from .support.app import Call
from .support.fleet import KEY, Fleet, Pod, cookie_of, says
from .support.message import request, response
from .support.sidecar import with_fields
from .support.waiting import eventually
from .support.websocket import SWITCHED, UPGRADE

MARK = "x-nova-handed-over"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three pods for the tests that leave them as they are."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        fleet.start_all(3)
        yield fleet
    finally:
        fleet.close()


@pytest.fixture
def pods(shared: Fleet) -> list[Pod]:
    for pod in shared.pods:
        pod.app.answer = says(pod.name)
        pod.app.calls.clear()
    return shared.pods


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Pods that a test may end."""
    made = Fleet(tmp_path)
    yield made
    made.close()


def given(pod: Pod) -> str:
    """The cookie that a new client of this pod gets."""
    cookie = cookie_of(pod.ask())
    assert cookie is not None
    return cookie


def entry(pod: Pod, correlation_id: str) -> dict[str, object]:
    """The line of its access log about this request."""
    return eventually(lambda: [line for line in pod.sidecar.log if line.get("correlation_id") == correlation_id])[0]


# --- the common case


def test_whoever_gets_the_request_the_pod_of_the_cookie_answers(pods: list[Pod]) -> None:
    for home, entered in product(pods, pods):
        cookie = given(home)
        answer = entered.ask(f"theme=dark; {cookie}; lang=en")
        assert (answer.status, answer.body.decode()) == (200, home.name)
        assert cookie_of(answer) is None


def test_the_app_sees_the_clients_request_and_nothing_of_the_way(pods: list[Pod]) -> None:
    a, b, _ = pods
    cookie = given(a)
    answer = b.ask(
        f"x=1; {cookie}", "X-Correlation-Id: abc-123", "X-Own: 1", "X-Forwarded-For: 203.0.113.7", body=b"hi"
    )
    seen = a.app.requests[-1]
    assert (seen.body, seen.get("cookie"), seen.get("x-own")) == (b"hi", f"x=1; {cookie}", "1")
    assert (seen.get("x-correlation-id"), answer.get("x-correlation-id")) == ("abc-123", "abc-123")
    assert seen.get("x-forwarded-for") == "203.0.113.7, 127.0.0.1, 127.0.0.1"  # the client, and the sidecar on the way
    assert seen.get(MARK) is None


def test_metrics_and_log_say_which_way_it_went(pods: list[Pod]) -> None:
    a, b, _ = pods
    before = b.count("handed_over"), a.count("received"), b.sidecar.metric("nova_requests_total", code="2xx")
    cookie = given(a)
    b.ask(cookie, "X-Correlation-Id: seen")
    assert (b.count("handed_over"), a.count("received")) == (before[0] + 1, before[1] + 1)
    assert b.sidecar.metric("nova_requests_total", code="2xx") == before[2] + 1
    line = entry(b, "seen")
    assert (line["affinity"], line["upstream"]) == ("handed_over", f"{a.address}:{a.sidecar.address('web')[1]}")
    assert entry(a, "seen")["affinity"] == "received"
    assert cookie.partition("=")[2] not in a.sidecar.text + b.sidecar.text


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_bodies_of_any_size_go_both_ways(pods: list[Pod], size: int) -> None:
    a, b, _ = pods
    a.app.answer = lambda call: response("200 OK", body=call.request.body[::-1])
    body = bytes(index % 251 for index in range(size))
    assert b.ask(given(a), method="POST", body=body).body == body[::-1]


def test_one_connection_serves_clients_of_all_pods_in_turn(pods: list[Pod]) -> None:
    cookies = [(pod.name, given(pod)) for pod in pods] * 3
    with pods[0].connect() as client:
        for name, cookie in cookies:
            assert client.exchange(request("GET", "/", f"Cookie: {cookie}")).body.decode() == name
        client.send(b"".join(request("GET", "/", f"Cookie: {cookie}") for _, cookie in cookies))  # sent ahead
        assert [client.response().body.decode() for _ in cookies] == [name for name, _ in cookies]


def test_a_web_socket_goes_to_the_pod_of_its_cookie(pods: list[Pod]) -> None:
    a, b, _ = pods
    cookie = given(a)

    def echo(call: Call) -> None:
        call.peer.send(SWITCHED)
        call.peer.send(call.peer.read_exactly(7)[::-1])

    a.app.answer = echo  # type: ignore[assignment]  # it answers by itself
    with b.connect("live") as client:
        client.send(UPGRADE.replace(b"\r\n\r\n", f"\r\nCookie: {cookie}\r\n\r\n".encode()))
        assert client.head().status == 101
        client.send(b"abcdefg")
        assert client.read_exactly(7) == b"gfedcba"
    assert b.count("handed_over") > 0


def test_a_cookie_of_one_port_holds_for_the_other(pods: list[Pod]) -> None:
    a, b, _ = pods
    with b.connect("live") as client:
        assert client.exchange(request("GET", "/", f"Cookie: {given(a)}")).body == b"a"


def test_what_shared_caches_may_keep_gets_no_cookie(pods: list[Pod]) -> None:
    a = pods[0]
    for control, gets in (("public, max-age=60", False), ("s-maxage=5", False), ("private", True), ("no-store", True)):
        a.app.answer = says("a", f"Cache-Control: {control}")
        assert (cookie_of(a.ask()) is not None) is gets, control


def test_the_apps_own_cookies_stay(pods: list[Pod]) -> None:
    a = pods[0]
    a.app.answer = says("a", "Set-Cookie: sid=1; Path=/")
    assert [value.partition("=")[0] for value in a.ask().all("set-cookie")] == ["sid", "nova-session"]


# --- limits


def test_what_is_handed_over_takes_no_place_here_and_the_siblings_limits_hold(fleet: Fleet) -> None:
    one = BackpressurePolicy(max_concurrency=1, threshold=1.0, max_queue=0)
    a, b = fleet.start_all(2, backpressure=one)
    cookie, busy = given(a), given(b)
    gate = threading.Event()
    a.app.answer = lambda _: response(body=b"late") if gate.wait(10) else b""
    with b.connect() as held, b.connect() as second:
        held.send(request("GET", "/", f"Cookie: {cookie}"))
        eventually(lambda: a.sidecar.stats()["limiter"]["inFlight"] == 1)
        assert b.sidecar.stats()["limiter"]["inFlight"] == 0
        assert b.ask(busy).body == b"b"  # its own place is free
        refused = second.exchange(request("GET", "/", f"Cookie: {cookie}"))
        assert (refused.status, refused.get("x-nova-reject")) == (503, "queue_full")
        gate.set()
        assert held.response().body == b"late"


# --- one hop


def test_a_handed_over_request_is_not_handed_over_again(pods: list[Pod]) -> None:
    a, b, c = pods
    answer = b.ask(given(a), f"{MARK}: 1")
    assert (answer.body, cookie_of(answer)) == (b"b", None)
    assert c.ask(None, f"{MARK}: 1").body == b"c"
    assert b.app.requests[-1].get(MARK) is None


def test_two_that_take_each_other_for_the_right_one_do_not_send_it_to_and_fro(fleet: Fleet) -> None:
    """A pod whose address has gone to another one: the cookie names the address, and both believe the list."""
    a, b = fleet.start_all(2)
    cookie = given(a)
    fleet.affinity = with_fields(fleet.affinity, siblings="")
    a.sidecar.stop()
    app = says("stranger")
    b.app.answer = app
    assert b.ask(cookie).body == b"stranger"


def test_what_a_client_has_goes_with_it_to_the_sibling(fleet: Fleet) -> None:
    """The cache takes conditions out of requests, and puts back those that it does not see to."""
    a, b = fleet.start_all(2, cache=CachePolicy(mode="Enforce"))
    cookie = given(b)
    has = ('If-None-Match: "1"', "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT")
    assert a.ask(cookie, *has).body == b"b"
    fleet.kill(b)
    assert a.ask(cookie, *has).body == b"a"
    for pod in (a, b):
        got = pod.app.calls[-1].request
        assert [got.all(line.partition(":")[0].lower()) for line in has] == [[line.partition(": ")[2]] for line in has]


# --- pods that come and go


def test_the_clients_of_a_killed_pod_go_on_at_another_one(fleet: Fleet) -> None:
    a, b, c = fleet.start_all(3)
    cookie = given(a)
    assert b.ask(cookie).body == b"a"
    fleet.kill(a)
    answer = b.ask(cookie)  # the name server still knows it: nothing listens there
    moved = cookie_of(answer)
    assert (answer.status, answer.body) == (200, b"b")
    assert moved is not None
    assert moved != cookie
    assert b.count("failed") == 1
    assert c.ask(moved).body == b"b"
    fleet.list(b.address, c.address)
    fleet.settle()
    answer = c.ask(cookie)
    assert (answer.body, c.count("reissued")) == (b"c", 1)
    assert cookie_of(answer) is not None


def test_a_body_that_has_begun_is_not_lost_with_the_sibling(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    cookie = given(a)
    fleet.kill(a)
    b.app.answer = lambda call: response(body=call.request.body)
    assert b.ask(cookie, method="POST", body=b"x" * 200_000).body == b"x" * 200_000


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 502)])
def test_a_reset_after_it_was_sent_is_repeated_where_that_is_safe(fleet: Fleet, method: str, status: int) -> None:
    a, b = fleet.start_all(2)
    cookie = given(a)
    reached = threading.Event()

    def die(_: Call) -> bytes:
        reached.set()
        fleet.kill(a)
        return b""

    a.app.answer = die
    answer = b.ask(cookie, method=method)
    assert reached.is_set()
    assert answer.status == status
    if status == 200:
        assert answer.body == b"b"


def test_a_sibling_that_does_not_answer_costs_half_a_second_once(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    cookie = given(a)
    fleet.kill(a)
    with Full(a.address, fleet.port):
        began = time.monotonic()
        assert b.ask(cookie).body == b"b"
        first = time.monotonic() - began
        for _ in range(20):
            assert b.ask(cookie).body == b"b"
        rest = time.monotonic() - began - first
    assert first > 0.4
    assert rest < first * 20  # not one more half second each


def test_a_pod_too_new_for_the_name_server_keeps_its_clients(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    new = fleet.start(listed=False)
    new.ask()
    cookie = given(new)
    answer = b.ask(cookie)
    assert (answer.body, cookie_of(answer), b.count("unsure")) == (b"b", None, 1)
    fleet.list(a.address, b.address, new.address)
    fleet.settle()
    assert b.ask(cookie).body == new.name.encode()


def test_without_a_name_server_sessions_stay_as_they_were(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    cookie = given(a)
    fleet.names.answer = lambda _: None
    assert b.ask(cookie).body == b"a"
    late = fleet.start(listed=False)
    answer = late.ask(cookie)
    assert (answer.body, cookie_of(answer), late.count("unsure")) == (late.name.encode(), None, 1)


# --- leaving


def test_a_pod_that_leaves_hands_over_serves_its_own_and_names_itself_to_nobody(fleet: Fleet) -> None:
    a, b = fleet.start_all(2, drain=DrainPolicy(delay=Duration(30), timeout=Duration(5)))
    of_a, of_b = given(a), given(b)
    assert b.sidecar.control("POST", "/drain")[0] == 202
    assert b.ask(of_a).body == b"a"
    assert b.ask(of_b).body == b"b"
    answer = b.ask()
    assert (answer.body, cookie_of(answer)) == (b"b", None)
    assert a.ask(of_b).body == b"b"  # as long as it is there
    fleet.kill(b)
    assert a.ask(of_b).body == b"a"
    fleet.kill(a)


def test_an_upgrade_that_a_leaving_sibling_refuses_is_taken_here(fleet: Fleet) -> None:
    a, b = fleet.start_all(2, drain=DrainPolicy(delay=Duration(30), timeout=Duration(5)))
    cookie = given(a)
    assert a.sidecar.control("POST", "/drain")[0] == 202
    b.app.answer = lambda _: SWITCHED
    with b.connect("live") as client:
        client.send(UPGRADE.replace(b"\r\n\r\n", f"\r\nCookie: {cookie}\r\n\r\n".encode()))
        answer = client.head()
        assert answer.status == 101
        assert cookie_of(answer) is not None
    assert eventually(lambda: b.count("failed") == 1)  # counted when the connection is over
    fleet.kill(a)
    fleet.kill(b)


# --- keys and configuration


def test_a_key_is_changed_without_a_restart_and_without_losing_a_session(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    cookie = given(a)
    other = b"another key of thirty-two bytes and more"
    for content in (KEY + b"\n" + other, other + b"\n" + KEY):
        fleet.write_key(content)
        _taken_over(a, b)
        assert b.ask(cookie).body == b"a"
    renewed = given(a)
    fleet.write_key(other)
    _taken_over(a, b)
    assert b.ask(renewed).body == b"a"
    assert (b.ask(cookie).body, b.count("invalid")) == (b"b", 1)


def test_a_key_that_cannot_be_used_changes_nothing(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    fleet.write_key(b"hunter2")
    refused = eventually(lambda: [line for line in b.sidecar.log if line["event"] == "secret refused"], within=10)
    assert refused[0]["error"] == "expected at least 32 bytes in line 1, got 7"
    assert "hunter2" not in b.sidecar.text
    assert b.ask(given(a)).body == b"a"


def test_it_is_switched_off_and_on_while_requests_are_under_way(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    cookie = given(a)
    gate = threading.Event()

    def answer(call: Call) -> bytes:
        assert call.request.target == "/" or gate.wait(10)
        return response(body=b"a")

    a.app.answer = answer
    with b.connect() as held:
        held.send(request("GET", "/held", f"Cookie: {cookie}"))
        eventually(lambda: a.sidecar.stats()["inbound"]["web"]["inFlight"] == 1)
        fleet.reload(b, affinity=None)
        eventually(lambda: b.ask(cookie).body == b"b")
        assert cookie_of(b.ask()) is None
        assert b.ask(None, f"{MARK}: 1").status == 200
        gate.set()
        assert held.response().body == b"a"
    fleet.reload(b, affinity=fleet.affinity)
    eventually(lambda: b.ask(cookie).body == b"a")


def test_a_sibling_that_dies_after_it_was_switched_off_costs_no_request(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    cookie = given(a)
    off = threading.Event()

    def answer(_: Call) -> bytes:
        assert off.wait(10)
        fleet.kill(a)
        return b""

    a.app.answer = answer
    with b.connect() as held:
        held.send(request("GET", "/held", f"Cookie: {cookie}"))
        eventually(lambda: a.sidecar.stats()["inbound"]["web"]["inFlight"] == 1)
        fleet.reload(b, affinity=None)
        eventually(lambda: cookie_of(b.ask()) is None)
        off.set()
        assert held.response().body == b"b"


def test_another_lifetime_or_header_is_taken_over_and_no_session_is_lost_meanwhile(fleet: Fleet) -> None:
    a, b = fleet.start_all(2)
    cookie = given(a)
    stop, seen = threading.Event(), set()

    def ask_on() -> None:
        while not stop.is_set():
            seen.add(b.ask(cookie).body)

    asking = threading.Thread(target=ask_on)
    asking.start()
    for seconds, header in ((7200, "x-request-id"), (1800, "x-other-id")):
        longer = with_fields(fleet.affinity, timeout=Duration(seconds))
        fleet.reload(b, affinity=longer, correlation=CorrelationPolicy(header=header))
        eventually(lambda s=seconds: f"Max-Age={s}" in (b.ask().get("set-cookie") or ""))  # type: ignore[misc]  # bound
        assert b.ask(cookie).all(header) != []
    stop.set()
    asking.join()
    assert seen == {b"a"}


# --- hostile


@pytest.mark.parametrize(
    "cookie",
    ["nova-session=", "nova-session=v1.AAAA..5f5e100.AAAAAAAAAAAAAAAAAAAAAA", "nova-session=" + "A" * 6000,
     "nova-session=%00", "; " * 500 + "nova-session=x", "nova-session=a; " * 300],
    ids=["empty", "forged", "huge", "odd", "far behind", "many"],
)  # fmt: skip
def test_what_no_sidecar_has_signed_is_served_here_with_a_good_cookie(pods: list[Pod], cookie: str) -> None:
    answer = pods[1].ask(cookie)
    assert answer.body == b"b"
    assert pods[2].ask(cookie_of(answer)).body == b"b"


def test_a_cookie_cannot_point_outside_of_the_service(fleet: Fleet) -> None:
    """Even one that is signed: only what the name server lists is ever called."""
    a, b = fleet.start_all(2)
    cookie = given(a)
    fleet.list(b.address)
    fleet.settle()
    calls = len(a.app.calls)
    assert b.ask(cookie).body == b"b"
    assert len(a.app.calls) == calls


def test_failures_under_load_reach_no_client(fleet: Fleet) -> None:
    """A pod dies while its clients ask through the others: everyone gets an answer."""
    pods = fleet.start_all(3)
    homes = [given(pods[0]) for _ in range(4)]
    wrong: list[object] = []
    stop = threading.Event()

    def client(cookie: str, entered: Pod) -> None:
        while not stop.is_set():
            try:
                answer = entered.ask(cookie)
            except (AssertionError, OSError) as error:
                wrong.append(error)
                return
            if answer.status != 200:
                wrong.append(answer)
            cookie = cookie_of(answer) or cookie

    asking = [threading.Thread(target=client, args=(cookie, pod)) for cookie in homes for pod in pods[1:]]
    for each in asking:
        each.start()
    eventually(lambda: pods[1].count("handed_over") > 20)
    fleet.kill(pods[0])
    eventually(lambda: pods[1].count("failed") + pods[2].count("failed") > 0)
    eventually(lambda: pods[1].count("local") > 20 and pods[2].count("local") > 20)
    stop.set()
    for each in asking:
        each.join()
    assert wrong == []


def _taken_over(*pods: Pod) -> None:
    before = {pod: _count(pod) for pod in pods}
    eventually(lambda: all(_count(pod) > before[pod] for pod in pods), within=10)


def _count(pod: Pod) -> int:
    return sum(line["event"] == "secret taken over" for line in pod.sidecar.log)


class Full:
    """A listener whose queue is full: further connections are neither taken nor refused."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        self._socket.listen(0)
        self._fillers = [socket.socket() for _ in range(4)]
        for filler in self._fillers:
            filler.setblocking(False)
            filler.connect_ex((address, port))

    def __enter__(self) -> "Full":
        return self

    def __exit__(self, *_: object) -> None:
        for each in (*self._fillers, self._socket):
            each.close()
