"""Logins that have ended and people who are erased, in PostgreSQL: all processes look there for whom they must let go.

An event comes to one process of all, which writes it down; the others find it within seconds (`watching`). Of a login
only its own id is kept, for a day: far longer than a token of it holds.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from nova_data.consumer.message import Message
from nova_data.errors import RejectedError
from nova_data.pool.database import Connection, Database

EVENT: Final = "sessions-ended"
"""Of auth, in the topic `user`."""
KEPT: Final = timedelta(days=1)
_NOTE: Final = "INSERT INTO ended_sessions (session_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING"
_OVER: Final = """
SELECT ARRAY(SELECT user_id FROM closed_users WHERE user_id = ANY ($1)) AS users,
       ARRAY(SELECT session_id FROM ended_sessions WHERE session_id = ANY ($2)) AS sessions
"""
_FORGET: Final = """
DELETE FROM ended_sessions WHERE session_id = ANY (ARRAY(
    SELECT session_id FROM ended_sessions WHERE ended_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
)) RETURNING true
"""


class SessionsEnded(msgspec.Struct, frozen=True, rename="camel"):
    """The event's payload."""

    session_ids: tuple[UUID, ...]


class Over(NamedTuple):
    """Who must go: users who are erased, logins that have ended."""

    users: frozenset[UUID]
    sessions: frozenset[UUID]


class Sessions:
    """See the module. Raises what `Database` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended(self, message: Message) -> None:
        """Handle an event of auth. May be repeated. Raises RejectedError for one that is not as it must be."""
        try:
            event = msgspec.json.decode(message.value or b"", type=SessionsEnded)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RejectedError(f"{EVENT}: {error}") from None
        async with self._database.acquire() as connection:
            await connection.execute(_NOTE, sorted(set(event.session_ids)))

    async def over(self, users: Sequence[UUID], sessions: Sequence[UUID]) -> Over:
        """Those of these who must go."""
        async with self._database.acquire() as connection:
            row = await connection.fetchrow(_OVER, users, sessions)
        return Over(*map(frozenset, row))


async def forget(connection: Connection, now: datetime, most: int) -> int:
    """Remove notes that are older than they need to be; how many, `most` of them at most."""
    return len(await connection.fetch(_FORGET, now - KEPT, most))
