"""What indexes are worth: plan and time of queries before and after, on data that is made for it.

The data lies in a schema of its own, `nova_explain`, which is dropped at the end; nothing else of the database is
touched. Rows are spread as a social backend's are: half of what is asked for are messages, a third posts, the rest
follows, a tenth of them deleted.

A time is the median of some runs by EXPLAIN (ANALYZE), the first of which only warms the cache, so that before and
after have the same chance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import msgspec

from nova_api.database import Index
from nova_data.schema.database import ANSWER, Connection
from nova_data.schema.indexes.build import look, steps
from nova_data.schema.indexes.wanted import REFERENCE
from nova_data.schema.steps import Stepper

SCHEMA: Final = "nova_explain"
RUNS: Final = 5
_MAKING: Final = 3600.0
"""Seconds for a statement that makes data."""
_SHARES: Final = {"messages": 1 / 2, "posts": 1 / 3, "follows": 1 / 6}
_PEOPLE: Final = 200
"""Rows of messages for each person there is."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A query, and the index that is for it."""

    what: str
    index: Index
    sql: str


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a case: milliseconds and the plan's innermost node, before and after."""

    what: str
    table: str
    rows: int
    before_ms: float
    after_ms: float
    before_plan: str
    after_plan: str


_NEWEST: Final = "AND deleted_at IS NULL ORDER BY created_at DESC LIMIT 50"
CASES: Final = tuple(
    Case(what=what, index=index, sql=f"SELECT * FROM {index.table} WHERE {condition} {_NEWEST}")
    for (what, condition), index in zip(
        (
            ("messages of a sender, newest first", "sender_id = 7"),
            ("posts of a person, newest first", "user_id = 7"),
            ("whom a person follows, newest first", "follower_id = 7"),
            ("public posts of a person, newest first", "user_id = 7 AND visibility = 'public'"),
        ),
        REFERENCE,
        strict=True,
    )
)


async def explain(
    connection: Connection, stepper: Stepper, rows: int, *, keep: bool, say: Callable[[str], None]
) -> tuple[Times, ...]:
    """Make `rows` rows (from 1000) and measure. Raises SchemaError."""
    counts = {table: int(rows * share) for table, share in _SHARES.items()}
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE", timeout=_MAKING)
    await connection.execute(f"CREATE SCHEMA {SCHEMA}", timeout=ANSWER)
    try:
        await connection.execute(f"SET search_path = {SCHEMA}", timeout=ANSWER)
        await connection.execute("SET jit = off", timeout=ANSWER)
        for sql in making(counts):
            await connection.execute(sql, timeout=_MAKING)
        say(f"made {', '.join(f'{count} {table}' for table, count in counts.items())}")
        before = [await _measure(connection, case.sql) for case in CASES]
        times = []
        for case, (ms, plan) in zip(CASES, before, strict=True):
            await stepper.take(steps(await look(connection, (case.index,))))
            await connection.execute(f"ANALYZE {case.index.table}", timeout=_MAKING)
            after_ms, after_plan = await _measure(connection, case.sql)
            times.append(
                Times(
                    what=case.what,
                    table=case.index.table,
                    rows=counts[case.index.table],
                    before_ms=ms,
                    after_ms=after_ms,
                    before_plan=plan,
                    after_plan=after_plan,
                )
            )
    finally:
        if not keep:
            await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE", timeout=_MAKING)
    return tuple(times)


def making(counts: dict[str, int]) -> Sequence[str]:
    """The SQL that makes the data, in order."""
    people = max(10, counts["messages"] // _PEOPLE)
    common = "id bigint PRIMARY KEY, created_at timestamptz NOT NULL, deleted_at timestamptz, deleted_by uuid"
    deleted = ", ".join(f"CASE WHEN n % 10 = 0 THEN {value} END" for value in ("now()", "gen_random_uuid()"))
    first = f"SELECT n, now() - n * interval '1 second', {deleted}"
    numbers = {table: f"FROM generate_series(1, {count}) AS n" for table, count in counts.items()}
    somebody = f"1 + (hashint8(n) & 2147483647) % {people}"
    another = f"1 + (hashint8(n + 1000000007) & 2147483647) % {people}"
    return (
        f"CREATE UNLOGGED TABLE messages ({common}, sender_id bigint, body text)",
        f"CREATE UNLOGGED TABLE posts ({common}, user_id bigint, visibility text, body text)",
        f"CREATE UNLOGGED TABLE follows ({common}, follower_id bigint, followee_id bigint)",
        f"INSERT INTO messages {first}, {somebody}, repeat('m', 60) {numbers['messages']}",
        f"INSERT INTO posts {first}, {somebody}, CASE n % 3 WHEN 0 THEN 'private' ELSE 'public' END, repeat('p', 120)"
        f" {numbers['posts']}",
        f"INSERT INTO follows {first}, {somebody}, {another} {numbers['follows']}",
        "ANALYZE messages",
        "ANALYZE posts",
        "ANALYZE follows",
    )


async def _measure(connection: Connection, sql: str) -> tuple[float, str]:
    times, plan = [], ""
    for _ in range(RUNS + 1):
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", timeout=_MAKING)
        found: dict[str, Any] = json.loads(text)[0]
        times.append(float(found["Execution Time"]))
        plan = _innermost(found["Plan"])
    return median(times[1:]), plan


def _innermost(plan: dict[str, Any]) -> str:
    """The node that reads the table, such as ``Seq Scan`` or ``Index Scan using posts_user_id_created_at_active``."""
    below = plan.get("Plans")
    if below:
        return _innermost(below[0])
    index = plan.get("Index Name")
    return f"{plan['Node Type']} using {index}" if index else str(plan["Node Type"])
