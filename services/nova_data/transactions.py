"""Whether a connection is in a transaction, asked of either driver: what must be in one is refused outside."""

from typing import Any, Final

_IDLE: Final = 0
"""psycopg.pq.TransactionStatus.IDLE"""


def in_transaction(connection: Any) -> bool:
    """Whether what is done next is part of a transaction that somebody else ends.

    psycopg 3 begins one with the first statement, unless in autocommit.
    https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.connection.Connection
    https://www.psycopg.org/psycopg3/docs/basic/transactions.html
    """
    if hasattr(connection, "pgconn"):  # psycopg's
        return not connection.autocommit or bool(connection.info.transaction_status != _IDLE)
    return bool(connection.is_in_transaction())
