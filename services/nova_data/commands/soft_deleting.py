"""What the verbs of `nova-data soft-delete` do once they have a connection."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from nova_data.commands.changing import patience_of, say
from nova_data.errors import SchemaError
from nova_data.schema.database import ANSWER, Connection, alone
from nova_data.schema.migrate import MIGRATORS
from nova_data.schema.soft_delete import manage
from nova_data.schema.soft_delete.audit import audit
from nova_data.schema.soft_delete.erasure import Erasure, Place, places_there
from nova_data.schema.steps import Stepper


async def _install(given: argparse.Namespace, connection: Connection) -> int:
    wanted = await manage.wish(connection, given.mode, events=given.events)
    async with alone(connection, MIGRATORS, patience_of(given), _random()):
        count = await manage.install(connection, given.tables, wanted, _stepper(given, connection))
    say(f"soft delete is there: {count} steps" if count else "soft delete is there; nothing was to be done")
    return 0


async def _plan(given: argparse.Namespace, connection: Connection) -> int:
    steps = await manage.missing(
        connection, given.tables, await manage.wish(connection, given.mode, events=given.events)
    )
    for step in steps:
        print(f"-- {step.what} ({step.kind})")
        for sql in step.sql:
            print(f"{sql};")
    return 0


async def _verify(given: argparse.Namespace, connection: Connection) -> int:
    steps = await manage.missing(
        connection, given.tables, await manage.wish(connection, given.mode, events=given.events)
    )
    for what in dict.fromkeys(step.what for step in steps):
        print(f"missing: {what}")
    say(f"{len(given.tables)} tables, {'all is there' if not steps else 'run `nova-data soft-delete install`'}")
    return 1 if steps else 0


async def _undo(given: argparse.Namespace, connection: Connection) -> int:
    async with alone(connection, MIGRATORS, patience_of(given), _random()):
        stepper = _stepper(given, connection)
        count = await manage.undo(connection, given.tables, stepper, drop_columns=given.drop_columns)
    say(f"taken back: {count} steps" + ("" if given.drop_columns else "; the columns are still there"))
    return 0


async def _audit(given: argparse.Namespace, connection: Connection) -> int:
    if given.erasures:
        return await _erasures(connection, given.limit)
    since = datetime.now(UTC) - timedelta(seconds=given.since)
    for one in await audit(connection, given.tables, by=given.by, since=since, limit=given.limit):
        print(json.dumps(one | {"deletedAt": one["deletedAt"].isoformat()}))
    return 0


async def _erasures(connection: Connection, limit: int) -> int:
    if await connection.fetchval("SELECT to_regclass('nova_erasures')", timeout=ANSWER) is None:
        return 0
    rows = await connection.fetch(
        "SELECT reference, performed_by, started_at, finished_at, removed FROM nova_erasures"
        " ORDER BY started_at DESC LIMIT $1",
        limit,
        timeout=ANSWER,
    )
    for row in rows:
        finished = row["finished_at"].isoformat() if row["finished_at"] else None
        print(
            json.dumps(
                {
                    "reference": row["reference"],
                    "performedBy": row["performed_by"],
                    "startedAt": row["started_at"].isoformat(),
                    "finishedAt": finished,
                    "removed": json.loads(row["removed"]),
                }
            )
        )
    return 0


async def _erase(given: argparse.Namespace, connection: Connection) -> int:
    try:
        places = tuple(map(Place.parse, given.places)) if given.places else await places_there(connection)
    except ValueError as error:
        raise SchemaError(f"--of: {error}") from error
    if not places:
        raise SchemaError("there is none of the usual columns; name those that say whose a row is with --of")
    erasure = Erasure(connection, patience_of(given))
    removed = await erasure.run(given.person, places, given.tables, given.reference)
    counts = ", ".join(f"{count} of {table}" for table, count in sorted(removed.items()))
    say(f"removed: {counts or 'nothing'}")
    return 0


def _stepper(given: argparse.Namespace, connection: Connection) -> Stepper:
    return Stepper(connection, patience_of(given), random=_random(), say=say)


def _random() -> Random:
    return Random()  # noqa: S311 - jitter, no secret


VERBS: Final[Mapping[str, Callable[[argparse.Namespace, Connection], Awaitable[int]]]] = {
    "install": _install,
    "plan": _plan,
    "verify": _verify,
    "undo": _undo,
    "audit": _audit,
    "erase": _erase,
}
