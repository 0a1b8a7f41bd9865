"""Endpoints that come, go, die and do not answer: requests do not notice."""

import asyncio
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from nova_api.policies import BreakerPolicy, EndpointBreakerPolicy, PoolPolicy, RetryPolicy, TimeoutPolicy
from nova_api.proxy import Address
from nova_api.units import Duration
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.runtime import loop_factory
from nova_sidecar.transport.endpoints import interleaved
from nova_sidecar.transport.pool import Pool
from nova_sidecar.transport.race import race
from nova_sidecar.transport.resolver import DnsResolver, ResolvConf
from nova_sidecar.transport.seat import CloseReason, Seat
from tests.crowd import CROWD

from .conftest import StartSidecar
from .support.app import Answer, App
from .support.message import request, response
from .support.nameserver import NameServer, Question, Record, from_table, reply
from .support.ports import free_ports
from .support.sidecar import ONCE, Sidecar, document, outbound
from .support.waiting import eventually

HOST = "auth.svc"
TWO, THREE, FOUR = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def records(*addresses: str) -> list[Record]:
    return [Record(HOST, "AAAA" if ":" in address else "A", address, 1) for address in addresses]


class Scene:
    """A sidecar towards HOST, and the name server that says where that is."""

    def __init__(self, start: StartSidecar, names: NameServer, port: int, policies: dict[str, object]) -> None:
        # no retries and no breaker: every failure reaches the client
        defaults = {"retry": RetryPolicy(mode="Off"), "circuit_breaker": BreakerPolicy(mode="Off")}
        config = document(outbound((HOST, port), **(defaults | policies)), resolver="dns")
        self.names = names
        self.sidecar = start(config, names)

    def move(self, *addresses: str) -> None:
        """From now on HOST is there."""
        self.names.answer = from_table(*records(*addresses))

    def ask(self) -> int:
        with self.sidecar.connect() as client:
            return client.exchange(request()).status

    @property
    def pool(self) -> dict[str, Any]:
        return self.sidecar.stats()["outbound"]["db"]["pool"]

    @property
    def known(self) -> set[str]:
        """Addresses the sidecar uses."""
        return {endpoint["address"].rpartition(":")[0] for endpoint in self.pool["endpoints"]}


MakeScene = Callable[..., Scene]


@pytest.fixture
def scene(start: StartSidecar) -> Iterator[MakeScene]:
    servers: list[NameServer] = []

    def make(*addresses: str, port: int, **policies: object) -> Scene:
        servers.append(NameServer(from_table(*records(*addresses))))
        return Scene(start, servers[-1], port, policies)

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., App]]:
    """Start an app at an address; all of them have the same port."""
    port = free_ports(1)[0]
    running: list[App] = []

    def serve_at(host: str, *answer: Answer, port: int = port) -> App:
        running.append(App(*answer, address=(host, port)))
        return running[-1]

    yield serve_at
    for app in running:
        app.stop()


class Clients:
    """So many clients that ask without a pause, each over a connection of its own; `failures` should stay empty."""

    def __init__(self, scene: Scene, count: int = 16) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self._scene = scene
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(10)

    def _ask(self) -> None:
        with self._scene.sidecar.connect() as client:
            while not self._ended.is_set():
                try:
                    answer = client.exchange(request())
                except (AssertionError, OSError) as error:
                    self.failures.append(repr(error))
                    return
                self.answers += 1
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {answer.get('x-nova-reject')}")


def test_endpoints_come_and_go_under_load_without_a_failure(scene: MakeScene, serve: Callable[..., App]) -> None:
    two, three, four = (serve(address) for address in (TWO, THREE, FOUR))
    it = scene(TWO, port=two.address[1])
    with Clients(it) as clients:
        eventually(lambda: len(two.calls) > 100)
        it.move(TWO, THREE)
        eventually(lambda: len(three.calls) > 100, within=10)
        it.move(THREE)
        eventually(lambda: it.known == {THREE}, within=10)
        eventually(lambda: two.open_connections == 0, within=10)  # all had finished, then they were closed
        two.stop()
        it.move(THREE, FOUR)
        eventually(lambda: len(four.calls) > 100, within=10)
        it.move(FOUR)
        eventually(lambda: it.known == {FOUR} and three.open_connections == 0, within=10)
    assert clients.failures == []
    assert clients.answers > 400


