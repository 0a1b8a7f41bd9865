"""Calls that are shared and batched, counted by a real PostgreSQL."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nova_data.calls.batching import Batcher
from nova_data.calls.coalescing import Coalescer
from nova_data.pool.database import Database
from nova_data.pool.settings import PoolSettings
from tests.loopback.support.postgresserver import Server

DOCS = Path(__file__).resolve().parents[3] / "docs"


@asynccontextmanager
async def writers(postgres: Server) -> AsyncIterator[Database]:
    """A database with a table of 100 authors."""
    async with Database(postgres.url, settings=PoolSettings(size=10, threshold=1.0)) as database:
        async with database.acquire() as connection:
            await connection.execute(
                "CREATE TABLE authors (id int PRIMARY KEY, name text NOT NULL);"
                "INSERT INTO authors SELECT n, 'author ' || n FROM generate_series(0, 99) n"
            )
        try:
            yield database
        finally:
            async with database.acquire() as connection:
                await connection.execute("DROP TABLE authors")


def test_a_query_that_many_ask_at_once_runs_once(postgres: Server) -> None:
    async def run() -> None:
        async with writers(postgres) as database:
            calls: Coalescer[int] = Coalescer()
            ran = 0

            async def total() -> int:
                nonlocal ran
                ran += 1
                async with database.acquire() as connection:
                    found: int = await connection.fetchval("SELECT count(*) FROM authors, pg_sleep(0.1)")
                    return found

            assert await asyncio.gather(*(calls.call("total", total) for _ in range(200))) == [100] * 200
            assert (ran, calls.led, calls.followed) == (1, 1, 199)
            assert await calls.call("total", total) == 100
            assert ran == 2

    asyncio.run(run())


def test_220_loads_are_three_queries(postgres: Server) -> None:
    async def run() -> None:
        async with writers(postgres) as database:
            batches: list[Sequence[int]] = []

            async def load(keys: Sequence[int]) -> dict[int, Any]:
                batches.append(keys)
                async with database.acquire() as connection:
                    rows = await connection.fetch("SELECT id, name FROM authors WHERE id = ANY($1::int[])", keys)
                    return {row["id"]: row["name"] for row in rows}

            authors = Batcher(load, missing=None)
            keys = [number % 110 for number in range(220)]
            found = await authors.load_all(keys)
            assert found == [f"author {key}" if key < 100 else None for key in keys]
            assert [len(batch) for batch in batches] == [100, 100, 20]

    asyncio.run(run())


def test_the_examples_in_the_docs_work(postgres: Server) -> None:
    async def run() -> None:
        text = (DOCS / "coalescing-calls.md").read_text()
        scope: dict[str, Any] = {}
        for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(code, scope)
        async with writers(postgres) as database, database.acquire() as connection:
            rows = await scope["report"](connection, "SELECT count(*) AS total FROM authors WHERE id < $1", 7)
            assert [row["total"] for row in rows] == [7]
            report = [scope["report"](connection, "SELECT pg_sleep(0.05)") for _ in range(5)]
            await asyncio.gather(*report)
            assert (scope["report"].calls.led, scope["report"].calls.followed) == (2, 4)
            assert await scope["page"](connection, [3, 1, 3, 777]) == ["author 3", "author 1", "author 3", "unknown"]

    asyncio.run(run())
