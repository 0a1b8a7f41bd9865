"""Who did what, when: the events as a trail, newest first."""

from datetime import datetime
from typing import Any, Final

from nova_data.errors import EventStoreError
from nova_data.event_store.store import COLUMNS, Event, Stream, event

MOST: Final = 10_000
_TRAIL: Final = f"""
SELECT {COLUMNS}
FROM stream_events
WHERE ($1::text IS NULL OR stream_type = $1) AND ($2::text IS NULL OR stream_id = $2)
AND ($3::text IS NULL OR actor = $3) AND ($4::text IS NULL OR correlation_id = $4)
AND ($5::timestamptz IS NULL OR recorded_at >= $5) AND ($6::timestamptz IS NULL OR recorded_at < $6)
ORDER BY recorded_at DESC, position DESC LIMIT $7
"""  # noqa: S608 - our own columns


async def trail(
    connection: Any,
    *,
    stream_type: str | None = None,
    stream: Stream | None = None,
    actor: str | None = None,
    correlation_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
) -> list[Event]:
    """Events that all of this is true of, at most `limit` (10 000 at most). Raises EventStoreError."""
    if not 1 <= limit <= MOST:
        raise EventStoreError(f"limit: expected 1 to {MOST}, got {limit}")
    if stream is not None and stream_type not in (None, stream.type):
        raise EventStoreError("stream_type: expected none, or that of the stream")
    kind, identity = stream if stream is not None else (stream_type, None)
    rows = await connection.fetch(_TRAIL, kind, identity, actor, correlation_id, since, until, limit)
    return [event(row) for row in rows]
