"""The store itself over real sockets: servers that are not there, hang, lie, move or come back, and what a call costs.

What sidecars make of it is in test_affinity_redis.py.
"""

import asyncio
import gc
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nova_sidecar.store.guarded import MOST, Call, GuardedStore
from nova_sidecar.store.port import LARGEST, LONGEST_HOLDER, StoreError
from nova_sidecar.store.redis_store import RedisBackend
from tests.crowd import CROWD

from .support.ports import free_ports
from .support.redisservers import MASTER, SentinelServer, Server, cluster, move_slots, replica_of
from .support.waiting import eventually

SOON = 1.0
"""Seconds: more than a loaded machine takes to wake up, and less than the client library's own patience."""
_LEFT_OPEN = "ignore:unclosed:ResourceWarning"
"""The client leaves connections to servers that have left its Cluster to the garbage collector (redis-py 8.1)."""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    (tmp_path / "redis").mkdir()
    made: list[Server] = []
    yield made
    for server in made:
        server.stop()


@asynccontextmanager
async def opened(url: str, within: float = 0.5) -> AsyncIterator[GuardedStore]:
    store = GuardedStore(RedisBackend(url, MOST), timeout=within, directory="", rng=Random(1), clock=time.monotonic)
    store.start()
    try:
        yield store
    finally:
        await store.close()


