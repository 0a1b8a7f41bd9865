"""The analytics in chdb, which is ClickHouse's engine, and the client of ClickHouse's HTTP interface.

The client speaks to a small endpoint of this test's own, behind which chdb executes what came: that proves the
requests, and the statements with an engine of today. A server's own HTTP is in test_recommendations_clickhouse.py.
"""

import asyncio
import base64
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest

from nova_services.recommendations.clickhouse import ClickHouseStore
from nova_services.recommendations.embedded import EmbeddedStore
from nova_services.recommendations.events import NOBODY, FollowRow, PostRow
from nova_services.recommendations.port import AnalyticsError, AnalyticsUnavailableError, rows
from nova_services.recommendations.ranking import Author
from nova_services.recommendations.warehouse import Warehouse
from tests.loopback.support.ports import free_ports

pytest.importorskip("chdb", reason="the extra `analytics` is not installed: pip install -e '.[analytics]'")

T = TypeVar("T")
NOW = int(time.time())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """The one that a process can have."""
    made = EmbeddedStore(tmp_path_factory.mktemp("analytics") / "store")
    yield made
    asyncio.run(made.close())


class Counting:
    """A store that counts what it is asked, and can be held up."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[str] = []
        self.held: asyncio.Event | None = None

    async def run(self, statement: str) -> str:
        self.asked.append(statement)
        if self.held is not None:
            await self.held.wait()
        found: str = await self._store.run(statement)
        return found

    async def close(self) -> None:
        """It is the other one's."""


def with_warehouse(store: EmbeddedStore, work: Callable[[Warehouse, Counting], Awaitable[T]]) -> T:
    async def run() -> T:
        counting = Counting(store)
        warehouse = Warehouse(counting)
        await warehouse.prepare()
        for table in ("posts", "follows"):
            await store.run(f"TRUNCATE TABLE {table}")
        counting.asked.clear()
        return await work(warehouse, counting)

    return asyncio.run(run())


def follow(follower: UUID, followee: UUID, version: int = 1, gone: int = 0) -> FollowRow:
    return FollowRow(follower, followee, version, gone)


async def insert(warehouse: Warehouse, *rows: PostRow | FollowRow) -> None:
    await asyncio.gather(*map(warehouse.insert, rows))


def test_whom_one_could_follow_is_whom_friends_do(store: EmbeddedStore) -> None:
    me, friend, other, author, loner = (uuid4() for _ in range(5))

    async def work(warehouse: Warehouse, _: Counting) -> dict[UUID, Author]:
        mine = [follow(me, friend), follow(me, other), follow(friend, author), follow(other, author)]
        await insert(warehouse, *mine, follow(friend, me), follow(author, loner))
        return await warehouse.authors(me)

    assert with_warehouse(store, work) == {author: Author(common=2, followers=2), loner: Author(0, 1)}


def test_an_older_event_that_comes_later_changes_nothing(store: EmbeddedStore) -> None:
    me, friend, author = (uuid4() for _ in range(3))
    post = uuid4()

    async def work(warehouse: Warehouse, _: Counting) -> tuple[Any, Any]:
        await insert(warehouse, follow(me, friend, 5), follow(friend, author, 7, gone=1))
        await insert(warehouse, PostRow(post, NOBODY, 0, 9, 1))
        await insert(warehouse, follow(friend, author, 6), PostRow(post, author, NOW, 8, 0), follow(me, friend, 5))
        return await warehouse.authors(me), await warehouse.posts([author, NOBODY], NOW)

    assert with_warehouse(store, work) == ({}, [])


def test_posts_are_the_latest_of_whom_was_asked_for(store: EmbeddedStore) -> None:
    anna, ben = uuid4(), uuid4()
    kept = [PostRow(uuid4(), anna, NOW - age, 1, 0) for age in range(12)]
    old, other = PostRow(uuid4(), anna, NOW - 15 * 86400, 1, 0), PostRow(uuid4(), ben, NOW, 1, 0)

    async def work(warehouse: Warehouse, _: Counting) -> list[UUID]:
        await insert(warehouse, *kept, old, other)
        return [one.post for one in await warehouse.posts([anna], NOW)]

    assert with_warehouse(store, work) == [one.post_id for one in kept[:10]]


def test_rows_that_come_together_are_one_insert(store: EmbeddedStore) -> None:
    async def work(warehouse: Warehouse, counting: Counting) -> tuple[int, int]:
        await insert(warehouse, *(PostRow(uuid4(), uuid4(), NOW, 1, 0) for _ in range(300)))
        inserts = len(counting.asked)
        (found,) = rows(await store.run("SELECT toUInt32(count()) AS n FROM posts FORMAT JSONEachRow"))
        return inserts, found["n"]

    inserts, found = with_warehouse(store, work)
    assert found == 300
    assert inserts <= 2


