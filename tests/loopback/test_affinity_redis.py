"""Sessions whose pod stands in Redis, between real sidecars and real servers that are stopped, hung and moved."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api.proxy import Store
from nova_api.units import Duration

from .support.certificates import Authority
from .support.fleet import Fleet, Pod, cookie_of
from .support.ports import free_ports
from .support.redisservers import MASTER, SentinelServer, Server, cluster
from .support.sidecar import with_fields
from .support.waiting import eventually

_LEFT_OPEN = ("ResourceWarning: unclosed resource <TCPTransport", "  loop.close()")
"""The client leaves connections to a server that has left its Cluster to the garbage collector (redis-py 8.1)."""
HALF_A_SECOND = Duration(0.5)
"""More than a loaded machine takes for a call."""


class Servers:
    """What a test has started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[Server] = []

    def one(self, *options: str) -> Server:
        self.running.append(Server(self.directory, *options))
        return self.running[-1]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    made = Servers(tmp_path / "redis")
    made.directory.mkdir()
    yield made
    for server in made.running:
        server.stop()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    made: list[Fleet] = []

    def make(url: str, **store: Any) -> Fleet:
        defaults = {"timeout": HALF_A_SECOND, "directory": ""}
        made.append(Fleet(tmp_path, store=Store(url=url, **(defaults | store))))
        return made[-1]

    yield make
    for each in made:
        each.close()


def url(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


def given(pod: Pod) -> str:
    cookie = cookie_of(pod.ask())
    assert cookie is not None
    return cookie


def calls(pod: Pod, result: str) -> float:
    return pod.sidecar.metric("nova_store_calls_total", store="sessions", result=result)


def state(pod: Pod) -> str:
    found: str = pod.sidecar.stats()["affinity"]["store"]["state"]
    return found


class Clients:
    """Clients with a session each that ask all pods without a pause; `wrong` should stay empty."""

    def __init__(self, pods: list[Pod], homes: list[Pod]) -> None:
        self.answers = 0
        self.wrong: list[object] = []
        self._pods = pods
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(given(home),), daemon=True) for home in homes]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(10)

    def _ask(self, cookie: str) -> None:
        while not self._ended.is_set():
            for pod in self._pods:
                try:
                    answer = pod.ask(cookie)
                except (AssertionError, OSError) as error:
                    self.wrong.append(repr(error))
                    return
                self.answers += 1
                if answer.status != 200:
                    self.wrong.append(answer)
                cookie = cookie_of(answer) or cookie

    def go_on(self, count: int = 60) -> None:
        """So many more answers, and none of them wrong."""
        until = self.answers + count
        eventually(lambda: self.wrong or self.answers >= until, within=20)
        assert self.wrong == []


def test_a_session_is_bound_when_its_client_comes_back(fleet: Callable[..., Fleet], servers: Servers) -> None:
    redis = servers.one()
    a, b = fleet(url(redis)).start_all(2)
    cookie = given(a)
    assert redis.keys() == []
    assert b.ask(cookie).body == b"a"
    (key,) = redis.keys()
    assert key.startswith(b"nova:default/shop:session:")
    assert 3_500_000 < redis.command("PTTL", key) <= 3_600_000
    assert a.address.encode() not in redis.command("GET", key)
    before = calls(b, "ok")
    assert [b.ask(cookie).body for _ in range(20)] == [b"a"] * 20
    assert calls(b, "ok") <= before + 1  # what it said is good for a while


def test_all_pods_agree_on_one_new_home_and_an_old_cookie_still_finds_it(
    fleet: Callable[..., Fleet], servers: Servers
) -> None:
    it = fleet(url(servers.one()))
    a, b, c = it.start_all(3)
    cookie = given(a)
    assert {pod.ask(cookie).body for pod in (b, c)} == {b"a"}
    it.kill(a)
    it.list(b.address, c.address)
    it.settle()
    asked: list[bytes] = []
    together = [threading.Thread(target=lambda pod=pod: asked.append(pod.ask(cookie).body)) for pod in (b, c) * 4]  # type: ignore[misc]  # bound
    for each in together:
        each.start()
    for each in together:
        each.join()
    assert len(asked) == 8
    assert len(set(asked)) == 1
    assert {pod.ask(cookie).body for pod in (b, c)} == set(asked)


