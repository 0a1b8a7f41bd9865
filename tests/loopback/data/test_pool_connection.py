"""A connection whose BEGIN and COMMIT take something along: nothing else is to be noticed of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from nova_data.pool.connection import JoiningConnection
from tests.loopback.support.postgresserver import Server as Postgres


def run(postgres: Postgres, work: Callable[[Any, list[str]], Awaitable[None]]) -> None:
    """With a pool of one connection, and what was sent by it."""

    async def all_of_it() -> None:
        sent: list[str] = []

        async def log(connection: Any) -> None:
            connection.add_query_logger(lambda record: sent.append(record.query))

        async with asyncpg.create_pool(
            postgres.url, min_size=1, max_size=1, command_timeout=10, init=log, connection_class=JoiningConnection
        ) as pool:
            await work(pool, sent)

    asyncio.run(all_of_it())


def test_a_transaction_is_three_round_trips_with_what_goes_along(postgres: Postgres) -> None:
    async def work(pool: Any, sent: list[str]) -> None:
        async with pool.acquire() as connection:
            connection.join_begin("SELECT 1 WHERE 2 > 1")
            connection.join_reset()
            async with connection.transaction():
                assert connection.tag == "SELECT 1"
                await connection.fetchval("SELECT 2")
        assert len(sent) == 3, sent
        async with pool.acquire() as connection:
            connection.join_begin("SELECT 1 WHERE 2 < 1")
            async with connection.transaction():
                assert connection.tag == "SELECT 0"
        assert len(sent) == 6, sent  # the reset on its own

    run(postgres, work)


def test_what_one_leaves_behind_the_next_one_does_not_find(postgres: Postgres) -> None:
    """Settings, locks of the session and channels, after a commit and after a rollback."""

    async def leaves(connection: Any) -> None:
        await connection.execute("SET application_name = 'left'; LISTEN left_behind; SELECT pg_advisory_lock(42)")

    async def work(pool: Any, _: list[str]) -> None:
        for divisor in (1, 0):
            async with pool.acquire() as connection:
                connection.join_reset()
                with suppress(asyncpg.DivisionByZeroError):
                    async with connection.transaction():
                        await leaves(connection)
                        await connection.execute(f"SELECT 1 / {divisor}")
            async with pool.acquire() as connection:
                assert await connection.fetchval("SHOW application_name") == ""
                assert await connection.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
                assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
                await leaves(connection)  # and without a transaction
            async with pool.acquire() as connection:
                assert await connection.fetchval("SHOW application_name") == ""

    run(postgres, work)


def test_what_fails_along_with_begin_leaves_nothing_begun(postgres: Postgres) -> None:
    async def work(pool: Any, _: list[str]) -> None:
        for _turn in range(2):
            async with pool.acquire() as connection:
                connection.join_begin("SELECT 1 / 0")
                connection.join_reset()
                with pytest.raises(asyncpg.DivisionByZeroError):
                    async with connection.transaction():
                        raise AssertionError("a transaction that did not begin")
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            async with connection.transaction():
                assert await connection.fetchval("SELECT 1") == 1
            await connection.execute("SET application_name = 'left'")  # nothing of what was to be joined is left
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW application_name") == ""

    run(postgres, work)


def test_a_transaction_that_an_error_broke_off_is_not_committed_in_silence(postgres: Postgres) -> None:
    async def work(pool: Any, _: list[str]) -> None:
        async with pool.acquire() as connection:
            connection.join_reset()
            transaction = connection.transaction()
            await transaction.start()
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1 / 0")
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await transaction.commit()
        async with pool.acquire() as connection:
            connection.join_reset()
            async with connection.transaction():
                with pytest.raises(asyncpg.DivisionByZeroError):
                    async with connection.transaction():  # one within it: a savepoint, and the transaction stands
                        await connection.execute("SELECT 1 / 0")
                assert await connection.fetchval("SELECT 1") == 1

    run(postgres, work)
