"""Changes of a schema in small steps, each of which lets traffic pass (`patience`).

    short   statements of one transaction: they take strong locks, and have nothing to do that takes long
    long    one statement that reads many rows under a lock that lets traffic pass, such as VALIDATE CONSTRAINT
    batch   one statement that changes some rows, again and again until there are none left
    index   CREATE INDEX CONCURRENTLY; a broken one of that name is dropped first
    drop    DROP INDEX CONCURRENTLY

A step that does not get its lock is tried again; one that was ended half way has either happened or not, but for an
index, of which a broken one is left that the next run replaces.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Literal

import asyncpg
import msgspec

from nova_data.errors import SchemaError
from nova_data.schema.database import ANSWER, LATE, NO_LOCK, Connection, bound, oldest_transaction, said
from nova_data.schema.index_state import index_state
from nova_data.schema.patience import Patience
from nova_data.schema.statements import quoted

Kind = Literal["short", "long", "batch", "index", "drop"]

BUILD_LOOK: Final = 1.0
"""Seconds between two looks at an index that another session builds."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One change. `what` is said to people; `table` and `index` are for the kind ``index`` alone."""

    what: str
    sql: tuple[str, ...]
    kind: Kind = "short"
    table: str = ""
    index: str = ""


class Stepper:
    """Takes steps on one connection."""

    def __init__(
        self, connection: Connection, patience: Patience, *, random: Random, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._connection = connection
        self._patience = patience
        self._random = random
        self._say = say
        self._started = time.monotonic()

    async def take(self, steps: Iterable[Step]) -> int:
        """All of them, in order; how many that were. Raises SchemaError naming the step."""
        count = 0
        for step in steps:
            await self._take(step)
            count += 1
        return count

    async def _take(self, step: Step) -> None:
        tries, started = 0, time.monotonic()
        while True:
            try:
                await self._once(step)
            except NO_LOCK as error:
                tries += 1
                await self._wait(step, tries, error)
            except asyncpg.PostgresError as error:
                raise SchemaError(f"{step.what}: {self._words(step, error)}") from error
            else:
                self._say(f"{step.what}: {time.monotonic() - started:.2f} s")
                return

    async def _once(self, step: Step) -> None:
        left = self._patience.left(time.monotonic() - self._started)
        if step.kind == "short":
            await self._short(step, min(left, self._patience.hold))
        elif step.kind == "batch":
            await self._batches(step)
        else:
            if step.kind == "index" and not await self._is_wanted(step):
                return
            lock = self._patience.lock_timeout if step.kind == "long" else 0.0
            await bound(self._connection, lock=lock, statement=left)
            for sql in step.sql:
                await self._connection.execute(sql, timeout=left + LATE)

    async def _short(self, step: Step, hold: float) -> None:
        async with self._connection.transaction():
            await bound(self._connection, lock=self._patience.lock_timeout, statement=hold)
            for sql in step.sql:
                await self._connection.execute(sql, timeout=hold + LATE)

    async def _batches(self, step: Step) -> None:
        await bound(self._connection, lock=self._patience.lock_timeout, statement=self._patience.hold)
        while True:
            counts = [await self._connection.execute(sql, timeout=self._patience.hold + LATE) for sql in step.sql]
            if all(count.endswith(" 0") for count in counts):
                return

    async def _is_wanted(self, step: Step) -> bool:
        """Whether there is no such index yet; a broken one is taken out of the way."""
        state = await index_state(self._connection, step.table, step.index)
        while state == "building":
            await asyncio.sleep(BUILD_LOOK)
            state = await index_state(self._connection, step.table, step.index)
        if state == "invalid":
            schema = await self._connection.fetchval(
                "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass($1)",
                step.table,
                timeout=ANSWER,
            )
            self._say(f"index {step.index}: left broken by a run that failed; it is built again")
            left = self._patience.left(time.monotonic() - self._started)
            await bound(self._connection, lock=0.0, statement=left)
            await self._connection.execute(
                f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{quoted(step.index)}", timeout=left + LATE
            )
        return state != "valid"

    async def _wait(self, step: Step, tries: int, error: Exception) -> None:
        pause = self._patience.pause(tries, time.monotonic() - self._started, self._random)
        who = await oldest_transaction(self._connection)
        if pause is None:
            raise SchemaError(
                f"{step.what}: got no lock in {tries} tries ({said(error)}); {who}; the steps before it stand: end "
                "that transaction and run the command again"
            ) from error
        self._say(f"{step.what}: no lock; {who}; next try in {pause:.1f} s")
        await asyncio.sleep(pause)

    def _words(self, step: Step, error: asyncpg.PostgresError) -> str:
        if not isinstance(error, asyncpg.QueryCanceledError):
            return f"{said(error)}; the steps before it stand"
        if step.kind in {"short", "batch"}:
            return f"not done within {self._patience.hold:g} s, and taken back; run the command again, or raise --hold"
        return f"not done within {self._patience.timeout:g} s; run the command again, or raise --timeout"
