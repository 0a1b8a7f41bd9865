"""Real removal of a person's rows (GDPR, article 17), with a record that says nothing of the person.

    where the person stands (posts.user_id = …) → rows, some at a time → what refers to them, first → the rows

Rules:

* What refers to a row goes before it, whoever wrote it: comments under a post go with the post. Where a foreign key
  says SET NULL or SET DEFAULT, PostgreSQL does that instead.
* Each batch is one transaction and locks its rows first, so that nobody refers to them anew. One that was ended half
  way is gone on with by the next run.
* A row is told by where it lies, which is its table and its place in it: partitions of one table number their rows
  alike, so the place alone would be that of other people's rows, too.
* `deleted_by` in other people's rows is the person's id too: it becomes that of nobody.
* The record has a reference of the caller's (the number of a ticket), times and counts by table. Copies elsewhere, in
  topics, backups and events that wait in the outbox, are not this tool's.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from nova_data.errors import SchemaError
from nova_data.schema.database import ANSWER, LATE, Connection, bound, said
from nova_data.schema.patience import Patience
from nova_data.schema.soft_delete.objects import NOBODY
from nova_data.schema.statements import quoted

BATCH: Final = 500
"""Rows of one transaction, without what refers to them."""
DEEPEST: Final = 30
"""Foreign keys in a row."""
REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")

PLACES: Final = (
    "posts.user_id",
    "comments.user_id",
    "messages.sender_id",
    "follows.follower_id",
    "follows.followee_id",
    "blocks.blocker_id",
    "blocks.blocked_id",
    "media.user_id",
)
"""Columns that say whose a row is, when nobody names others; those that are not there are left out."""

RECORD: Final = """\
CREATE TABLE IF NOT EXISTS nova_erasures (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    reference    text NOT NULL,
    performed_by text NOT NULL DEFAULT session_user,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz,
    removed      jsonb NOT NULL DEFAULT '{}'
)"""


class Place(msgspec.Struct, frozen=True):
    """A column that says whose a row is."""

    table: str
    column: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """From ``posts.user_id`` or ``shop.posts.user_id``. Raises ValueError."""
        table, _, column = text.rpartition(".")
        if not table or not column:
            raise ValueError(f"expected TABLE.COLUMN such as posts.user_id, got {text!r}")
        return cls(table, column)


Spot = tuple[int, Any]
"""Where a row lies: the oid of the table that holds it, a partition perhaps, and its ctid in there."""


class Erasure:
    """Removes one person's rows. `patience` bounds each transaction and its waits for locks."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        self._connection = connection
        self._patience = patience
        self._graph: dict[int, list[asyncpg.Record]] = {}
        self._record: UUID | None = None
        self.removed: dict[str, int] = {}

    async def run(self, person: UUID, places: Sequence[Place], tables: Sequence[str], reference: str) -> dict[str, int]:
        """Rows that were removed, by table. `tables` have `deleted_by`. Raises SchemaError."""
        if not REFERENCE.fullmatch(reference):
            raise SchemaError(
                "expected a reference such as TICKET-17, of letters, digits and -._/; it must not say who the person is"
            )
        found = [(place, await self._oid(place)) for place in places]
        await self._connection.execute(RECORD, timeout=ANSWER)
        self._record = await self._connection.fetchval(
            "INSERT INTO nova_erasures (reference) VALUES ($1) RETURNING id", reference, timeout=ANSWER
        )
        for place, oid in found:
            while await self._batch(oid, f"{quoted(place.column)}::text = $1", str(person)):
                pass
        for table in tables:
            await self._forget(table, person)
        await self._connection.execute(
            "UPDATE nova_erasures SET finished_at = clock_timestamp() WHERE id = $1", self._record, timeout=ANSWER
        )
        return self.removed

    async def _oid(self, place: Place) -> int:
        oid = await self._connection.fetchval(
            "SELECT attrelid FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2 AND NOT attisdropped",
            quoted(*place.table.split(".", 1)),
            place.column,
            timeout=ANSWER,
        )
        if oid is None:
            raise SchemaError(f"there is no column {place.table}.{place.column}")
        return int(oid)

    async def _batch(self, oid: int, condition: str, value: str) -> int:
        async with self._transaction():
            rows = await self._lock(oid, condition, value, limit=BATCH)
            await self._remove(oid, rows, 0)
            await self._connection.execute(
                "UPDATE nova_erasures SET removed = $2 WHERE id = $1",
                self._record,
                json.dumps(self.removed),
                timeout=ANSWER,
            )
        return len(rows)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        before = dict(self.removed)
        try:
            async with self._connection.transaction():
                await bound(self._connection, lock=self._patience.lock_timeout, statement=self._patience.hold)
                await self._connection.execute("SET LOCAL nova.erase = 'on'", timeout=ANSWER)
                yield
        except asyncpg.PostgresError as error:
            self.removed = before
            raise SchemaError(f"the erasure is not complete: {said(error)}; run the command again to go on") from error

    async def _lock(self, oid: int, condition: str, value: object, *, limit: int) -> list[Spot]:
        """Lock rows, and return where they lie: while they are locked nobody moves them."""
        query = f"SELECT tableoid, ctid FROM {await self._name(oid)} WHERE {condition} LIMIT {limit} FOR UPDATE"
        rows = await self._connection.fetch(query, value, timeout=self._patience.hold + LATE)
        return [(row["tableoid"], row["ctid"]) for row in rows]

    async def _remove(self, oid: int, spots: list[Spot], depth: int) -> None:
        """Remove rows and, before them, what refers to them."""
        if not spots:
            return
        if depth > DEEPEST:
            raise SchemaError(
                f"more than {DEEPEST} foreign keys in a row lead to {await self._name(oid)}; is it a circle?"
            )
        table = await self._name(oid)
        for key in await self._references(oid):
            pairs = " AND ".join(
                f"child.{quoted(mine)} = parent.{quoted(theirs)}"
                for mine, theirs in zip(key["columns"], key["parents"], strict=True)
            )
            other = "" if key["child"] != oid else f" AND NOT ({_at('child')})"
            child = await self._name(key["child"])
            query = (
                f"SELECT child.tableoid, child.ctid FROM {child} AS child WHERE EXISTS (SELECT FROM {table} AS parent"
                f" WHERE {_at('parent')} AND {pairs}){other} FOR UPDATE"
            )
            rows = await self._connection.fetch(query, *_arrays(spots), timeout=self._patience.hold + LATE)
            await self._remove(key["child"], [(row["tableoid"], row["ctid"]) for row in rows], depth + 1)
        query = f"DELETE FROM {table} AS gone WHERE {_at('gone')}"
        done = await self._connection.execute(query, *_arrays(spots), timeout=self._patience.hold + LATE)
        count = int(done.rpartition(" ")[2])
        if count != len(spots):
            raise SchemaError(f"rows of {table} cannot be removed but by its owner; connect as the owner")
        name = table.rpartition(".")[2].strip('"')
        self.removed[name] = self.removed.get(name, 0) + count

    async def _references(self, oid: int) -> list[asyncpg.Record]:
        """Foreign keys to a table that stop or carry on a removal."""
        if oid not in self._graph:
            self._graph[oid] = await self._connection.fetch(_REFERENCES, oid, timeout=ANSWER)
        return self._graph[oid]

    async def _forget(self, table: str, person: UUID) -> None:
        name = await self._connection.fetchval(
            "SELECT attrelid FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'deleted_by'",
            quoted(*table.split(".", 1)),
            timeout=ANSWER,
        )
        while name is not None:
            async with self._transaction():
                rows = await self._lock(name, "deleted_by = $1 AND deleted_at IS NOT NULL", person, limit=BATCH)
                query = f"UPDATE {await self._name(name)} AS kept SET deleted_by = '{NOBODY}' WHERE {_at('kept')}"
                await self._connection.execute(query, *_arrays(rows), timeout=self._patience.hold + LATE)
            if not rows:
                return

    async def _name(self, oid: int) -> str:
        return str(await self._connection.fetchval(_NAME, oid, timeout=ANSWER))


