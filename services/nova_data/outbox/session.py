"""What a relay asks of the database: which slots are its own, what waits in them, and what became of it.

Two connections: one owns the slots and hears of new events, the other reads and writes rows. A slot is owned by an
advisory lock of the session, which PostgreSQL lets go of when the session ends, however it ends. So both must be
direct, or through a pooler that gives each client a session of its own.
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from asyncpg import Connection, Record

from nova_data.database import connected
from nova_data.outbox import installing
from nova_data.outbox.event import Event, read
from nova_data.outbox.schema import CHANNEL, TABLE
from nova_data.outbox.status import BACKLOG

SLOT_CLASS: Final = 0x6E6F7661
PRESENCE_CLASS: Final = 0x6E6F7662
"""First keys of the advisory locks of slots, and of the one that every relay that works holds in common."""
MOST_BYTES: Final = 32 * 1024 * 1024
"""Of a round, which lies in memory twice: here and in the producer."""

_COLUMNS: Final = (
    "position, created_at, slot, id::text, aggregate_type, aggregate_id, event_type, topic, key, payload::text,"
    " content, headers::text, retry_count, extract(epoch FROM clock_timestamp() - created_at)::float8 AS waited"
)
FETCH: Final = f"""
SELECT found.* FROM unnest($1::smallint[], $2::bigint[]) AS own(slot, floor) CROSS JOIN LATERAL (
    SELECT {_COLUMNS} FROM (
        SELECT *, sum(size) OVER (ORDER BY position) - size AS size_before FROM (
            SELECT e.*, coalesce(octet_length(e.content), pg_column_size(e.payload)) AS size FROM outbox_events e
            WHERE e.slot = own.slot AND e.published_at IS NULL AND e.position > own.floor
            AND (e.aggregate_type, e.aggregate_id) NOT IN (
                SELECT h.aggregate_type, h.aggregate_id FROM outbox_events h
                WHERE h.published_at IS NULL AND h.next_attempt_at IS NOT NULL)
            ORDER BY e.position LIMIT $3
        ) near
    ) sized WHERE size_before < $4 ORDER BY position
) found
"""  # noqa: S608 - our own columns
"""What waits in these slots, in order, so many of each and so many bytes as they are stored, but one at least; not what
waits behind an event that failed."""
_DUE: Final = f"""
SELECT {_COLUMNS} FROM outbox_events
WHERE slot = ANY($1::smallint[]) AND published_at IS NULL AND next_attempt_at <= clock_timestamp()
ORDER BY next_attempt_at LIMIT $2
"""  # noqa: S608 - as above
_PUBLISHED: Final = """
UPDATE outbox_events SET published_at = clock_timestamp(), next_attempt_at = NULL, last_error = NULL
WHERE position = ANY($1::bigint[]) AND created_at BETWEEN $2 AND $3 AND published_at IS NULL
"""
_FAILED: Final = """
UPDATE outbox_events SET retry_count = retry_count + 1, last_error = $3,
    next_attempt_at = CASE WHEN $4::float8 IS NULL THEN 'infinity'
                      ELSE clock_timestamp() + make_interval(secs => $4::float8) END,
    quarantined_at = CASE WHEN $4::float8 IS NULL THEN clock_timestamp() END
WHERE position = $1 AND created_at = $2 AND published_at IS NULL
"""
_RELAYS: Final = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = $1 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_WRITERS: Final = f"""
SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
AND relation = '{TABLE}'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 - our own name
"""Who inserts holds this lock from before the position is drawn until the transaction ends, and lets go of it after its
events are visible."""


_PLANS: Final = {"enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off"}
"""A plan that was made while the table was empty is kept when it is not, so it must be the one for a full table."""


class Session:
    """See the module. Every method may raise what `nova_data.database.LOST` names."""

    def __init__(self, owner: Connection, worker: Connection, prefix: str) -> None:
        self.owner = owner
        """Its locks are the slots."""
        self._worker = worker
        self._prefix = prefix
        self.slots: set[int] = set()
        """Those that are owned."""
        self._present = False

    async def balance(self, wanted: Callable[[int], int], order: Sequence[int]) -> None:
        """Own as many slots as `wanted` says for this number of relays, trying them in this order."""
        if not self._present:
            await self.owner.execute("SELECT pg_advisory_lock_shared($1, 0)", PRESENCE_CLASS)
            self._present = True
        target = wanted(await self.owner.fetchval(_RELAYS, PRESENCE_CLASS))
        await self._let_go(sorted(self.slots)[target:])
        for slot in order:
            if len(self.slots) >= target:
                break
            if slot not in self.slots and await self._lock(slot):
                self.slots.add(slot)

    async def writers(self) -> list[str]:
        """Transactions that have written to the outbox and not ended; another relay's marking may be among them."""
        return [row[0] for row in await self.owner.fetch(_WRITERS)]

    async def leave(self) -> None:
        """Own nothing, and do not count as a relay, until the next `balance`."""
        await self._let_go(list(self.slots))
        if self._present:
            await self.owner.execute("SELECT pg_advisory_unlock_shared($1, 0)", PRESENCE_CLASS)
            self._present = False

    async def waiting(self, floors: Mapping[int, int], limit: int) -> list[Event]:
        """What is to be sent of these slots, above a position each, at most `limit` of each slot, and `MOST_BYTES`."""
        most = MOST_BYTES // max(1, len(floors))
        rows = await self._worker.fetch(FETCH, list(floors), list(floors.values()), limit, most)
        return [read(row, self._prefix) for row in rows]

    async def due(self, slots: Iterable[int], limit: int) -> list[Event]:
        """What failed before and is to be tried again now."""
        return [read(row, self._prefix) for row in await self._worker.fetch(_DUE, list(slots), limit)]

    async def published(self, events: Collection[Event]) -> None:
        """Kafka has these."""
        if events:
            created = [event.created_at for event in events]
            positions = [event.position for event in events]
            await self._worker.execute(_PUBLISHED, positions, min(created), max(created))

    async def failed(self, event: Event, error: str, wait: float | None) -> None:
        """It was refused; the next attempt is in so many seconds. None: there is none, it is quarantined."""
        await self._worker.execute(_FAILED, event.position, event.created_at, error, wait)

    async def counts(self) -> Record | None:
        """The row of `status.BACKLOG`."""
        return await self.owner.fetchrow(BACKLOG)

    async def _lock(self, slot: int) -> bool:
        return await self.owner.fetchval("SELECT pg_try_advisory_lock($1, $2)", SLOT_CLASS, slot) is True

    async def _let_go(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self.slots.discard(slot)
            await self.owner.execute("SELECT pg_advisory_unlock($1, $2)", SLOT_CLASS, slot)

    def __repr__(self) -> str:
        return f"<Session slots={sorted(self.slots)}>"


@asynccontextmanager
async def opened(url: str, *, prefix: str, command_timeout: float, wake: asyncio.Event) -> AsyncIterator[Session]:
    """A session for the block; `wake` is set when somebody tells of events, and when the session is lost.

    `command_timeout` bounds each statement, in seconds. Raises DatabaseError, and OutboxError where there is no outbox.
    """

    def told(*_: Any) -> None:
        wake.set()

    options: dict[str, Any] = {"command_timeout": command_timeout, "settings": _PLANS}
    async with (
        connected(url, name="nova-data relay", **options) as owner,
        connected(url, name="nova-data relay worker", **options) as worker,
    ):
        await installing.require(owner)
        owner.add_termination_listener(told)
        await owner.add_listener(CHANNEL, told)
        yield Session(owner, worker, prefix)