def test_a_pod_that_cannot_be_reached_loses_its_sessions_to_whoever_finds_out(
    fleet: Callable[..., Fleet], servers: Servers
) -> None:
    redis = servers.one()
    it = fleet(url(redis))
    a, b, c = it.start_all(3)
    cookie = given(a)
    assert b.ask(cookie).body == b"a"
    (key,) = redis.keys()
    before = redis.command("GET", key)
    it.kill(a)  # the name server still knows it
    answer = b.ask(cookie)
    assert answer.body == b"b"
    eventually(lambda: redis.command("GET", key) != before)
    moved = cookie_of(answer)
    assert c.ask(moved).body == b"b"
    assert b.ask(cookie).body == b"b"


def test_a_redis_that_is_killed_fails_no_request_and_loses_no_session(
    fleet: Callable[..., Fleet], servers: Servers
) -> None:
    redis = servers.one()
    pods = fleet(url(redis)).start_all(2)
    a, b = pods
    cookie = given(a)
    with Clients(pods, [a, b, a, b]) as clients:
        clients.go_on()
        redis.stop()
        new = given(a)
        clients.go_on()
        assert b.ask(cookie).body == b"a"  # by what the cookie itself says
        assert b.ask(new).body == b"a"
        eventually(lambda: [b.ask(given(a)), state(b)][1] == "open")
        assert calls(b, "failed") >= 3
        before = calls(b, "failed")
        for _ in range(20):
            assert b.ask(given(a)).body == b"a"
        assert calls(b, "skipped") > 0
        assert calls(b, "failed") <= before + 3  # now and then one tries
        redis.start()
        eventually(lambda: [b.ask(given(a)), state(b)][1] == "closed", within=15)
        clients.go_on()
    events = [line["event"] for line in b.sidecar.log]
    assert "store lost" in events
    assert "store back" in events


def test_a_redis_that_hangs_costs_a_few_requests_its_timeout_and_no_more(
    fleet: Callable[..., Fleet], servers: Servers
) -> None:
    redis = servers.one()
    a, b = fleet(url(redis), timeout=Duration(0.2)).start_all(2)
    assert b.ask(given(a)).body == b"a"
    process = redis._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: [b.ask(given(a)), state(b)][1] == "open")
        assert calls(b, "timeout") >= 3
        assert b.ask(given(a)).body == b"a"
    finally:
        process.send_signal(signal.SIGCONT)
    eventually(lambda: [b.ask(given(a)), state(b)][1] == "closed", within=15)


def test_credentials_are_those_of_the_secret_and_change_with_it(
    fleet: Callable[..., Fleet], servers: Servers, tmp_path: Path
) -> None:
    login = tmp_path / "login"
    login.mkdir()
    (login / "password").write_text("not this one")
    redis = servers.one("--requirepass", "s3cret-enough")
    a, b = fleet(url(redis), directory=str(login)).start_all(2)
    assert b.ask(given(a)).body == b"a"
    assert calls(b, "failed") == 1
    (login / "fresh").write_text("s3cret-enough\n")
    (login / "fresh").rename(login / "password")
    eventually(lambda: [b.ask(given(a)), calls(b, "ok")][1] > 0, within=15)
    assert "s3cret-enough" not in b.sidecar.text