def test_what_is_under_way_at_a_removed_endpoint_is_finished(scene: MakeScene, serve: Callable[..., App]) -> None:
    gate = threading.Event()

    def slow(_: object) -> bytes:
        gate.wait(10)
        return response(body=b"late")

    leaving, staying = serve(TWO, slow), serve(THREE)
    it = scene(TWO, port=leaving.address[1])
    with it.sidecar.connect() as client:
        client.send(request())
        eventually(lambda: len(leaving.calls) == 1)
        it.move(THREE)
        eventually(lambda: it.known == {THREE}, within=10)
        assert it.ask() == 200
        gate.set()
        assert client.response().body == b"late"
        eventually(lambda: leaving.open_connections == 0)
    assert len(staying.calls) == 1


def test_a_dead_endpoint_that_is_still_in_dns_costs_no_request(scene: MakeScene, serve: Callable[..., App]) -> None:
    """A connection that is refused goes to the next endpoint within the same attempt, and soon not there at all."""
    alive = serve(TWO)
    breaker = BreakerPolicy(mode="Off", endpoints=EndpointBreakerPolicy(failure_threshold=3))
    it = scene(TWO, THREE, port=alive.address[1], circuit_breaker=breaker, pool=PoolPolicy(max_requests=1))
    assert [it.ask() for _ in range(60)] == [200] * 60
    dead = next(endpoint for endpoint in it.pool["endpoints"] if endpoint["address"].startswith(THREE))
    assert dead["ejected"]
    assert len(alive.calls) == 60
    assert it.sidecar.metric("nova_connect_failures_total") == 3
    assert it.sidecar.metric("nova_retries_total") == 0


def test_endpoints_are_not_to_blame_for_what_this_machine_lacks(scene: MakeScene, serve: Callable[..., App]) -> None:
    """Without a descriptor for a connection, no endpoint is taken out for not having taken it."""
    two, three = serve(TWO), serve(THREE)
    breaker = BreakerPolicy(mode="Off", endpoints=EndpointBreakerPolicy(failure_threshold=1))
    it = scene(TWO, THREE, port=two.address[1], circuit_breaker=breaker, pool=ONCE)
    with it.sidecar.connect() as client:
        assert client.exchange(request()).status == 200
        eventually(lambda: two.open_connections + three.open_connections == 0)
        with no_descriptor(it.sidecar.process.pid):
            refusal = client.exchange(request())
        assert (refusal.status, refusal.get("x-nova-reject")) == (503, "connect_failure")
        assert b"Too many open files" in refusal.body
        assert client.exchange(request()).status == 200
    assert [endpoint["failures"] for endpoint in it.pool["endpoints"]] == [0, 0]
    assert not any(endpoint["ejected"] for endpoint in it.pool["endpoints"])


