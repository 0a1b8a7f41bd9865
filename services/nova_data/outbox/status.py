"""What waits in the outbox and what failed, and how to let it go on."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Connection, Record

from nova_data.outbox import partitions, retention
from nova_data.outbox.schema import CHANNEL, DEFAULT_PARTITION, SLOTS

MOST_COUNTED: Final = 100_000
"""Events that wait are counted up to this number: more are as bad, and counting takes time."""
MOST_SHOWN: Final = 20

BACKLOG: Final = f"""
SELECT (SELECT count(*) FROM (SELECT FROM outbox_events WHERE published_at IS NULL AND quarantined_at IS NULL
                              LIMIT {MOST_COUNTED}) counted) AS backlog,
       (SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8
        FROM generate_series(0, {SLOTS - 1}) AS every(slot) CROSS JOIN LATERAL (
            SELECT created_at FROM outbox_events e
            WHERE e.slot = every.slot AND published_at IS NULL AND quarantined_at IS NULL
            ORDER BY position LIMIT 1) AS first_of_slot) AS oldest,
       (SELECT count(*) FROM outbox_events
        WHERE published_at IS NULL AND next_attempt_at IS NOT NULL AND quarantined_at IS NULL) AS retrying,
       (SELECT count(*) FROM outbox_events
        WHERE published_at IS NULL AND next_attempt_at = 'infinity') AS quarantined
"""  # noqa: S608 - our own numbers
"""Events that wait (those behind a quarantined one too), seconds since the first of them was appended, those of them
that failed and are tried again, and those that are quarantined."""
_QUARANTINED: Final = f"""
SELECT id::text, aggregate_type, aggregate_id, event_type, created_at, retry_count, last_error FROM outbox_events
WHERE published_at IS NULL AND next_attempt_at = 'infinity' ORDER BY position LIMIT {MOST_SHOWN}
"""  # noqa: S608 - as above
_REPLAY: Final = """
UPDATE outbox_events SET next_attempt_at = clock_timestamp(), quarantined_at = NULL, retry_count = 0
WHERE published_at IS NULL AND next_attempt_at IS NOT NULL AND ($1::uuid[] IS NULL OR id = ANY($1)) RETURNING id
"""
_DISCARD: Final = """
DELETE FROM outbox_events WHERE published_at IS NULL AND next_attempt_at = 'infinity' AND id = ANY($1)
RETURNING id::text, aggregate_type, aggregate_id, event_type, created_at, last_error
"""
_BEHIND: Final = """
UPDATE outbox_events SET next_attempt_at = clock_timestamp() WHERE (position, created_at) IN (
    SELECT DISTINCT ON (e.aggregate_type, e.aggregate_id) e.position, e.created_at
    FROM outbox_events e JOIN unnest($1::text[], $2::text[]) AS gone(aggregate_type, aggregate_id)
    ON (e.aggregate_type, e.aggregate_id) = (gone.aggregate_type, gone.aggregate_id)
    WHERE e.published_at IS NULL ORDER BY e.aggregate_type, e.aggregate_id, e.position)
"""


async def read(connection: Connection, now: datetime, *, keep: float, ahead: int) -> dict[str, Any]:
    """The state of the outbox, as it can be written as JSON."""
    counts = await connection.fetchrow(BACKLOG)
    assert counts is not None  # noqa: S101 - a query without FROM has one row
    there = await retention.there(connection)
    astray = await connection.fetchval(f"SELECT count(*) FROM {DEFAULT_PARTITION}")  # noqa: S608 - our own name
    return {
        "backlog": counts["backlog"],
        "oldestSeconds": round(counts["oldest"] or 0.0, 3),
        "retrying": counts["retrying"],
        "quarantined": counts["quarantined"],
        "firstQuarantined": [_shown(row) for row in await connection.fetch(_QUARANTINED)],
        "partitions": {
            "there": len(there - {DEFAULT_PARTITION}),
            "missing": [one.name for one in partitions.missing(now, there, ahead)],
            "overdue": [one.name for one in partitions.over(now, there, keep)],
            "eventsInDefault": astray,
        },
    }


async def replay(connection: Connection, ids: Sequence[UUID] | None) -> int:
    """Have failed and quarantined events tried at once: those with these ids, or all. Returns how many."""
    async with connection.transaction():
        rows = await connection.fetch(_REPLAY, ids)
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    return len(rows)


async def discard(connection: Connection, ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """Remove quarantined events for good, so that later ones of their aggregates go on. Returns what they were."""
    async with connection.transaction():
        rows = await connection.fetch(_DISCARD, ids)
        gone = [row["aggregate_type"] for row in rows], [row["aggregate_id"] for row in rows]
        await connection.execute(_BEHIND, *gone)
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    return [_shown(row) for row in rows]


def _shown(row: Record) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
