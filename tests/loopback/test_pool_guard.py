"""A full database pool of the app sheds load at the door: the app's library and a real sidecar, side by side."""

import asyncio
import contextlib
import http.client
from collections.abc import Awaitable, Callable

import aiohttp
import asyncpg
import grpc
import pytest
from aiohttp import web

from nova_api.proxy import ProxyConfig
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.units import Duration
from nova_data.errors import PoolExhaustedError
from nova_data.pool_guard import PoolGuard
from nova_data.pool_reporter import PoolReporter
from tests.crowd import CROWD

from .conftest import StartApp, StartSidecar
from .support.grpcapp import GrpcApp, GrpcClient
from .support.grpcapp import request as grpc_request
from .support.message import Message, request
from .support.ports import free_ports
from .support.postgresserver import Server as Postgres
from .support.sidecar import Sidecar, document, inbound, with_fields
from .support.waiting import eventually

GUARDED = PoolGuardPolicy(mode="Enforce")
PAGE = "/pool-guard?pool=main&source=5f0c5f0c5f0c5f0c&held={}&size=20&exhausted=3"
FULL, ROOM = PAGE.format(20), PAGE.format(3)


def guarded(app: tuple[str, int], policy: PoolGuardPolicy = GUARDED) -> ProxyConfig:
    return document(inbound(app), pool_guard=policy)


def ask(sidecar: Sidecar, path: str = "/") -> Message:
    with sidecar.connect() as client:
        client.send(request("GET", path))
        return client.response()


def control(sidecar: Sidecar) -> tuple[str, int]:
    address = sidecar.config.admin.control
    return address.host, address.port