def test_identical_queries_in_flight_run_once(store: EmbeddedStore) -> None:
    users = [uuid4() for _ in range(10)]

    async def work(warehouse: Warehouse, counting: Counting) -> tuple[list[str], list[Any]]:
        counting.held = asyncio.Event()
        asking = [asyncio.create_task(warehouse.authors(user)) for user in users for _ in range(2)]
        while warehouse.queries.followed < len(asking) - 1 or not counting.asked:  # noqa: ASYNC110 - counters tell nobody
            await asyncio.sleep(0)
        first = list(counting.asked)
        counting.held.set()
        return first, await asyncio.gather(*asking)

    first, answers = with_warehouse(store, work)
    assert len(first) == 1, "who is popular is the same for everybody"
    assert answers == [{}] * 20


def test_who_is_erased_is_in_no_row_and_what_is_gone_goes(store: EmbeddedStore) -> None:
    me, friend, author, post = (uuid4() for _ in range(4))

    async def work(warehouse: Warehouse, _: Counting) -> tuple[str, str]:
        await insert(warehouse, follow(me, friend), follow(friend, author), PostRow(post, friend, NOW, 1, 0))
        await insert(warehouse, follow(me, author, 2, gone=1), PostRow(uuid4(), NOBODY, 0, 5, 1))
        await warehouse.erase(friend)
        await warehouse.tidy()
        asked = "SELECT toUInt32(count()) AS n FROM {} FORMAT JSONEachRow"
        return await store.run(asked.format("posts")), await store.run(asked.format("follows"))

    assert with_warehouse(store, work) == ('{"n":0}\n', '{"n":0}\n')


def test_a_store_knows_itself_again(store: EmbeddedStore) -> None:
    async def twice() -> tuple[UUID, UUID]:
        return await Warehouse(store).prepare(), await Warehouse(store).prepare()

    first, second = asyncio.run(twice())
    assert first == second


def test_a_statement_that_is_wrong_is_an_error_of_ours(store: EmbeddedStore) -> None:
    with pytest.raises(AnalyticsError, match="Unknown"):
        asyncio.run(store.run("SELECT nothing FORMAT JSONEachRow"))


# --- by HTTP


class Endpoint:
    """Executes what is POSTed, as ClickHouse's interface does, for who has the password."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.status = 0
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, daemon=True)
        self._thread.start()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                endpoint.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                status, text = 200, ""
                if endpoint.status:
                    status = endpoint.status
                elif (self.headers["X-ClickHouse-User"], self.headers["X-ClickHouse-Key"]) != ("anna", "s:cret"):
                    status, text = 403, "Code: 516. DB::Exception: anna: Authentication failed"
                else:
                    try:
                        text = asyncio.run_coroutine_threadsafe(store.run(body), loop).result(10)
                    except AnalyticsError as error:
                        status, text = 404, str(error)
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def endpoint(store: EmbeddedStore) -> Iterator[Endpoint]:
    made = Endpoint(store)
    yield made
    made.close()


def by_http(port: int, work: Callable[[ClickHouseStore], Awaitable[T]], user: str = "anna:s%3Acret@") -> T:
    async def run() -> T:
        client = ClickHouseStore(f"http://{user}127.0.0.1:{port}/shop", timeout=5)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


def test_a_warehouse_is_filled_and_asked_by_http(store: EmbeddedStore, endpoint: Endpoint) -> None:
    me, friend, author = (uuid4() for _ in range(3))

    async def work(client: ClickHouseStore) -> dict[UUID, Author]:
        warehouse = Warehouse(client)
        await warehouse.prepare()
        await client.run("TRUNCATE TABLE follows")
        await insert(warehouse, follow(me, friend), follow(friend, author))
        return await warehouse.authors(me)

    assert by_http(endpoint.port, work) == {author: Author(common=1, followers=1)}
    path, headers = endpoint.requests[-1]
    assert parse_qs(urlsplit(path).query) == {"database": ["shop"], "max_execution_time": ["5"]}
    assert "s:cret" not in path
    assert base64.b64encode(b"anna:s:cret").decode() not in str(headers)


def test_a_server_that_refuses_says_why_and_one_that_is_away_is_away(endpoint: Endpoint) -> None:
    with pytest.raises(AnalyticsError, match=r"^Code: 516"):
        by_http(endpoint.port, lambda client: client.run("SELECT 1"), user="anna@")
    with pytest.raises(AnalyticsError, match="Unknown"):
        by_http(endpoint.port, lambda client: client.run("SELECT nothing"))
    endpoint.status = 503
    with pytest.raises(AnalyticsUnavailableError, match="ClickHouse answers 503"):
        by_http(endpoint.port, lambda client: client.run("SELECT 1"))
    with pytest.raises(AnalyticsUnavailableError, match="ClickHouse does not answer: ClientConnectorError"):
        by_http(free_ports(1)[0], lambda client: client.run("SELECT 1"))


def test_without_chdb_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "chdb.session", None)

    async def ask() -> None:
        missing = EmbeddedStore(tmp_path)
        try:
            await missing.run("SELECT 1")
        finally:
            await missing.close()

    with pytest.raises(AnalyticsUnavailableError, match=r"pip install nova\[analytics\]"):
        asyncio.run(ask())
