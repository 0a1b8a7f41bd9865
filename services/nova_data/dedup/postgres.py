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
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import asyncpg

from nova_data.database import GONE
from nova_data.dedup.bloom import RecentKeys
from nova_data.dedup.key import checked_scope, digest
from nova_data.dedup.metrics import DedupMetrics
from nova_data.errors import DedupStoreError, DedupTransactionError, PoolExhaustedError
from nova_data.transactions import in_transaction

ACQUIRE_TIMEOUT: Final = 5.0
"""Seconds to wait for a connection of the pool; statements have the pool's own `command_timeout`."""
_FIRST: Final = "SELECT nova_dedup_first({}::uuid, {}::bigint)"
_SEEN: Final = "SELECT EXISTS (SELECT FROM dedup_keys WHERE digest = $1)"
_FIRST_OF: Final = """
SELECT place, nova_dedup_first(digest, key_lock) FROM (
    SELECT * FROM unnest($1::int[], $2::uuid[], $3::bigint[]) AS asked(place, digest, key_lock)
    ORDER BY key_lock, place OFFSET 0
) AS in_order
"""
"""In the order of their locks, whoever asks, so that no two who ask for many keys wait for each other in a circle."""
_AWAY: Final = (
    *GONE,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    PoolExhaustedError,
)
"""What is raised when the server is gone, there is no connection to be had, or it is no primary any more."""


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
        also while the effect runs, and ValueError for a key that is none.
        """
        known = digest(self.scope, key)
        under_way = False
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(ACQUIRE_TIMEOUT):
                    connection = await stack.enter_async_context(self._pool.acquire())
                if self._maybe(known) and await connection.fetchval(_SEEN, uuid.UUID(bytes=known)):
                    done = False
                else:
                    async with connection.transaction():
                        done = await _first(connection, known)
                        if done:
                            under_way = True
                            await effect(connection)
                            under_way = False
        except _AWAY as error:
            if isinstance(error, ValueError) or (under_way and isinstance(error, OSError)):
                raise  # asyncpg's for an argument of a wrong type; the effect's own, such as a call that took too long
            self._metrics.count(self.scope, "failed")
            raise DedupStoreError(f"the database of the keys: {type(error).__name__}") from error
        self._told(known, done)
        return done

    async def first(self, connection: Any, key: str) -> bool:
        """Whether nobody had this key, which is taken with it: for a transaction of one's own, of asyncpg or psycopg 3.

        A rollback gives the key back. Raises what the driver does, DedupTransactionError outside a transaction, and
        ValueError for a key that is none.
        """
        known = digest(self.scope, key)
        _require_transaction(connection)
        done = await _first(connection, known)
        self._metrics.count(self.scope, "first" if done else "duplicate")
        return done

    async def first_of(self, connection: Any, keys: Sequence[str]) -> list[bool]:
        """The same for many keys in one round trip (asyncpg): of one that is there twice the earlier one is first."""
        asked = [digest(self.scope, key) for key in keys]
        _require_transaction(connection)
        rows = await connection.fetch(
            _FIRST_OF, list(range(len(keys))), [uuid.UUID(bytes=one) for one in asked], [_lock(one) for one in asked]
        )
        answers = [done for _place, done in sorted(tuple(row) for row in rows)]
        for done in answers:
            self._metrics.count(self.scope, "first" if done else "duplicate")
        return answers

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


async def _first(connection: Any, known: bytes) -> bool:
    identity, lock = uuid.UUID(bytes=known), _lock(known)
    if hasattr(connection, "pgconn"):  # psycopg's
        cursor = await connection.execute(_FIRST.format("%s", "%s"), (identity, lock))
        (answer,) = await cursor.fetchone()
    else:
        answer = await connection.fetchval(_FIRST.format("$1", "$2"), identity, lock)
    return answer is True


def _lock(known: bytes) -> int:
    """Half of the digest: two keys that share it wait for each other, and that is all."""
    return int.from_bytes(known[:8], "big", signed=True)