def run(go: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it, and find at once what it has left open."""
    asyncio.run(go())
    gc.collect()


async def waited(call: Awaitable[object]) -> float:
    """Seconds until it failed."""
    began = time.monotonic()
    with pytest.raises(StoreError):
        await call
    return time.monotonic() - began


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers no SYN: its queue of connections that nobody accepts is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()


@pytest.mark.parametrize(
    "form", ["redis://127.0.0.1:{}/0", "redis+sentinel://127.0.0.1:{}/m/0", "redis+cluster://127.0.0.1:{}"]
)
@pytest.mark.filterwarnings(_LEFT_OPEN)
def test_a_black_hole_costs_the_milliseconds_of_the_timeout(form: str) -> None:
    async def go() -> None:
        with black_hole() as port:
            async with opened(form.format(port), within=0.04) as store:
                for _ in range(3):
                    assert 0.039 <= await waited(store.get("a")) < SOON
                assert await waited(store.get("a")) < 0.04  # it is left alone
                assert store.calls[Call.TIMEOUT] == 3
                assert store.snapshot()["state"] == "open"

    run(go)


def test_a_server_that_is_stopped_costs_its_timeout_and_is_used_again(servers: list[Server], tmp_path: Path) -> None:
    servers.append(Server(tmp_path / "redis"))
    process = servers[0]._process
    assert process is not None

    async def go() -> None:
        async with opened(f"redis://127.0.0.1:{servers[0].port}/0", within=0.1) as store:
            await store.put("a", b"1", 60)
            process.send_signal(signal.SIGSTOP)
            try:
                assert 0.099 <= await waited(store.get("a")) < SOON
                late = [waited(store.get("a")) for _ in range(5 * MOST)]
                assert max(await asyncio.gather(*late)) < SOON  # those that find no place wait no longer
            finally:
                process.send_signal(signal.SIGCONT)
            assert await again(lambda: store.get("a")) == b"1"

    run(go)


async def again(call: Callable[[], Awaitable[object]], within: float = 20.0) -> object:
    """What it answers once it does."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await call()
            except StoreError:
                await asyncio.sleep(0.02)


GARBAGE = {
    "words": b"hello\r\n", "a number": b":x\r\n", "a length": b"$x\r\n", "another type": b":5\r\n",
    "too short": b"$5\r\nab\r\n",
    "nested": b"*1\r\n" * 20_000, "binary": b"\xff\xfe\x00\x01" * 20 + b"\r\n", "a line without end": b"x" * 200_000,
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "an error": b"-ERR no\r\n", "nothing": b"",
    "a huge value": b"$99999999999\r\nabc", "many": b"*99999999\r\n",
}  # fmt: skip


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_redis_is_an_error_in_time(said: bytes) -> None:
    """Whatever it says, whoever asked gets a StoreError, which all policies know how to live without."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said and await reader.read(1 << 16):
            writer.write(said)
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with opened(f"redis://127.0.0.1:{port}/0", within=0.3) as store:
            assert await waited(store.get("a")) < 0.3 + SOON
            assert await waited(store.hold("a", b"v", 1.0)) < 0.3 + SOON
            assert store.calls[Call.OK] == 0
        server.close()

    run(go)


def test_values_have_a_bound(servers: list[Server], tmp_path: Path) -> None:
    """Whoever writes to the same Redis must not fill the sidecars' memory, nor keep a session from having a pod."""
    servers.append(Server(tmp_path / "redis"))

    async def go() -> None:
        async with opened(f"redis://127.0.0.1:{servers[0].port}/0", within=5.0) as store:
            servers[0].command("SET", "large", "x" * (LARGEST + 1))
            servers[0].command("SET", "fits", "x" * LARGEST)
            with pytest.raises(StoreError, match="at most"):
                await store.get("large")
            assert len(await store.get("fits") or b"") == LARGEST
            assert await store.get("none") is None
            assert await store.hold("large", b"pod", 60) == b"pod"
            assert servers[0].command("GET", "large") == b"pod"
            servers[0].command("SET", "held", "x" * LONGEST_HOLDER)
            assert await store.hold("held", b"pod", 60) == b"x" * LONGEST_HOLDER

    run(go)


def test_connections_have_a_bound_and_are_used_again(servers: list[Server], tmp_path: Path) -> None:
    servers.append(Server(tmp_path / "redis"))

    async def go() -> None:
        async with opened(f"redis://127.0.0.1:{servers[0].port}/0", within=10.0) as store:
            for _ in range(3):
                await asyncio.gather(*(store.put(f"k{number}", b"v", 60) for number in range(300)))
            info = servers[0].command("INFO", "stats")
            assert info["total_connections_received"] <= MOST + 10  # ours, and those of the fixture
            assert servers[0].command("CLIENT", "LIST").count(b"\n") <= MOST + 1
        eventually(lambda: servers[0].command("CLIENT", "LIST").count(b"\n") == 1)

    run(go)


def test_a_restarted_server_is_used_again_without_a_failed_call(servers: list[Server], tmp_path: Path) -> None:
    """All kept connections are dead then: each is found so by one call, which takes another."""
    servers.append(Server(tmp_path / "redis"))

    async def go() -> None:
        async with opened(f"redis://127.0.0.1:{servers[0].port}/0", within=5.0) as store:
            await asyncio.gather(*(store.put(f"k{number}", b"v", 60) for number in range(MOST)))
            servers[0].stop()
            servers[0].start()
            await asyncio.gather(*(store.put(f"k{number}", b"v", 60) for number in range(MOST)))
            assert store.calls[Call.FAILED] == store.calls[Call.TIMEOUT] == 0

    run(go)


@pytest.mark.filterwarnings(_LEFT_OPEN)
def test_slots_that_move_under_load_fail_no_call(servers: list[Server], tmp_path: Path) -> None:
    nodes = cluster(tmp_path / "redis")
    servers += nodes
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    keys = [f"session:{number}" for number in range(60)]

    async def go() -> None:
        async with opened(url, within=5.0) as store:
            for key in keys:
                await store.hold(key, key.encode(), 600)
            ended = asyncio.Event()
            rounds = 0

            async def ask() -> None:
                nonlocal rounds
                while not ended.is_set():
                    for key in keys:
                        assert await store.hold(key, b"another", 600) == key.encode()
                        assert await store.get(key) == key.encode()
                        rounds += 1

            asking = [asyncio.create_task(ask()) for _ in range(3)]
            slots = sorted({nodes[0].command("CLUSTER", "KEYSLOT", key) for key in keys})
            here = [slot for slot in slots if slot < 5462]
            assert len(here) > 5
            before = rounds
            moved = await asyncio.to_thread(move_slots, nodes[0], nodes[1], [nodes[2]], here)
            assert moved >= len(here)
            async with asyncio.timeout(20 * CROWD):
                while rounds < before + 3 * len(keys):  # noqa: ASYNC110 - the askers tell nobody
                    await asyncio.sleep(0.01)
            ended.set()
            await asyncio.gather(*asking)
            assert nodes[0].keys() == []
            assert store.calls[Call.FAILED] == store.calls[Call.TIMEOUT] == 0

    run(go)


@pytest.mark.filterwarnings(_LEFT_OPEN)
def test_a_replica_of_a_cluster_takes_over(servers: list[Server], tmp_path: Path) -> None:
    nodes = cluster(tmp_path / "redis")
    servers += nodes
    servers.append(replica_of(tmp_path / "redis", nodes[0]))
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    keys = [f"session:{number}" for number in range(30)]

    async def go() -> None:
        async with opened(url, within=1.0) as store:
            for key in keys:
                await store.put(key, b"v", 600)
            eventually(lambda: len(servers[3].keys()) == len(nodes[0].keys()))
            nodes[0].stop()
            for key in keys:
                assert await again(lambda key=key: store.get(key), within=40) == b"v"  # type: ignore[misc]  # bound
            assert store.calls[Call.FAILED] + store.calls[Call.TIMEOUT] > 0
            assert store.snapshot()["state"] == "closed"

    run(go)


def test_sentinels_tell_of_the_new_master_while_calls_are_made(servers: list[Server], tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    master = Server(directory)
    servers.append(master)
    replica = Server(directory, "--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
    servers.append(replica)
    eventually(lambda: replica.command("INFO", "replication")["master_link_status"] == "up", within=20)
    sentinel = SentinelServer(directory, master)
    servers.append(sentinel)
    eventually(lambda: sentinel.command("SENTINEL", "REPLICAS", MASTER), within=20)

    async def go() -> None:
        async with opened(f"redis+sentinel://127.0.0.1:{sentinel.port}/{MASTER}/0", within=0.5) as store:
            await store.put("a", b"1", 600)
            eventually(lambda: replica.keys() == [b"a"])
            master.stop()
            assert await waited(store.put("b", b"2", 600)) < 0.5 + SOON
            await again(lambda: store.put("b", b"2", 600), within=40)
            assert (await store.get("a"), await store.get("b")) == (b"1", b"2")
            assert replica.command("ROLE")[0] == b"master"

    run(go)


def test_a_server_that_is_not_there_is_refused_at_once_and_asked_seldom() -> None:
    async def go() -> None:
        port = free_ports(1)[0]
        async with opened(f"redis://127.0.0.1:{port}/0", within=1.0) as store:
            for _ in range(200):
                with pytest.raises(StoreError):
                    await store.get("a")
            assert store.calls[Call.FAILED] == 3
            assert store.calls[Call.SKIPPED] == 197

    run(go)