def _at(alias: str) -> str:
    """Whether a row lies at one of the spots. The first half lets PostgreSQL go there; the second one is the rule."""
    return (
        f"{alias}.ctid = ANY ($2::tid[])"
        f" AND ({alias}.tableoid, {alias}.ctid) IN (SELECT * FROM unnest($1::oid[], $2::tid[]))"
    )


def _arrays(spots: Sequence[Spot]) -> tuple[list[int], list[Any]]:
    return [table for table, _ in spots], [place for _, place in spots]


async def places_there(connection: Connection) -> tuple[Place, ...]:
    """Those of `PLACES` that this database has."""
    found = []
    for text in PLACES:
        place = Place.parse(text)
        there = await connection.fetchval(
            "SELECT true FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2",
            quoted(place.table),
            place.column,
            timeout=ANSWER,
        )
        if there:
            found.append(place)
    return tuple(found)


_NAME: Final = "SELECT relnamespace::regnamespace::text || '.' || quote_ident(relname) FROM pg_class WHERE oid = $1"
_REFERENCES: Final = """\
SELECT conrelid AS child,
       ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute ON attrelid = conrelid AND attnum = k.number ORDER BY place) AS columns,
       ARRAY(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute ON attrelid = confrelid AND attnum = k.number ORDER BY place) AS parents
FROM pg_constraint WHERE contype = 'f' AND confrelid = $1 AND confdeltype IN ('a', 'r', 'c') AND conparentid = 0"""