def test_by_tls_it_must_prove_who_it_is(fleet: Callable[..., Fleet], servers: Servers, tmp_path: Path) -> None:
    authority, login = Authority(), tmp_path / "login"
    login.mkdir()
    (login / "ca.crt").write_bytes(Authority().certificate)  # another one
    certificate, key = authority.issue("localhost")
    for name, content in (("cert", certificate), ("key", key), ("ca", authority.certificate)):
        (tmp_path / name).write_bytes(content)
    files = [f"--tls-{kind}-file" for kind in ("cert", "key", "ca-cert")]
    paths = [str(tmp_path / name) for name in ("cert", "key", "ca")]
    options = [word for pair in zip(files, paths, strict=True) for word in pair]
    port = free_ports(1)[0]
    servers.one(*options, "--tls-port", str(port), "--tls-auth-clients", "no")
    it = fleet(f"rediss://localhost:{port}/0", directory=str(login), timeout=Duration(2))
    a, b = it.start_all(2)
    assert b.ask(given(a)).body == b"a"
    assert (calls(b, "ok"), calls(b, "failed")) == (0, 1)
    (login / "fresh").write_bytes(authority.certificate)
    (login / "fresh").rename(login / "ca.crt")
    eventually(lambda: [b.ask(given(a)), calls(b, "ok")][1] > 0, within=15)


def test_a_master_that_dies_is_followed_by_its_replica(fleet: Callable[..., Fleet], servers: Servers) -> None:
    master = servers.one()
    replica = servers.one("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
    eventually(lambda: replica.command("INFO", "replication")["master_link_status"] == "up", within=20)
    sentinel = SentinelServer(servers.directory, master)
    servers.running.append(sentinel)
    eventually(lambda: sentinel.command("SENTINEL", "REPLICAS", MASTER), within=20)
    pods = fleet(f"redis+sentinel://127.0.0.1:{sentinel.port}/{MASTER}/0").start_all(2)
    a, b = pods
    cookie = given(a)
    assert b.ask(cookie).body == b"a"
    eventually(lambda: len(replica.keys()) == 1)
    with Clients(pods, [a, b]) as clients:
        master.stop()
        eventually(lambda: replica.command("ROLE")[0] == b"master", within=30)
        before = len(replica.keys())
        eventually(lambda: [b.ask(given(a)), len(replica.keys())][1] > before, within=20)
        clients.go_on()
    assert b.ask(cookie).body == b"a"


def test_a_cluster_goes_on_without_one_of_its_servers(fleet: Callable[..., Fleet], servers: Servers) -> None:
    nodes = cluster(servers.directory)
    servers.running += nodes
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    it = fleet(f"redis+cluster://{hosts}")
    it.expected = _LEFT_OPEN
    pods = it.start_all(2)
    a, b = pods
    for _ in range(60):
        assert b.ask(given(a)).body == b"a"
    assert all(node.keys() for node in nodes)
    with Clients(pods, [a, b]) as clients:
        nodes[0].stop()
        clients.go_on()
        for _ in range(20):
            assert b.ask(given(a)).body == b"a"
        clients.go_on()
    assert calls(b, "failed") + calls(b, "timeout") > 0


def test_another_store_is_taken_over_while_requests_are_under_way(
    fleet: Callable[..., Fleet], servers: Servers
) -> None:
    first, second = servers.one(), servers.one()
    it = fleet(url(first))
    pods = it.start_all(2)
    a, b = pods
    with Clients(pods, [a, b, a]) as clients:
        clients.go_on()
        moved = with_fields(it.affinity, store=Store(url=url(second), timeout=HALF_A_SECOND))
        for pod in pods:
            it.reload(pod, affinity=moved)
        eventually(lambda: len(second.keys()) >= 3, within=15)
        clients.go_on()
        for pod in pods:
            it.reload(pod, affinity=with_fields(moved, store=None))
        eventually(lambda: second.command("CLIENT", "LIST").count(b"\n") == 1, within=15)
        clients.go_on()


def test_without_a_store_the_client_library_is_not_there() -> None:
    """It is 10 MB in every pod; with affinity by cookie alone it is not imported either."""
    code = (
        "import sys, nova_sidecar.main, nova_sidecar.runtime, nova_sidecar.pipeline.affinity, "
        "nova_sidecar.pipeline.sessions; sys.exit('redis' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
