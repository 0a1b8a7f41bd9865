"""A projection: tables that follow the events, and may be thrown away and made anew at any time.

    async def apply(connection, events):
        for event in events:
            await connection.execute("INSERT INTO order_totals …")

    await catch_up(connection, "order-totals", apply)

The position is moved in the transaction of what `apply` wrote, a batch at a time. Whoever is killed goes on where that
transaction began; of two that run the same projection one waits for the other (the row's lock), so events come once and
in order: of all that are settled (`nova_data.event_store.schema`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from nova_data.errors import EventStoreError
from nova_data.event_store.store import COLUMNS, Event, event

Apply = Callable[[Any, Sequence[Event]], Awaitable[object]]

BATCH: Final = 500
_ENTER: Final = "INSERT INTO event_projections (name) VALUES ($1) ON CONFLICT DO NOTHING"
_WHERE: Final = "SELECT settled, position FROM event_projections WHERE name = $1 FOR UPDATE"
_NEXT: Final = f"""
SELECT {COLUMNS}
FROM stream_events WHERE (settled, position) > ($1, $2)
AND settled < pg_snapshot_xmin(pg_current_snapshot())::text::bigint + (SELECT base FROM event_store_base)
AND ($4::text[] IS NULL OR stream_type = ANY($4))
ORDER BY settled, position LIMIT $3
"""  # noqa: S608 - our own columns
_MOVE: Final = """
UPDATE event_projections SET settled = $2, position = $3, events = events + $4, moved_at = clock_timestamp()
WHERE name = $1
"""
_BEGIN_ANEW: Final = (
    "UPDATE event_projections SET settled = 0, position = 0, events = 0, moved_at = clock_timestamp() WHERE name = $1"
)


async def step(
    connection: Any, name: str, apply: Apply, *, batch: int = BATCH, types: Sequence[str] | None = None
) -> int:
    """Apply the next batch, in a transaction of its own; how many events it had. `types` are those of the streams that
    it follows, None all. What `apply` raises undoes the batch and passes through."""
    _check(connection, batch)
    await connection.execute(_ENTER, name)
    async with connection.transaction():
        settled, position = await connection.fetchrow(_WHERE, name)
        rows = await connection.fetch(_NEXT, settled, position, batch, list(types) if types is not None else None)
        if rows:
            events = [event(row) for row in rows]
            await apply(connection, events)
            await connection.execute(_MOVE, name, events[-1].settled, events[-1].position, len(events))
    return len(rows)


async def catch_up(
    connection: Any, name: str, apply: Apply, *, batch: int = BATCH, types: Sequence[str] | None = None
) -> int:
    """Apply all that there is; how many events there were."""
    total = 0
    while found := await step(connection, name, apply, batch=batch, types=types):
        total += found
    return total


async def follow(
    connection: Any,
    name: str,
    apply: Apply,
    stopped: asyncio.Event,
    *,
    every: float = 0.5,
    batch: int = BATCH,
    types: Sequence[str] | None = None,
) -> None:
    """Apply what comes, looking every so many seconds, until `stopped`."""
    while not stopped.is_set():
        await catch_up(connection, name, apply, batch=batch, types=types)
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await stopped.wait()


async def rebuild(
    connection: Any,
    name: str,
    apply: Apply,
    clear: Callable[[Any], Awaitable[object]],
    *,
    batch: int = BATCH,
    types: Sequence[str] | None = None,
) -> int:
    """Throw it away (`clear`, in one transaction with going back to the beginning) and make it anew; how many events
    there were. Who is killed on the way goes on by `catch_up`."""
    _check(connection, batch)
    await connection.execute(_ENTER, name)
    async with connection.transaction():
        await connection.fetchrow(_WHERE, name)
        await clear(connection)
        await connection.execute(_BEGIN_ANEW, name)
    return await catch_up(connection, name, apply, batch=batch, types=types)


def _check(connection: Any, batch: int) -> None:
    if connection.is_in_transaction():
        raise EventStoreError("a projection has transactions of its own: expected a connection outside of one")
    if batch < 1:
        raise EventStoreError(f"batch: expected at least 1, got {batch}")
