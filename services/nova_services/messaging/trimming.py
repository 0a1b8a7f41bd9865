"""The streams are bounded: of each user the newest places stay, and messages themselves stay in their conversations.

A stream says what is new to somebody who was away. Who was away for longer than it goes back reads the conversations
instead (`chat`). A user's row is held while the rows before it go, as who delivers holds it, so there are few of them
at a time; rows that somebody else holds are left for the next time.
"""

from datetime import datetime
from typing import Final

from nova_data.pool.database import Connection
from nova_services.retention import Remove

KEPT: Final = 10_000
"""Places of one stream that stay."""
_USERS: Final = 10
"""Whose streams are shortened in one transaction."""
_TRIM: Final = """
WITH long AS (
    SELECT user_id, begins_after AS before, least(last_place - $1, begins_after + $2) AS after FROM streams
    WHERE last_place - begins_after > $1 LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE streams SET begins_after = after FROM long WHERE streams.user_id = long.user_id
), removed AS (
    DELETE FROM deliveries USING long WHERE deliveries.user_id = long.user_id AND place > before AND place <= after
)
SELECT coalesce(sum(after - before), 0)::bigint FROM long
"""


def trimming(kept: int = KEPT) -> Remove:
    """Has streams begin later, where they are longer than `kept`."""

    async def trim(connection: Connection, _now: datetime, most: int) -> int:
        found: int = await connection.fetchval(_TRIM, kept, max(1, most // _USERS), _USERS)
        return found

    return trim
