"""Idempotency keys in PostgreSQL: a key is a row in the transaction of its effect, so both are there or neither is.

    keys = PostgresKeys(pool, scope="billing")

    async def charge(connection):
        await connection.execute("INSERT INTO charges …")

    await keys.once(event.idempotency_key, charge)        # True: charged now; False: it was before

Why the effect takes place exactly once, whatever dies when:

* Before the commit there is neither row nor effect; the event comes again and finds nothing.
* After the commit both are there; the event comes again and is told so, even if nobody heard the commit's answer.
* Two who handle the same event at the same time, such as a consumer that lost its partition without knowing: the
  second waits for the first one's transaction, and then sees its row, or does what that one did not
  (`nova_data.dedup.schema`).
* The same holds for order: who handles events of a key one after the other, whether or not another one does the same,
  has each one's effect only after the one before it is committed.

What lies outside this database (a mail, a call) is not undone by a rollback: write it to the outbox in the same
transaction, or use `nova_data.dedup.redis` and read what it promises.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, Protocol, TypeVar

import asyncpg

from nova_data.database import GONE
from nova_data.dedup.bloom import RecentKeys
from nova_data.dedup.claims import claimed, first, first_of, seen, standing
from nova_data.dedup.key import checked_scope, digest
from nova_data.dedup.metrics import DedupMetrics
from nova_data.errors import DedupStoreError, DedupTransactionError, PoolExhaustedError
from nova_data.transactions import in_transaction

ACQUIRE_TIMEOUT: Final = 5.0
"""Seconds to wait for a connection of the pool; statements have the pool's own `command_timeout`."""
_AWAY: Final = (
    *GONE,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    PoolExhaustedError,
)
"""What is raised when the server is gone, there is no connection to be had, or it is no primary any more."""


class Event(Protocol):
    """Whatever has a key, such as a consumer's message."""

    @property
    def idempotency_key(self) -> str:
        """1 to 512 characters."""


E = TypeVar("E", bound=Event)


class PostgresKeys:
    """Keys of one `scope`, usually a consumer group's name, in the database of a pool: asyncpg's, or
    `nova_data.pool.database`.

    `recent` spares what was seen before a transaction. Raises ValueError for a scope that is none.
    """

    def __init__(
        self,
        pool: Any,
        *,
        scope: str,
        recent: RecentKeys | None = None,
        metrics: DedupMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scope = checked_scope(scope)
        self._pool = pool
        self._recent = recent
        self._metrics = metrics or DedupMetrics.silent()
        self._clock = clock
        self._metrics.add(self.scope)

    async def once(self, key: str, effect: Callable[[Any], Awaitable[object]]) -> bool:
        """Run `effect` with a connection in a transaction, unless that was done for this key; whether it was done now.

        What the effect raises undoes both and passes through. Raises DedupStoreError where the database is not there,
        also while the effect runs, asyncpg.InFailedSQLTransactionError where the effect took no notice of an error of
        the database, by which all of it was undone, and ValueError for a key that is none.
        """
        known = digest(self.scope, key)
        with self._translated() as trial:
            async with AsyncExitStack() as stack:
                connection = await self._acquired(stack)
                if self._maybe(known) and await seen(connection, known):
                    done = False
                elif done := await stack.enter_async_context(claimed(connection, known)):
                    await trial.run(effect, connection)
        self._told(known, done)
        return done

    async def once_of(self, events: Sequence[E], effect: Callable[[Any, list[E]], Awaitable[object]]) -> list[bool]:
        """The same for many events in one transaction, all or nothing: run `effect` with a connection and those whose
        effect did not take place yet, in their order, unless there are none; of each event, whether it did now.

        Raises what `once` does. Two that have keys and rows in common may be in each other's way (a deadlock, which
        PostgreSQL ends after a second); then one of them is undone, and is to be tried again.
        """
        known = [digest(self.scope, event.idempotency_key) for event in events]
        with self._translated() as trial:
            async with AsyncExitStack() as stack:
                connection = await self._acquired(stack)
                await stack.enter_async_context(standing(connection))
                answers = await first_of(connection, known)
                new = [event for event, done in zip(events, answers, strict=True) if done]
                if new:
                    await trial.run(effect, connection, new)
        for each, done in zip(known, answers, strict=True):
            self._told(each, done)
        return answers

    async def first(self, connection: Any, key: str) -> bool:
        """Whether nobody had this key, which is taken with it: for a transaction of one's own, of asyncpg or psycopg 3.

        A rollback gives the key back. Raises what the driver does, DedupTransactionError outside a transaction, and
        ValueError for a key that is none.
        """
        known = digest(self.scope, key)
        _require_transaction(connection)
        done = await first(connection, known)
        self._metrics.count(self.scope, "first" if done else "duplicate")
        return done

    async def first_of(self, connection: Any, keys: Sequence[str]) -> list[bool]:
        """The same for many keys in one round trip (asyncpg): of one that is there twice the earlier one is first."""
        asked = [digest(self.scope, key) for key in keys]
        _require_transaction(connection)
        answers = await first_of(connection, asked)
        for done in answers:
            self._metrics.count(self.scope, "first" if done else "duplicate")
        return answers

    async def _acquired(self, stack: AsyncExitStack) -> Any:
        async with asyncio.timeout(ACQUIRE_TIMEOUT):
            return await stack.enter_async_context(self._pool.acquire())

    @contextmanager
    def _translated(self) -> Iterator["_Trial"]:
        """Raises DedupStoreError where the database was not there."""
        trial = _Trial()
        try:
            yield trial
        except _AWAY as error:
            if isinstance(error, ValueError) or (trial.under_way and isinstance(error, OSError)):
                raise  # asyncpg's for an argument of a wrong type; the effect's own, such as a call that took too long
            self._metrics.count(self.scope, "failed")
            raise DedupStoreError(f"the database of the keys: {type(error).__name__}") from error

    def _maybe(self, known: bytes) -> bool:
        if self._recent is None:
            return False
        maybe = self._recent.maybe(known, self._clock())
        self._metrics.bloom(self.scope, maybe=maybe)
        return maybe

    def _told(self, known: bytes, done: bool) -> None:
        self._metrics.count(self.scope, "first" if done else "duplicate")
        if done and self._recent is not None:
            self._recent.add(known, self._clock())

    def __repr__(self) -> str:
        return f"<PostgresKeys {self.scope}>"


def _require_transaction(connection: Any) -> None:
    if not in_transaction(connection):
        raise DedupTransactionError


class _Trial:
    """Tells whose error it is that is raised: while an effect is under way it may be the effect's own."""

    def __init__(self) -> None:
        self.under_way = False

    async def run(self, effect: Callable[..., Awaitable[object]], *arguments: Any) -> None:
        self.under_way = True
        await effect(*arguments)
        self.under_way = False
