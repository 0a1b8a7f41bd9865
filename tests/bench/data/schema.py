"""Changes of a schema: how long writers wait while a large table gets soft delete, and what indexes are worth.

* `soft_delete`: two writers and a reader that keeps its locks longer than the lock timeout, before and meanwhile.
* `indexes`: each query's median before and after, on data of its own (`nova-data explain`).

PostgreSQL has the machine to itself beside them.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import asyncpg

from nova_data.schema.indexes.explain import explain
from nova_data.schema.patience import Patience
from nova_data.schema.steps import Stepper
from tests.loopback.data.busy import change_under_load, fill
from tests.loopback.data.database import Database
from tests.loopback.support.postgresserver import Server as Postgres

ROWS = 1_000_000
LOCK_TIMEOUT = 0.2
EXPLAINED = 2_400_000
"""Rows of messages, posts and follows together; a fifth of the reference's."""


def soft_delete() -> dict[str, Any]:
    """The figures of soft delete, in milliseconds but for its own time."""
    with _database() as database:
        fill(database, ROWS)
        found = change_under_load(database, lock_timeout=LOCK_TIMEOUT, quiet=5.0)
    return {
        "rows": found.rows,
        "lock_timeout_ms": LOCK_TIMEOUT * 1000,
        "seconds": round(found.seconds, 1),
        "steps": found.steps,
        "locks_not_had": found.waits,
        "writes_refused": found.refused,
        "before_p99_ms": _p99(found.before),
        "meanwhile_p99_ms": _p99(found.writes),
        "meanwhile_slowest_ms": round(max(found.writes) * 1000, 1),
    }


def indexes() -> dict[str, Any]:
    """The figures of indexes, in milliseconds."""
    with _database() as database:
        times = asyncio.run(_explained(database.url))
    return {
        one.what: {
            "rows": one.rows,
            "before_ms": round(one.before_ms, 2),
            "after_ms": round(one.after_ms, 3),
            "ratio": round(one.before_ms / one.after_ms, 1),
        }
        for one in times
    }


async def _explained(url: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        stepper = Stepper(connection, Patience(), random=Random(1))
        return await explain(connection, stepper, EXPLAINED, keep=False, say=lambda _: None)
    finally:
        await connection.close()


@contextmanager
def _database() -> Iterator[Database]:
    server = Postgres(shared_buffers="512MB")
    try:
        yield Database(server)
    finally:
        server.close()


def _p99(seconds: list[float]) -> float:
    return round(statistics.quantiles(seconds, n=100)[-1] * 1000, 2)