@contextmanager
def no_descriptor(pid: int) -> Iterator[None]:
    """A process that may open nothing more: its limit is the number of the first free descriptor."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = next(number for number in range(1 << 20) if number not in taken)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_family_that_does_not_answer_is_overtaken(scene: MakeScene, serve: Callable[..., App]) -> None:
    """A blackhole, as a family without a route is: the other one is tried after 250 ms (RFC 8305 section 5)."""
    with blackhole() as port:
        alive = serve("127.0.0.1", port=port)
        it = scene("::1", "127.0.0.1", port=port, timeout=TimeoutPolicy(connect=Duration(5)), pool=ONCE)
        began = time.monotonic()
        assert [it.ask() for _ in range(4)] == [200] * 4
        assert time.monotonic() - began < 4  # the connect timeout is 5 s
        assert it.sidecar.metric("nova_connect_failures_total") >= 1
    assert len(alive.calls) == 4


@contextmanager
def blackhole() -> Iterator[int]:
    """A port of ::1 where the kernel drops every SYN, since the queue of the listener is full."""
    try:
        full = socket.socket(socket.AF_INET6)
        full.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    full.listen(0)
    fillers = [socket.socket(socket.AF_INET6) for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    try:
        yield full.getsockname()[1]
    finally:
        for each in (full, *fillers):
            each.close()


def test_a_thousand_addresses_are_understood() -> None:
    """More than a datagram holds: the name server says so, and is asked again over TCP."""
    many = [f"10.{1 + number // 250}.0.{1 + number % 250}" for number in range(1000)]

    async def resolve(names: NameServer) -> set[str]:
        conf = ResolvConf(("127.0.0.1",), (), 1)
        resolver = DnsResolver(conf, port=names.port, families=lambda: ("A",))
        try:
            found = await resolver.resolve(HOST, 80)
        finally:
            await resolver.close()
        return {address for address, _ in found.addresses}

    def answer(question: Question) -> bytes:
        if question.transport == "udp":
            return reply(question, truncated=True)
        return reply(question, *records(*many))

    names = NameServer(answer)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            assert runner.run(resolve(names)) == set(many)
    finally:
        names.close()


@pytest.mark.alone
@pytest.mark.parametrize("balance", ["RoundRobin", "LeastRequest"])
def test_a_request_costs_the_same_with_a_thousand_endpoints(balance: str) -> None:
    def cost(endpoints: int) -> float:
        policy = PoolPolicy(balance=balance, size=10_000)  # type: ignore[arg-type]  # one of two words
        pool: Pool[Pooled, str] = Pool(policy, Lifespan(policy, Random(1)), Random(1))
        pool.replace_endpoints([(f"10.0.{number // 250}.{number % 250}", 80) for number in range(endpoints)])
        for _ in range(2 * endpoints):
            seat = pool.checkout()
            if isinstance(seat, Seat):
                pool.put(Pooled(seat))
        began = time.perf_counter()
        for _ in range(20_000):
            connection = pool.checkout()
            if isinstance(connection, Seat):
                connection = Pooled(connection)
            assert connection is not None
            pool.retire(connection, 0.0)
            pool.put(connection)
        return time.perf_counter() - began

    few, many = min(cost(2) for _ in range(5)), min(cost(1000) for _ in range(5))
    assert many < 10 * few, f"{many / few:.1f} times"  # five hundred times the endpoints, outside of the caches
    print(f"{balance}: {few / 20_000 * 1e9:.0f} ns with 2 endpoints, {many / 20_000 * 1e9:.0f} ns with 1000")


class Pooled:
    """What the pool looks at."""

    def __init__(self, seat: "Seat[Pooled]") -> None:
        self.seat = seat
        self.retire_at = 1e9
        self.requests = 0
        self.reusable = True
        self.close_reason: CloseReason | None = None


def test_the_families_take_turns() -> None:
    endpoints = tuple((address, 80) for address in ("1.1.1.1", "1.1.1.2", "1.1.1.3", "::1"))
    assert [address for address, _ in interleaved(endpoints)] == ["1.1.1.1", "::1", "1.1.1.2", "1.1.1.3"]
    assert interleaved(()) == ()


# --- the race itself, on a loop whose attempts end as told


def run_race(plan: dict[str, float | Exception], stagger: float = 0.05) -> tuple[str | Exception, list[str], list[str]]:
    """Who won, or the error; who was begun; who lost. A number is how long an attempt takes to succeed, an exception
    how it fails at once."""
    begun: list[str] = []
    lost: list[str] = []
    rest = iter(plan)

    async def attempt(name: str) -> None:
        begun.append(name)
        outcome = plan[name]
        if isinstance(outcome, Exception):
            raise outcome
        await asyncio.sleep(outcome)

    async def go() -> str | Exception:
        try:
            return await race(
                attempt, lambda: next(rest, None), lost=lambda name, _error: lost.append(name), stagger=stagger
            )
        except ConnectionError as error:
            return error
        finally:
            assert len(asyncio.all_tasks()) == 1, "nothing goes on after a race"

    return asyncio.run(go()), begun, lost


def test_the_first_is_alone_when_it_is_quick() -> None:
    assert run_race({"a": 0.0, "b": 0.0}, stagger=5) == ("a", ["a"], [])


def test_a_failure_starts_the_next_at_once() -> None:
    assert run_race({"a": ConnectionError("refused"), "b": 0.0}, stagger=5) == ("b", ["a", "b"], ["a"])


def test_a_slow_one_is_overtaken() -> None:
    assert run_race({"a": 60.0, "b": 0.0}) == ("b", ["a", "b"], ["a"])


def test_a_slow_one_that_is_faster_in_the_end_wins() -> None:
    assert run_race({"a": 0.3, "b": 60.0}) == ("a", ["a", "b"], ["b"])


def test_when_all_fail_the_last_failure_is_told() -> None:
    last = ConnectionError("b")
    assert run_race({"a": ConnectionError("a"), "b": last}) == (last, ["a", "b"], ["a", "b"])


def test_a_race_that_is_cancelled_cancels_its_attempts() -> None:
    async def go() -> None:
        cancelled: list[str] = []

        async def attempt(name: str) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(name)
                raise

        rest = iter("ab")
        running = asyncio.ensure_future(race(attempt, lambda: next(rest, None), lost=lambda *_: None, stagger=0.01))
        async with asyncio.timeout(10 * CROWD):
            while len(asyncio.all_tasks()) < 4:  # noqa: ASYNC110 - this one, the race and two attempts
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert sorted(cancelled) == ["a", "b"]

    asyncio.run(go())


def test_the_pods_of_a_service_are_found_one_by_one_and_the_name_stays_the_apps(
    start: StartSidecar, serve: Callable[..., App]
) -> None:
    """`discovery: Endpoints`: the headless Service is asked, at the pods' own port; nothing else shows it."""
    two, three = serve(TWO), serve(THREE)
    pods = Address(host="auth-endpoints.svc", port=two.address[1])
    names = NameServer(from_table(*[Record(pods.host, "A", address, 1) for address in (TWO, THREE)]))
    ejecting = BreakerPolicy(endpoints=EndpointBreakerPolicy(mode="Enforce", failure_threshold=1))
    try:
        sidecar = start(
            document(
                outbound((HOST, 80), endpoints=pods, circuit_breaker=ejecting, retry=RetryPolicy(mode="Off")),
                resolver="dns",
            ),
            names,
        )
        eventually(lambda: len(sidecar.stats()["outbound"]["db"]["pool"]["endpoints"]) == 2)
        for _ in range(20):
            with sidecar.connect() as client:
                assert client.exchange(request(host="auth.svc:80")).status == 200
        with sidecar.connect() as client:
            client.send(b"GET /old HTTP/1.0\r\n\r\n")
            assert client.response().status == 200
        seen = two.requests + three.requests
        assert two.requests
        assert three.requests
        assert {one.get("host") for one in seen} == {"auth.svc:80"}
        assert not [asked for asked in names.asked if asked.endswith(f" {HOST}")]
        two.answer = lambda _: response("500 No")
        eventually(lambda: _ejected(sidecar, request(host="auth.svc:80")) == [f"{TWO}:{pods.port}"])
    finally:
        names.close()


def _ejected(sidecar: Sidecar, asked: bytes) -> list[str]:
    with sidecar.connect() as client:
        client.exchange(asked)
    found = sidecar.stats()["outbound"]["db"]["pool"]["endpoints"]
    return [endpoint["address"] for endpoint in found if endpoint["ejected"]]