async def soon(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(10 * CROWD):
        while True:
            found = condition()
            if found is True or (not isinstance(found, bool) and await found):
                return
            await asyncio.sleep(0.01)


# --- reports


def test_a_full_pool_is_refused_at_the_door_until_it_has_room(start: StartSidecar, app: StartApp) -> None:
    upstream = app()
    sidecar = start(guarded(upstream.address))
    assert ask(sidecar).status == 200
    code, body = sidecar.control("POST", FULL)
    assert (code, body) == (200, b'{"mode":"Enforce","threshold":0.85,"lifetimeSeconds":3.0}')
    refusal = ask(sidecar)
    assert (refusal.status, refusal.get("x-nova-reject"), refusal.get("retry-after")) == (
        503,
        "database_saturated",
        "1",
    )
    assert len(upstream.calls) == 1  # the app has heard nothing of it
    assert sidecar.metric("nova_pool_guard_refusing") == 1
    assert sidecar.metric("nova_pool_guard_utilization_ratio", pool="main") == 1
    assert sidecar.metric("nova_pool_guard_exhausted_total", pool="main") == 3
    assert sidecar.metric("nova_rejected_total", reason="database_saturated") == 1
    sidecar.control("POST", ROOM)
    assert ask(sidecar).status == 200
    assert sidecar.metric("nova_pool_guard_refusing") == 0
    assert sidecar.stats()["policies"]["poolGuard"]["reports"] == {"accepted": 2, "malformed": 0, "too_many": 0}


def test_an_app_that_reports_no_more_shuts_nobody_out(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(guarded(app().address, PoolGuardPolicy(mode="Enforce", lifetime=Duration(2))))
    sidecar.control("POST", FULL)
    assert ask(sidecar).status == 503
    eventually(lambda: ask(sidecar).status == 200, within=5)
    assert sidecar.metric("nova_pool_guard_utilization_ratio", pool="main") == 0


def test_shadow_counts_and_refuses_nobody(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(guarded(app().address, PoolGuardPolicy(mode="Shadow")))
    sidecar.control("POST", FULL)
    assert ask(sidecar).status == 200
    assert sidecar.metric("nova_shadow_rejected_total", reason="database_saturated") == 1
    assert sidecar.metric("nova_rejected_total", reason="database_saturated") == 0


def test_only_listed_paths_need_the_database(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(guarded(app().address, PoolGuardPolicy(mode="Enforce", paths=("/orders*",))))
    sidecar.control("POST", FULL)
    assert ask(sidecar, "/static/app.js").status == 200
    assert ask(sidecar, "/orders/7?x=1").status == 503


def test_a_change_of_the_manifest_applies_within_seconds(start: StartSidecar, app: StartApp) -> None:
    config = guarded(app().address)
    sidecar = start(config)
    sidecar.control("POST", FULL)
    assert ask(sidecar).status == 503
    sidecar.reload(with_fields(config, pool_guard=PoolGuardPolicy(mode="Enforce", threshold=1.0)))
    eventually(lambda: ask(sidecar).status == 200)
    sidecar.reload(with_fields(config, pool_guard=PoolGuardPolicy()))
    eventually(lambda: sidecar.control("POST", FULL)[0] == 409)
    assert ask(sidecar).status == 200
    sidecar.reload(config)
    eventually(lambda: sidecar.control("POST", FULL)[0] == 200)
    assert ask(sidecar).status == 503


def test_what_is_no_report_is_refused_and_counted(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(guarded(app().address))
    for query in ("", "?pool=main", "?" + "x" * 4000, FULL.removeprefix("/pool-guard") + "&more=1"):
        assert sidecar.control("POST", f"/pool-guard{query}")[0] == 400
    assert sidecar.control("GET", FULL)[0] == 405
    assert sidecar.metric("nova_pool_guard_reports_total", result="malformed") == 4
    assert ask(sidecar).status == 200


def test_a_loop_that_reports_without_end_is_told_to_wait(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(guarded(app().address))
    connection = http.client.HTTPConnection(*control(sidecar), timeout=5)
    codes = []
    for _ in range(600):
        connection.request("POST", ROOM)
        answer = connection.getresponse()
        answer.read()
        codes.append(answer.status)
    connection.close()
    assert set(codes) == {200, 429}
    assert ask(sidecar).status == 200


def test_reports_come_from_the_pod_alone(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(guarded(app().address))
    assert sidecar.status(FULL)[0] == 404  # what the cluster can reach takes none

    def post(**fields: str) -> int:
        connection = http.client.HTTPConnection(*control(sidecar), timeout=5)
        connection.request("POST", FULL, headers=fields)
        status = connection.getresponse().status
        connection.close()
        return status

    assert post(Host="evil.example") == 403
    assert post(Origin="http://evil.example") == 403
    assert ask(sidecar).status == 200
    assert post() == 200


def test_a_grpc_call_is_refused_too(start: StartSidecar) -> None:
    server = GrpcApp()
    try:
        sidecar = start(document(inbound(server.address, protocol="grpc"), pool_guard=GUARDED))
        sidecar.control("POST", FULL)
        with GrpcClient(sidecar.address()) as client:
            with pytest.raises(grpc.RpcError) as caught:
                client.unary(grpc_request(), timeout=10)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            sidecar.control("POST", ROOM)
            client.unary(grpc_request(), timeout=10)
    finally:
        server.stop()


# --- the library


def test_the_library_reports_at_once_what_turns(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(guarded(app().address))

    async def run() -> None:
        guard: PoolGuard[None] = PoolGuard("main", size=1)

        async def status() -> int:
            return (await asyncio.to_thread(ask, sidecar)).status

        async with PoolReporter(guard, address=control(sidecar)) as reporter:
            await soon(lambda: reporter.reports == 1)
            assert await status() == 200
            began = asyncio.get_running_loop().time()
            async with guard.acquire():
                await soon(lambda: reporter.reports == 2)
                assert asyncio.get_running_loop().time() - began < 0.8  # not with the next steady report
                assert await status() == 503
            await soon(lambda: reporter.reports == 3)
            assert await status() == 200
            assert "reports=" in repr(reporter)
            async with guard.acquire():
                await soon(lambda: reporter.reports >= 6)  # without news they go on, or they would be forgotten
                assert await status() == 503

    asyncio.run(run())


def test_the_manifests_threshold_is_the_librarys(start: StartSidecar, app: StartApp) -> None:
    config = guarded(app().address, PoolGuardPolicy(mode="Enforce", threshold=0.5))
    sidecar = start(config)

    async def run() -> None:
        guard: PoolGuard[None] = PoolGuard("main", size=10)
        async with PoolReporter(guard, address=control(sidecar)):
            await soon(lambda: guard.gate.threshold == 0.5)
            sidecar.reload(with_fields(config, pool_guard=PoolGuardPolicy(mode="Enforce", threshold=1.0)))
            await soon(lambda: guard.gate.threshold == 1.0)

    asyncio.run(run())


def test_an_app_lives_without_a_sidecar_and_finds_one_that_comes_back(start: StartSidecar, app: StartApp) -> None:
    config = guarded(app().address)

    async def run() -> None:
        guard: PoolGuard[None] = PoolGuard("main", size=1)
        address = (config.admin.control.host, config.admin.control.port)
        async with PoolReporter(guard, address=address) as reporter:
            async with guard.acquire():
                with pytest.raises(PoolExhaustedError):  # the guard needs nobody
                    async with guard.acquire():
                        raise AssertionError
            await asyncio.to_thread(start, config)
            await soon(lambda: reporter.reports > 0)

    asyncio.run(run())


def test_a_sidecar_that_says_nonsense_changes_nothing() -> None:
    (port,) = free_ports(1)
    answers = [
        b"nonsense",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{"threshold": 77}',
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
    ]

    async def run(answer: bytes) -> None:
        left = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.write_eof()
            await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            left.set()

        guard: PoolGuard[None] = PoolGuard("main", size=10)
        async with await asyncio.start_server(serve, "127.0.0.1", port):
            async with PoolReporter(guard, address=("127.0.0.1", port)) as reporter:
                await left.wait()  # it has hung up
                assert reporter.reports == 0
            assert guard.gate.threshold == 0.85

    for answer in answers:
        asyncio.run(run(answer))


# --- all of it


def test_load_beyond_the_database_is_shed_before_the_app(start: StartSidecar, postgres: Postgres) -> None:
    """Eight connections, queries of 50 ms, sixty callers who come back at once: much of what is refused never
    reaches the app, the door opens again as soon as there is room, and nobody waits for a connection in vain."""

    async def run() -> None:
        async with asyncpg.create_pool(postgres.url, min_size=8, max_size=8) as pool:
            guard = PoolGuard("main", size=8, acquire=pool.acquire, release=pool.release)
            reached = refused_by_app = 0

            async def handler(_: web.Request) -> web.Response:
                nonlocal reached, refused_by_app
                reached += 1
                try:
                    async with guard.acquire() as connection:
                        await connection.execute("SELECT pg_sleep(0.05)")
                except PoolExhaustedError:
                    refused_by_app += 1
                    return web.Response(status=503, headers={"retry-after": "1"})
                return web.Response(text="served")

            service = web.Application()
            service.router.add_get("/", handler)
            runner = web.AppRunner(service, access_log=None)
            await runner.setup()
            (port,) = free_ports(1)
            await web.TCPSite(runner, "127.0.0.1", port).start()
            sidecar = await asyncio.to_thread(start, guarded(("127.0.0.1", port)))
            statuses: list[int] = []

            async def caller(session: aiohttp.ClientSession) -> None:
                while statuses.count(200) < 120:
                    async with session.get("http://{}:{}/".format(*sidecar.address())) as answer:
                        await answer.read()
                        statuses.append(answer.status)
                    if answer.status == 503:
                        await asyncio.sleep(0.02)

            async with PoolReporter(guard, address=control(sidecar)) as reporter:
                await soon(lambda: reporter.reports > 0)
                connector = aiohttp.TCPConnector(limit=0)
                async with aiohttp.ClientSession(connector=connector) as session:
                    await asyncio.gather(*(caller(session) for _ in range(60)))
            await runner.cleanup()
            refused = statuses.count(503)
            at_the_door = len(statuses) - reached
            assert set(statuses) == {200, 503}
            assert at_the_door + refused_by_app == refused
            assert at_the_door > 0  # half of all refusals and more where the machine has nothing else to do
            assert guard.gate.exhausted["timeout"] == 0
            assert guard.gate.used == 0

    asyncio.run(run())
