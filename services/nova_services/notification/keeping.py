"""How long notifications are kept: some weeks from when they were read, some more where nobody has read them.

Topics keep events for less than that, so what was removed is not made again by an event that comes once more.
"""

from datetime import datetime, timedelta
from typing import Final

from nova_data.pool.database import Connection
from nova_services.retention import Remove, Rule

DAYS: Final = 90
READ_DAYS: Final = 30
_REMOVE: Final = """
DELETE FROM notifications WHERE id = ANY (ARRAY(
    SELECT id FROM notifications WHERE {since} < $1 ORDER BY {since} LIMIT $2 FOR UPDATE SKIP LOCKED
)) RETURNING true
"""


def rules(*, days: float = DAYS, read_days: float = READ_DAYS) -> list[Rule]:
    """What goes so many days after it came, and so many after it was read."""
    return [Rule("read", _removing("read_at", read_days)), Rule("old", _removing("created_at", days))]


def _removing(since: str, days: float) -> Remove:
    statement = _REMOVE.format(since=since)

    async def remove(connection: Connection, now: datetime, most: int) -> int:
        return len(await connection.fetch(statement, now - timedelta(days=days), most))

    return remove
