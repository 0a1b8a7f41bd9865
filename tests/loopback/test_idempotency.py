"""Requests with an Idempotency-Key take effect once: two sidecars with an app each, and one real Redis."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nova_api.policies import RetryPolicy
from nova_api.proxy import ProxyConfig, Store
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.units import Duration
from nova_sidecar.policy.idempotency import LEASE, Record, decode, encode

from .support.app import App, Call
from .support.faulty import FaultyLink
from .support.message import Message, chunked, request, response
from .support.peer import Peer
from .support.redisservers import HOST, Server
from .support.sidecar import Sidecar, document, inbound, outbound, with_fields
from .support.waiting import eventually

ON = IdempotencyPolicy(mode="Enforce")
TOO_FULL = "/pool-guard?pool=main&source=5f0c5f0c5f0c5f0c&held=20&size=20&exhausted=0"
ROOM = "/pool-guard?pool=main&source=5f0c5f0c5f0c5f0c&held=0&size=20&exhausted=0"


class Gate:
    """An app's work that lasts until it is let."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self, call: Call) -> None:
        self.reached.set()
        assert self.go.wait(60)


class Orders:
    """What the apps of a service do: each POST is an effect, under the body's text; `before` runs inside one."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self.before: Callable[[Call], bytes | None] = lambda _: None
        self._lock = threading.Lock()

    def answer(self, call: Call) -> bytes | None:
        if call.request.method in ("GET", "DELETE"):
            return response(body=b"listed")
        with self._lock:
            self.effects[call.request.body.decode()] += 1
            number = sum(self.effects.values())
        if (other := self.before(call)) is not None:
            return other
        lines = ("content-type: text/plain", f"location: /orders/{number}", "set-cookie: s=1")
        return response("201 Created", *lines, body=b"order %d" % number)


class Pair:
    """Two sidecars of one service, with an app each."""

    def __init__(self, directory: Path, redis: Server | None, policy: IdempotencyPolicy, **fields: Any) -> None:
        self.orders = Orders()
        self.apps = [App(self.orders.answer), App(self.orders.answer)]
        store = Store(url=f"redis://{HOST}:{redis.port}/0", timeout=Duration(1)) if redis is not None else None
        self.config: list[ProxyConfig] = [
            document(inbound(app.address), idempotency=policy, store=store, **fields) for app in self.apps
        ]
        self.sidecars: list[Sidecar] = []
        for number, config in enumerate(self.config):
            folder = directory / f"pod-{number}"
            folder.mkdir(parents=True)
            self.sidecars.append(Sidecar(config, folder))
        for sidecar in self.sidecars:
            sidecar.wait_until_ready(45)

    def close(self) -> None:
        codes = [sidecar.stop() for sidecar in self.sidecars]
        for app in self.apps:
            app.stop()
        complaints = [line for sidecar in self.sidecars for line in sidecar.complaints()]
        assert not complaints, complaints
        assert {code for code in codes if code != -9} <= {0}, codes

    def count(self, result: str) -> float:
        return sum(each.metric("nova_idempotency_requests_total", result=result) for each in self.alive)

    def kept(self, result: str) -> float:
        return sum(each.metric("nova_idempotency_answers_total", result=result) for each in self.alive)

    @property
    def waiting(self) -> int:
        return sum(each.stats()["policies"]["idempotency"]["waiting"] for each in self.alive)

    @property
    def alive(self) -> list[Sidecar]:
        return [sidecar for sidecar in self.sidecars if sidecar.process.poll() is None]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory: pytest.TempPathFactory, redis: Server) -> Iterator[Pair]:
    policy = IdempotencyPolicy(mode="Enforce", required_paths=("/payments*",), max_response_bytes=5000)
    pair = Pair(tmp_path_factory.mktemp("pair"), redis, policy, pool_guard=PoolGuardPolicy(mode="Enforce"))
    yield pair
    for sidecar in pair.sidecars:
        assert sidecar.stats()["policies"]["idempotency"].items() >= {"leading": 0, "waiting": 0, "owed": 0}.items()
    pair.close()


@pytest.fixture
def pair(shared_pair: Pair) -> Pair:
    """The one that all tests share which need no policy of their own."""
    shared_pair.orders.before = lambda _: None
    return shared_pair


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def one(redis: Server | None, policy: IdempotencyPolicy = ON, **fields: Any) -> Pair:
        made.append(Pair(tmp_path / f"pair-{len(made)}", redis, policy, **fields))
        return made[-1]

    yield one
    for each in made:
        each.close()


def fresh() -> str:
    return str(uuid.uuid4())


def post(
    sidecar: Sidecar, key: str | None, body: bytes | None = None, *lines: str, path: str = "/orders",
    method: str = "POST", patience: float = 60.0,
) -> Message:  # fmt: skip
    """One request on a connection of its own. Without a body of its own it says its key."""
    fields = [f'Idempotency-Key: "{key}"'] if key is not None else []
    with Peer.connect(sidecar.address()) as client:
        client.socket.settimeout(patience)
        client.send(request(method, path, *fields, *lines, body=key.encode() if body is None and key else body or b""))
        return client.response(method)


def replayed(answer: Message) -> bool:
    return answer.get("idempotent-replayed") == "true"


# --- once


def test_a_repetition_gets_the_first_answer_at_whichever_pod(pair: Pair) -> None:
    key = fresh()
    first = post(pair.sidecars[0], key)
    again = [post(sidecar, key, None, "x-correlation-id: mine") for sidecar in pair.sidecars for _ in range(2)]
    assert first.status == 201
    assert not replayed(first)
    assert first.get("set-cookie") == "s=1"
    for answer in again:
        assert (answer.status, answer.body, replayed(answer)) == (201, first.body, True)
        assert answer.get("location") == first.get("location")
        assert answer.get("set-cookie") is None  # a session is not to be had twice
        assert answer.get("x-correlation-id") == "mine"
    assert pair.orders.effects[key] == 1


def test_fifty_at_once_are_one(pair: Pair) -> None:
    key = fresh()
    replays = pair.count("replayed")
    pair.orders.before = gate = Gate()
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(post, pair.sidecars[number % 2], key) for number in range(50)]
        eventually(lambda: pair.waiting == 49, within=30)
        gate.go.set()
        answers = [each.result() for each in asked]
    assert pair.orders.effects[key] == 1
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert sum(replayed(answer) for answer in answers) == 49
    assert pair.count("replayed") - replays == 49


def test_who_leaves_while_it_waits_makes_room(pair: Pair) -> None:
    key, ended = fresh(), pair.count("ended")
    pair.orders.before = gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, pair.sidecars[0], key)
        eventually(lambda: pair.orders.effects[key] == 1)
        others = [Peer.connect(pair.sidecars[0].address()) for _ in range(3)]
        for client in others:
            client.send(request("POST", "/orders", f'Idempotency-Key: "{key}"', body=key.encode()))
        eventually(lambda: pair.waiting == 3)
        for client in others:
            client.close()
        eventually(lambda: pair.waiting == 0)  # while the first one is at it
        assert pair.count("ended") - ended == 3
        gate.go.set()
        assert first.result().status == 201
    assert replayed(post(pair.sidecars[0], key))


def test_many_keys_at_once_do_not_meet(pair: Pair) -> None:
    keys = [fresh() for _ in range(20)] * 3
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda item: post(pair.sidecars[item[0] % 2], item[1]), enumerate(keys)))
    assert {answer.status for answer in answers} == {201}
    assert {pair.orders.effects[key] for key in keys} == {1}
    assert len({answer.body for answer in answers}) == 20


def test_a_key_with_and_without_quotes_is_the_same(pair: Pair) -> None:
    key = fresh()
    post(pair.sidecars[0], key)
    with Peer.connect(pair.sidecars[1].address()) as client:
        client.send(request("POST", "/orders", f"idempotency-key: {key}", body=key.encode()))
        assert replayed(client.response("POST"))


def test_the_connection_goes_on_after_a_replay(pair: Pair) -> None:
    key = fresh()
    with Peer.connect(pair.sidecars[0].address()) as client:
        for _ in range(3):
            client.send(request("POST", "/orders", f"idempotency-key: {key}", body=key.encode()))
            assert client.response("POST").status == 201
        client.send(request("GET", "/orders"))
        assert client.response().body == b"listed"
    assert pair.orders.effects[key] == 1


def test_the_app_gets_the_request_as_it_came(pair: Pair) -> None:
    key = fresh()
    post(pair.sidecars[0], key, b"x" * 40_000, "x-mine: yes")
    arrived = pair.apps[0].requests[-1]
    assert (arrived.body, arrived.get("x-mine")) == (b"x" * 40_000, "yes")
    assert arrived.get("idempotency-key") == f'"{key}"'


def test_a_chunked_request_and_a_chunked_answer(pair: Pair) -> None:
    key = fresh()
    pair.orders.before = lambda _: response("200 OK", "transfer-encoding: chunked", body=None) + chunked(b"ab", b"cd")
    with Peer.connect(pair.sidecars[0].address()) as client:
        client.send(request("POST", "/orders", f"idempotency-key: {key}", "transfer-encoding: chunked"))
        client.send(chunked(key[:10].encode(), key[10:].encode()))
        assert client.response("POST").body == b"abcd"
    again = post(pair.sidecars[1], key)  # the same content, framed by its length
    assert (again.body, again.get("content-length"), replayed(again)) == (b"abcd", "4", True)
    assert pair.orders.effects[key] == 1


def test_a_client_that_waits_for_100_is_told_to_go_on(pair: Pair) -> None:
    key = fresh()
    with Peer.connect(pair.sidecars[0].address()) as client:
        head = request(
            "POST", "/orders", f"idempotency-key: {key}", "expect: 100-continue", f"content-length: {len(key)}"
        )
        client.send(head)
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.send(key.encode())
        assert client.response("POST").status == 201
    assert replayed(post(pair.sidecars[0], key))


def test_an_answer_without_content(pair: Pair) -> None:
    key = fresh()
    pair.orders.before = lambda _: response("204 No Content", "etag: a", body=None)
    assert post(pair.sidecars[0], key).status == 204
    again = post(pair.sidecars[1], key)
    assert (again.status, again.get("etag"), again.get("content-length"), replayed(again)) == (204, "a", None, True)


# --- who, and what


def test_another_request_under_the_same_key_is_refused(pair: Pair) -> None:
    key = fresh()
    post(pair.sidecars[0], key)
    for sidecar in pair.sidecars:
        other = post(sidecar, key, b"something else")
        assert (other.status, other.get("x-nova-reject")) == (422, "idempotency_mismatch")
        assert post(sidecar, key, path="/orders?express=1").status == 422
    assert pair.orders.effects[key] == 1
    assert pair.orders.effects["something else"] == 0


def test_another_request_under_a_key_that_is_under_way_is_refused_at_once(pair: Pair) -> None:
    key = fresh()
    pair.orders.before = gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, pair.sidecars[0], key)
        assert gate.reached.wait(30)
        for sidecar in pair.sidecars:
            assert post(sidecar, key, b"something else").status == 422
        gate.go.set()
        assert first.result().status == 201


@pytest.mark.parametrize("line", ["authorization: Bearer {}", "cookie: session={}"])
def test_nobody_gets_another_ones_answer(pair: Pair, line: str) -> None:
    key = fresh()
    mine, theirs = line.format("alice"), line.format("bob")
    first = post(pair.sidecars[0], key, None, mine)
    other = post(pair.sidecars[0], key, None, theirs)
    nobody = post(pair.sidecars[0], key)
    assert len({first.body, other.body, nobody.body}) == 3
    assert not any(map(replayed, (first, other, nobody)))
    assert post(pair.sidecars[1], key, None, theirs).body == other.body
    assert pair.orders.effects[key] == 3


def test_a_key_counts_on_its_path_and_its_host(pair: Pair) -> None:
    key = fresh()
    post(pair.sidecars[0], key)
    assert not replayed(post(pair.sidecars[0], key, path="/refunds"))
    with Peer.connect(pair.sidecars[0].address()) as client:
        client.send(request("POST", "/orders", f"idempotency-key: {key}", body=key.encode(), host="elsewhere"))
        assert not replayed(client.response("POST"))
    assert not replayed(post(pair.sidecars[0], key, method="PATCH"))
    assert pair.orders.effects[key] == 4


def test_what_has_no_key_or_needs_none_passes(pair: Pair) -> None:
    before = pair.count("first")
    assert [post(pair.sidecars[0], None, b"unkeyed").status for _ in range(2)] == [201, 201]
    assert pair.orders.effects["unkeyed"] == 2
    key = fresh()
    assert [post(pair.sidecars[0], key, method=method).status for method in ("GET", "DELETE")] == [200, 200]
    assert pair.count("first") == before


@pytest.mark.parametrize("value", ['""', '"abc', "a b", '"a", "b"', "x" * 256])
def test_what_is_no_key_is_refused(pair: Pair, value: str) -> None:
    with Peer.connect(pair.sidecars[0].address()) as client:
        client.send(request("POST", "/orders", f"idempotency-key: {value}", body=b"never"))
        answer = client.response("POST")
        assert (answer.status, answer.get("x-nova-reject")) == (400, "idempotency_key_invalid")
        client.send(request("GET", "/"))
        assert client.response().status == 200
    assert pair.orders.effects["never"] == 0


def test_two_keys_are_none(pair: Pair) -> None:
    answer = post(pair.sidecars[0], fresh(), b"never", f"idempotency-key: {fresh()}")
    assert answer.get("x-nova-reject") == "idempotency_key_invalid"


def test_a_key_may_be_required(pair: Pair) -> None:
    assert post(pair.sidecars[0], None, b"unpaid", path="/payments/7").status == 400
    assert pair.orders.effects["unpaid"] == 0
    for path in ("/%70ayments/7", "//payments/7", "/x/../payments/7"):
        assert post(pair.sidecars[0], None, b"unpaid", path=path).status == 400
    assert pair.orders.effects["unpaid"] == 0
    assert post(pair.sidecars[0], None, b"listed", path="/payments", method="GET").status == 200
    assert post(pair.sidecars[0], fresh(), path="/payments/7").status == 201


# --- what is kept


@pytest.mark.parametrize("status", ["500 Broken", "503 Busy", "429 Slow Down", "401 Who"])
def test_a_failure_may_be_repeated(pair: Pair, status: str) -> None:
    key = fresh()
    pair.orders.before = lambda _: response(status, body=b"no")
    assert post(pair.sidecars[0], key).status == int(status[:3])
    pair.orders.before = lambda _: None
    again = post(pair.sidecars[1], key)
    assert (again.status, replayed(again)) == (201, False)
    assert pair.orders.effects[key] == 2
    assert replayed(post(pair.sidecars[0], key))


@pytest.mark.parametrize("status", ["400 Bad", "404 Nothing", "409 Sold", "422 Wrong", "303 See Other"])
def test_a_last_word_is_not(pair: Pair, status: str) -> None:
    key = fresh()
    pair.orders.before = lambda _: response(status, body=b"no")
    assert post(pair.sidecars[0], key).status == int(status[:3])
    again = post(pair.sidecars[1], key)
    assert (again.status, again.body, replayed(again)) == (int(status[:3]), b"no", True)
    assert pair.orders.effects[key] == 1


def test_a_refusal_of_the_sidecar_is_no_answer(pair: Pair) -> None:
    key, sidecar = fresh(), pair.sidecars[0]
    sidecar.control("POST", TOO_FULL)
    assert post(sidecar, key).get("x-nova-reject") == "database_saturated"
    sidecar.control("POST", ROOM)
    assert not replayed(post(sidecar, key))
    sidecar.control("POST", TOO_FULL)
    assert replayed(post(sidecar, key))  # and a repetition needs no place
    sidecar.control("POST", ROOM)
    assert pair.orders.effects[key] == 1


def test_those_who_wait_for_one_that_fails_go_on_one_after_the_other(pair: Pair) -> None:
    key, under_way, most = fresh(), Counter[str](), Counter[str]()
    lock = threading.Lock()

    def fail_twice(call: Call) -> bytes | None:
        with lock:
            under_way["now"] += 1
            most["ever"] = max(most["ever"], under_way["now"])
        threading.Event().wait(0.1)  # long enough that another one would be seen beside it
        with lock:
            under_way["now"] -= 1
        return response("500 Broken", body=b"no") if pair.orders.effects[key] <= 2 else None

    pair.orders.before = fail_twice
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda number: post(pair.sidecars[number % 2], key), range(10)))
    assert most["ever"] == 1
    assert Counter(answer.status for answer in answers) == {500: 2, 201: 8}
    assert pair.orders.effects[key] == 3


def test_an_answer_that_is_too_large_is_not_given_twice_nor_the_effect(pair: Pair) -> None:
    key, spent = fresh(), pair.kept("spent")
    pair.orders.before = lambda _: response("200 OK", body=b"x" * 5001)
    assert len(post(pair.sidecars[0], key).body) == 5001
    again = post(pair.sidecars[1], key)
    assert (again.status, again.get("x-nova-reject")) == (409, "idempotency_conflict")
    assert b"has been carried out, and its answer cannot be repeated" in again.body
    assert pair.orders.effects[key] == 1
    eventually(lambda: pair.kept("spent") == spent + 1)


def test_a_large_request_counts_by_its_length(pair: Pair) -> None:
    key = fresh()
    body = b"y" * 200_000
    assert post(pair.sidecars[0], key, body).status == 201
    assert replayed(post(pair.sidecars[1], key, body))
    assert post(pair.sidecars[1], key, body + b"y").status == 422
    assert pair.apps[0].requests[-1].body == body


# --- what goes wrong on the way


def test_a_client_that_leaves_finds_its_answer_when_it_comes_back(pair: Pair) -> None:
    key = fresh()
    pair.orders.before = gate = Gate()
    client = Peer.connect(pair.sidecars[0].address())
    client.send(request("POST", "/orders", f"idempotency-key: {key}", body=key.encode()))
    assert gate.reached.wait(30)
    client.close()
    eventually(lambda: pair.sidecars[0].metric("nova_rejected_total", reason="client_closed") >= 1)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(post, sidecar, key) for sidecar in pair.sidecars]
        gate.go.set()
        answers = [each.result() for each in waiting]
    assert [(answer.status, replayed(answer)) for answer in answers] == [(201, True)] * 2
    assert pair.orders.effects[key] == 1


def test_an_answer_that_breaks_off_is_not_asked_for_again(pair: Pair) -> None:
    """The head said that the order was made; the rest never came."""
    key = fresh()

    def cut(call: Call) -> bytes | None:
        return response("201 Created", "connection: close", "content-length: 100", body=None) + b"order"

    pair.orders.before = cut
    with pytest.raises((AssertionError, OSError)):
        post(pair.sidecars[0], key)
    pair.orders.before = lambda _: None
    again = post(pair.sidecars[1], key)
    assert (again.status, again.get("x-nova-reject")) == (409, "idempotency_conflict")
    assert pair.orders.effects[key] == 1


def silent(call: Call) -> bytes | None:
    """The app dies with the request in its hands."""
    call.peer.close()
    return b""


def test_an_app_that_dies_without_a_word_is_asked_again(pair: Pair) -> None:
    key = fresh()
    pair.orders.before = silent
    assert post(pair.sidecars[0], key).status == 502
    pair.orders.before = lambda _: None
    assert post(pair.sidecars[1], key).status == 201
    assert pair.orders.effects[key] == 2  # nobody can know; onLostAnswer: Refuse chooses the other way


def test_or_never_again_where_the_policy_says_so(make: Callable[..., Pair], redis: Server) -> None:
    pair, key = make(redis, IdempotencyPolicy(mode="Enforce", on_lost_answer="Refuse")), fresh()
    pair.orders.before = silent
    assert post(pair.sidecars[0], key).status == 502
    pair.orders.before = lambda _: None
    for sidecar in pair.sidecars:
        assert eventually(lambda: post(sidecar, key).status == 409)  # noqa: B023 - called before the loop goes on
    assert pair.orders.effects[key] == 1


def test_a_leader_that_is_killed_is_followed_when_its_lease_ends(make: Callable[..., Pair], redis: Server) -> None:
    pair, key = make(redis, with_fields(ON, wait=Duration(30))), fresh()
    pair.orders.before = gate = Gate()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, pair.sidecars[0], key)
        assert gate.reached.wait(30)
        pair.orders.before = lambda _: None
        second = pool.submit(post, pair.sidecars[1], key)
        pair.sidecars[0].process.kill()
        with pytest.raises((AssertionError, OSError)):
            first.result()
        answer = second.result(LEASE + 40)
        gate.go.set()
    assert (answer.status, replayed(answer)) == (201, False)


def test_a_lease_is_renewed_as_long_as_the_app_works(make: Callable[..., Pair], redis: Server) -> None:
    pair, key = make(redis, with_fields(ON, wait=Duration(0))), fresh()
    pair.orders.before = gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, pair.sidecars[0], key)
        assert gate.reached.wait(30)
        (name,) = (each for each in redis.keys() if redis.command("GETRANGE", each, 0, 5) == b"nova1L")  # noqa: SIM118 - no dict
        redis.command("PEXPIRE", name, 4000)
        eventually(lambda: redis.command("PTTL", name) > 5000, within=20)
        for sidecar in pair.sidecars:
            conflict = post(sidecar, key)
            assert (conflict.status, conflict.get("retry-after")) == (409, "1")
        gate.go.set()
        assert first.result().status == 201
    assert pair.orders.effects[key] == 1


def test_who_waits_too_long_is_told_to_come_again(make: Callable[..., Pair], redis: Server) -> None:
    policy = with_fields(ON, wait=Duration(0.3))
    pair, key = make(redis, policy), fresh()
    pair.orders.before = gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, pair.sidecars[0], key)
        assert gate.reached.wait(30)
        for sidecar in pair.sidecars:
            conflict = post(sidecar, key)
            assert (conflict.status, conflict.get("x-nova-reject")) == (409, "idempotency_conflict")
        gate.go.set()
        first.result()
    assert pair.count("conflict") == 2


# --- the store


def test_a_redis_that_is_killed_fails_no_request(make: Callable[..., Pair], tmp_path: Path) -> None:
    redis = Server(tmp_path / "own")
    try:
        pair, key, before = make(redis), fresh(), fresh()
        assert post(pair.sidecars[0], before).status == 201
        eventually(lambda: pair.kept("stored") == 1)
        redis.stop()
        first = post(pair.sidecars[0], key)
        assert (first.status, replayed(first)) == (201, False)
        assert replayed(post(pair.sidecars[0], key))  # the pod that has it still knows it
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda number: post(pair.sidecars[0], f"{key}-{number % 2}"), range(10)))
        assert {answer.status for answer in answers} == {201}
        assert sum(map(replayed, answers)) == 8
        assert pair.count("unguarded") >= 3
        redis.start()
        eventually(lambda: len(redis.keys()) == 3, within=30)  # it is brought what it has missed
        eventually(lambda: pair.sidecars[0].stats()["policies"]["idempotency"]["owed"] == 0)
        assert replayed(post(pair.sidecars[1], key))
        assert pair.orders.effects[key] == 1
    finally:
        redis.stop()


def test_or_refuses_where_the_policy_says_so(make: Callable[..., Pair], tmp_path: Path) -> None:
    redis = Server(tmp_path / "own")
    try:
        pair, key = make(redis, with_fields(ON, on_store_loss="Refuse")), fresh()
        assert post(pair.sidecars[0], key).status == 201
        redis.stop()
        other = fresh()
        refusal = post(pair.sidecars[0], other)
        assert (refusal.status, refusal.get("x-nova-reject"), refusal.get("retry-after")) == (503, "store_lost", "1")
        assert post(pair.sidecars[0], None, b"unkeyed").status == 201
        redis.start()
        eventually(lambda: post(pair.sidecars[0], other).status == 201, within=30)
        assert pair.orders.effects[other] == 1
    finally:
        redis.stop()


def test_without_a_redis_each_pod_knows_its_own(make: Callable[..., Pair]) -> None:
    pair, key = make(None), fresh()
    assert not replayed(post(pair.sidecars[0], key))
    assert replayed(post(pair.sidecars[0], key))
    assert not replayed(post(pair.sidecars[1], key))
    assert pair.kept("local") == 2


def test_what_stands_in_redis_is_not_believed(make: Callable[..., Pair], tmp_path: Path) -> None:
    redis = Server(tmp_path / "own")
    try:
        pair, key = make(redis), fresh()
        assert post(pair.sidecars[0], key).status == 201
        (name,) = eventually(redis.keys)
        record = decode(redis.command("GET", name))
        assert isinstance(record, Record)
        assert key.encode() not in name
        hostile = {
            "no value of ours": b"hello",
            "a second answer": encode(record._replace(fields=b"a: b\r\n\r\nHTTP/1.1 200 OK\r\n")),
            "somebody's session": encode(record._replace(fields=b"set-cookie: s=evil\r\n")),
            "a content without end": encode(record._replace(body=b"x" * 2_000_000)),
        }
        for value in hostile.values():
            redis.command("SET", name, value)
            answer = post(pair.sidecars[1], key)
            assert (answer.status, answer.body[:5], replayed(answer)) == (201, b"order", False)
            assert answer.get("set-cookie") == "s=1"
            assert replayed(post(pair.sidecars[0], key))  # what was wrong is gone
        assert "stored answer unreadable" in pair.sidecars[1].text
    finally:
        redis.stop()


# --- modes


def test_shadow_counts_and_changes_nothing(make: Callable[..., Pair], redis: Server) -> None:
    pair, key = make(redis, IdempotencyPolicy(mode="Shadow", required_paths=("/payments",))), fresh()
    assert post(pair.sidecars[0], key).status == 201
    eventually(lambda: pair.kept("stored") == 1)
    again = post(pair.sidecars[1], key)
    assert (again.status, replayed(again)) == (201, False)
    eventually(lambda: pair.count("replayed") == 1)
    assert post(pair.sidecars[1], key, b"another length").status == 201
    eventually(lambda: pair.sidecars[1].metric("nova_shadow_rejected_total", reason="idempotency_mismatch") == 1)
    assert post(pair.sidecars[0], None, b"unpaid", path="/payments").status == 201
    assert post(pair.sidecars[0], "", b"empty").status == 201
    assert pair.sidecars[0].metric("nova_shadow_rejected_total", reason="idempotency_key_invalid") == 2
    assert pair.orders.effects[key] == 2


def test_it_is_switched_off_and_on_by_the_manifest(make: Callable[..., Pair]) -> None:
    pair, key = make(None), fresh()
    sidecar, config = pair.sidecars[0], pair.config[0]
    post(sidecar, key)
    sidecar.reload(with_fields(config, idempotency=IdempotencyPolicy()))
    eventually(lambda: "idempotency" not in sidecar.stats()["policies"])
    assert not replayed(post(sidecar, key))
    sidecar.reload(config)
    eventually(lambda: "idempotency" in sidecar.stats()["policies"])
    other = fresh()
    assert [replayed(post(sidecar, other)) for _ in range(2)] == [False, True]


# --- together with retries


def test_a_call_that_is_repeated_takes_effect_once(pair: Pair, tmp_path: Path) -> None:
    """The caller's sidecar repeats a keyed POST whose connection broke while the answer was on its way; the other side
    knows that it has answered. Without the key the same failure reaches the caller."""
    folder = tmp_path / "caller"
    folder.mkdir()
    retries = RetryPolicy(attempts=4, when=("connect-failure", "reset"), min_per_second=100)
    with FaultyLink(pair.sidecars[0].address()) as link:
        caller = Sidecar.start(document(outbound(link.address, retry=retries)), folder)
        try:
            key, cut = fresh(), threading.Event()

            def left() -> float:
                return pair.sidecars[0].metric("nova_rejected_total", reason="client_closed")

            def break_once(call: Call) -> bytes | None:
                if not cut.is_set():
                    cut.set()
                    before = left()
                    link.reset_all()  # the effect is there; nobody has heard of it
                    eventually(lambda: left() > before)
                return None

            pair.orders.before = break_once
            answer = post(caller, key)
            assert (answer.status, replayed(answer)) == (201, True)
            assert pair.orders.effects[key] == 1
            assert caller.metric("nova_retries_total") >= 1

            cut.clear()
            assert post(caller, None, b"unkeyed and broken").status == 502
            assert pair.orders.effects["unkeyed and broken"] == 1
        finally:
            caller.stop()
