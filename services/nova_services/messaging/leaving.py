"""What somebody who is erased leaves in conversations, so that nothing is added to it while it is removed.

Messages of the user's go out of everybody's conversations, whose positions have gaps from then on. Messages that others
wrote to the user stay theirs.

The user is closed first: from the commit on nobody begins a conversation with the user, and all processes close the
user's WebSockets (`sessions`). Then the conversations are left, each under the lock that senders hold
(`Conversations.send`): from that commit on the user sends nothing there.
"""

from typing import Final
from uuid import UUID

from nova_data.pool.database import Connection
from nova_data.schema.soft_delete.erasure import Place
from nova_services.closing import close

PLACES: Final = (Place("messages", "sender_id"), Place("presences", "user_id"), Place("streams", "user_id"))
BATCH: Final = 1000
"""Rows of one transaction."""
_CONVERSATIONS: Final = """
SELECT id FROM conversations WHERE id IN (SELECT conversation_id FROM members WHERE user_id = $1 LIMIT $2)
ORDER BY id FOR UPDATE
"""
_LEAVE: Final = "DELETE FROM members WHERE user_id = $1 AND conversation_id = ANY ($2)"
_EMPTY: Final = """
DELETE FROM deliveries WHERE user_id = $1 AND place IN (SELECT place FROM deliveries WHERE user_id = $1 LIMIT $2)
"""


async def leave(connection: Connection, user: UUID) -> None:
    """Close the user, leave all conversations, and empty the stream. May be repeated."""
    async with connection.transaction():
        await close(connection, user)
    while await _leave_some(connection, user):
        pass
    while (await connection.execute(_EMPTY, user, BATCH)) != "DELETE 0":
        pass


async def _leave_some(connection: Connection, user: UUID) -> bool:
    """Whether there may be more."""
    async with connection.transaction():
        held = [row["id"] for row in await connection.fetch(_CONVERSATIONS, user, BATCH)]
        await connection.execute(_LEAVE, user, held)
    return len(held) == BATCH
