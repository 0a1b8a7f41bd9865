"""What somebody who is erased leaves in conversations, so that nothing is added to it while it is removed.

Messages of the user's go out of everybody's conversations, whose positions have gaps from then on. Messages that others
wrote to the user stay theirs.

The user's stream is closed first: who begins a conversation holds the streams of its members (`Conversations.begin`),
so from the commit on nobody begins one with the user. Then the conversations are left, each under the lock that senders
hold (`Conversations.send`), so from that commit on the user sends nothing. The closed stream is remembered for a day,
which is longer than any access token holds, and then not even the user's id is left.
"""

from typing import Final
from uuid import UUID

from nova_data.pool.database import Connection
from nova_data.schema.soft_delete.erasure import Place

PLACES: Final = (Place("messages", "sender_id"), Place("presences", "user_id"))
BATCH: Final = 1000
"""Rows of one transaction."""
_CLOSE: Final = """
INSERT INTO streams (user_id, closed_at) VALUES ($1, now())
ON CONFLICT (user_id) DO UPDATE SET closed_at = coalesce(streams.closed_at, excluded.closed_at)
"""
_CONVERSATIONS: Final = """
SELECT id FROM conversations WHERE id IN (SELECT conversation_id FROM members WHERE user_id = $1 LIMIT $2)
ORDER BY id FOR UPDATE
"""
_LEAVE: Final = "DELETE FROM members WHERE user_id = $1 AND conversation_id = ANY ($2)"
_EMPTY: Final = """
DELETE FROM deliveries WHERE user_id = $1 AND place IN (SELECT place FROM deliveries WHERE user_id = $1 LIMIT $2)
"""
_FORGET: Final = "DELETE FROM streams WHERE closed_at < now() - interval '1 day'"


async def leave(connection: Connection, user: UUID) -> None:
    """Close the user's stream, leave all conversations, and empty the stream. May be repeated."""
    await connection.execute(_CLOSE, user)
    while await _leave_some(connection, user):
        pass
    while (await connection.execute(_EMPTY, user, BATCH)) != "DELETE 0":
        pass
    await connection.execute(_FORGET)


async def _leave_some(connection: Connection, user: UUID) -> bool:
    """Whether there may be more."""
    async with connection.transaction():
        held = [row["id"] for row in await connection.fetch(_CONVERSATIONS, user, BATCH)]
        await connection.execute(_LEAVE, user, held)
    return len(held) == BATCH
