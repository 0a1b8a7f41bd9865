"""The analytics in a real ClickHouse server: Debian's, which is of 2018, so what it takes newer ones take as well."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar
from uuid import UUID, uuid4

import pytest

from nova_services.recommendations.clickhouse import ClickHouseStore
from nova_services.recommendations.events import NOBODY, FollowRow, PostRow
from nova_services.recommendations.port import AnalyticsError, AnalyticsUnavailableError, rows
from nova_services.recommendations.ranking import Author
from nova_services.recommendations.warehouse import Warehouse
from tests.loopback.support.clickhouseserver import Server

pytestmark = pytest.mark.timeout(240)  # the first one may have to install the server
T = TypeVar("T")
NOW = int(time.time())
LOGIN = "anna:s%3Acret@"


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("clickhouse"))
    yield server
    server.stop()


def asked(server: Server, work: Callable[[ClickHouseStore], Awaitable[T]], login: str = LOGIN) -> T:
    async def run() -> T:
        client = ClickHouseStore(f"http://{login}127.0.0.1:{server.port}/default")
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


def test_a_warehouse_is_filled_and_asked(clickhouse: Server) -> None:
    me, friend, author, post = (uuid4() for _ in range(4))

    async def work(client: ClickHouseStore) -> None:
        warehouse = Warehouse(client)
        assert await warehouse.prepare() == await warehouse.prepare()
        some = (FollowRow(me, friend, 1, 0), FollowRow(friend, author, 1, 0), PostRow(post, author, NOW, 1, 0))
        await asyncio.gather(*map(warehouse.insert, some))
        authors = await warehouse.authors(me)
        assert authors[author] == Author(common=1, followers=1)
        assert [one.post for one in await warehouse.posts([author], NOW)] == [post]
        await warehouse.insert(PostRow(post, NOBODY, 0, 9, 1))
        await warehouse.insert(PostRow(post, author, NOW, 8, 0))
        assert await warehouse.posts([author], NOW) == []

    asked(clickhouse, work)


def test_who_is_erased_is_in_no_row_after_a_moment(clickhouse: Server) -> None:
    me, friend = uuid4(), uuid4()

    async def left(client: ClickHouseStore, person: UUID) -> int:
        where = f"follower_id = toUUID('{person}') OR followee_id = toUUID('{person}')"
        (found,) = rows(
            await client.run(f"SELECT toUInt32(count()) AS n FROM follows WHERE {where} FORMAT JSONEachRow")
        )
        return int(found["n"])

    async def work(client: ClickHouseStore) -> None:
        warehouse = Warehouse(client)
        await warehouse.prepare()
        await warehouse.insert(FollowRow(me, friend, 1, 0))
        assert await left(client, friend) == 1
        await warehouse.erase(friend)
        async with asyncio.timeout(20):  # a mutation is done behind the answer
            while await left(client, friend):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.05)

    asked(clickhouse, work)


def test_it_says_why_it_refuses_and_is_away_when_it_is(clickhouse: Server) -> None:
    with pytest.raises(AnalyticsError, match="Wrong password for user anna"):
        asked(clickhouse, lambda client: client.run("SELECT 1"), login="anna:wrong@")
    with pytest.raises(AnalyticsError, match="Unknown identifier"):
        asked(clickhouse, lambda client: client.run("SELECT nothing"))
    clickhouse.stop()
    try:
        with pytest.raises(AnalyticsUnavailableError, match="ClickHouse does not answer: ClientConnectorError"):
            asked(clickhouse, lambda client: client.run("SELECT 1"))
    finally:
        clickhouse.start()
    assert asked(clickhouse, lambda client: client.run("SELECT 1 AS one FORMAT JSONEachRow")) == '{"one":1}\n'
