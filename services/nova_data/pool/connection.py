"""asyncpg's connection, with two round trips fewer around a transaction.

A statement in a transaction of a pool is four round trips: BEGIN, the statement, COMMIT, and the reset with which
asyncpg's pool makes a connection fit for the next one. Each is a wake-up of both sides, and that is what a small
statement costs. PostgreSQL takes several statements in one message, so two of them can travel with another one:

    pool = await asyncpg.create_pool(url, connection_class=JoiningConnection)    # `Database` does it by itself

    connection.join_begin("SELECT 1 WHERE …")      # goes with the next BEGIN; `tag` has its answer: SELECT 1, SELECT 0
    connection.join_reset()                        # the reset goes with the end of the next transaction
    async with connection.transaction(): ...
    # and here the connection goes back, with nothing in between

Rules:

* What travels together stops at the first error, as it did apart: a BEGIN whose statement fails has begun nothing that
  the pool does not roll back, and a COMMIT that fails is followed by no reset, which the pool then makes up for.
* `join_begin` takes no arguments, since the simple protocol has none: it is for values that are one's own, such as a
  digest, and never for what came from outside.
* asyncpg's transactions send BEGIN, COMMIT and ROLLBACK through `execute`. A version that did otherwise would find
  nothing joined, and send everything as before; `tag` is None then.

https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.pool.create_pool
"""

from typing import Any, Final

import asyncpg

STANDS: Final = "SELECT"
"""Is refused where an error has broken the transaction off. COMMIT is not: it rolls back, and says nothing of it."""
_LAST: Final = {"COMMIT;": f"{STANDS}; COMMIT;", "ROLLBACK;": "ROLLBACK;"}
"""What ends a transaction, as asyncpg says it and as it is sent."""


class JoiningConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """See the module."""

    __slots__ = ("_begins", "_clean", "_ends", "_joined", "tag")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._joined = ""
        """What goes with the next BEGIN."""
        self._begins = False
        """The transaction that comes is the last one before the connection goes back."""
        self._ends = False
        """The one that there is."""
        self._clean = False
        """It was reset, and nothing was done since."""
        self.tag: str | None = None
        """The command tag of what went with BEGIN."""

    def join_begin(self, statement: str) -> None:
        """Send this with the next BEGIN."""
        self._joined, self.tag = statement, None

    def join_reset(self) -> None:
        """Send the reset with the COMMIT or ROLLBACK of the next transaction, and a COMMIT only where the transaction
        stands: else it raises asyncpg.InFailedSQLTransactionError."""
        self._begins = True

    def get_reset_query(self) -> str:
        """Asked for by the pool when the connection goes back."""
        clean, self._clean = self._clean, False
        self._joined, self._begins, self._ends = "", False, False
        return "" if clean else str(super().get_reset_query())

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's own
        """As asyncpg's."""
        if not args and (self._joined or self._begins) and query.startswith("BEGIN"):
            return await self._begin(query, timeout)
        if not args and self._ends and query in _LAST:
            return await self._end(query, timeout)
        return str(await super().execute(query, *args, timeout=timeout))

    async def _begin(self, query: str, within: float | None) -> str:
        joined, ends = self._joined, self._begins
        self._joined, self._begins = "", False
        answer = str(await super().execute(f"{query} {joined}", timeout=within))
        self.tag, self._ends = answer if joined else None, ends
        return answer

    async def _end(self, query: str, within: float | None) -> str:
        self._ends = False
        try:
            answer = str(await super().execute(f"{_LAST[query]} {super().get_reset_query()}", timeout=within))
        except asyncpg.InFailedSQLTransactionError:
            await super().execute("ROLLBACK;", timeout=within)
            raise
        self._clean = True
        return answer
