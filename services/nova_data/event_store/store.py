"""Append to a stream, read it, and have its state without reading all of it.

    order = Stream("order", "42")
    async with connection.transaction():
        state, version = await load(connection, order, fold, initial={})
        await append(connection, order, [NewEvent("order-paid", {"by": "card"})], expected=version, publish=True)

Rules:

* `expected` is the version that the decision was made on. If somebody else has appended since, nothing is written and
  StreamConflictError says so: read again, decide again. `None` appends at whatever version there is.
* `publish` writes each event into the outbox too, in the same transaction, as an event of the aggregate that the stream
  is: what is in the store is in Kafka sooner or later, and nothing else is.
* A snapshot is a short cut and no truth: it may be missing, and one of another `form` (the number of how a state is
  written) is not used.

Connections are asyncpg's.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from nova_data import correlation
from nova_data.errors import EventStoreError, StreamConflictError
from nova_data.outbox.writer import outbox

S = TypeVar("S")

MOST: Final = 1000
"""Events of one append."""
COLUMNS: Final = (
    "position, settled, stream_type, stream_id, version, event_type, data::text, actor, correlation_id, recorded_at"
)
"""What `event` reads of a row."""
_OPEN: Final = """
INSERT INTO event_streams (stream_type, stream_id, version, settled) VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING
"""
_LOCK: Final = "SELECT version FROM event_streams WHERE stream_type = $1 AND stream_id = $2 FOR UPDATE"
_MOVE: Final = """
UPDATE event_streams SET version = version + $3,
    settled = greatest(settled, pg_current_xact_id()::text::bigint + (SELECT base FROM event_store_base))
WHERE stream_type = $1 AND stream_id = $2 RETURNING settled
"""
_WRITE: Final = """
INSERT INTO stream_events (settled, stream_type, stream_id, version, event_type, data, actor, correlation_id)
SELECT $3, $1, $2, $4 + place, event_type, data::jsonb, $7, $8
FROM unnest($5::text[], $6::text[]) WITH ORDINALITY AS new(event_type, data, place) ORDER BY place
"""
_READ: Final = f"""
SELECT {COLUMNS} FROM stream_events WHERE stream_type = $1 AND stream_id = $2 AND version > $3
ORDER BY version LIMIT $4
"""  # noqa: S608 - our own columns
_SNAPSHOT: Final = (
    "SELECT version, state::text FROM stream_snapshots WHERE stream_type = $1 AND stream_id = $2 AND form = $3"
)
_KEEP: Final = """
INSERT INTO stream_snapshots (stream_type, stream_id, version, form, state) VALUES ($1, $2, $3, $4, $5::jsonb)
ON CONFLICT (stream_type, stream_id) DO UPDATE
SET version = excluded.version, form = excluded.form, state = excluded.state
WHERE stream_snapshots.form <> excluded.form OR stream_snapshots.version < excluded.version
"""
_BATCH: Final = 500
_TYPE: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")


class Stream(NamedTuple):
    """What happened to one thing: an order, say. A type (letters, digits, dots, hyphens, underscores; 200 at most) and
    an id (text of 1 to 500 characters)."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True)
class NewEvent:
    """What is to be appended: a type of 1 to 200 characters, and `data` that JSON can express."""

    type: str
    data: Mapping[str, Any]


class Event(NamedTuple):
    """What was."""

    position: int
    settled: int
    stream: Stream
    version: int
    type: str
    data: dict[str, Any]
    actor: str | None
    correlation_id: str | None
    recorded_at: datetime


async def append(
    connection: Any,
    stream: Stream,
    events: Sequence[NewEvent],
    *,
    expected: int | None,
    actor: str | None = None,
    publish: bool = False,
) -> int:
    """Append to a stream in the caller's transaction and return its new version.

    `expected` 0 is a stream that is new. `actor` is who did it, an id of 1 to 500 characters and no name. The
    correlation id is that of the message or request in hand, else a new one. Raises StreamConflictError,
    EventStoreError, and OutboxError where there is no outbox.
    """
    if not connection.is_in_transaction():
        raise EventStoreError("an event is appended in a transaction: `async with connection.transaction(): …`")
    if not 1 <= len(events) <= MOST:
        raise EventStoreError(f"events: expected 1 to {MOST} of them, got {len(events)}")
    types = [_text("event type", event.type, 200) for event in events]
    data = [_json(event) for event in events]
    if actor is not None:
        _text("actor", actor, 500)
    version = await _locked(connection, _named(stream))
    if expected is not None and version != expected:
        raise StreamConflictError(str(stream), expected, version)
    settled = await connection.fetchval(_MOVE, *stream, len(events))
    caused = correlation.adopted(correlation.correlation_id())
    await connection.execute(_WRITE, *stream, settled, version, types, data, actor, caused)
    if publish:
        async with outbox(connection, correlation_id=caused) as out:
            for number, event in enumerate(events, version + 1):
                await out.append(*stream, event.type, event.data, headers={"stream-version": str(number)})
    return version + len(events)


async def read(connection: Any, stream: Stream, *, after: int = 0, limit: int = _BATCH) -> list[Event]:
    """Events of a stream above a version, at most `limit`, in order. Raises EventStoreError for what is no stream."""
    return [event(row) for row in await connection.fetch(_READ, *_named(stream), after, limit)]


async def load(
    connection: Any, stream: Stream, fold: Callable[[S, Event], S], initial: S, *, form: int = 1
) -> tuple[S, int]:
    """The state of a stream and its version: the snapshot's, if there is one of this form, and what came after it, each
    event folded into it in order. 0 and `initial` for a stream that is new. Raises EventStoreError for what is none."""
    row = await connection.fetchrow(_SNAPSHOT, *_named(stream), form)
    state, version = (json.loads(row["state"]), row["version"]) if row else (initial, 0)
    while some := await read(connection, stream, after=version):
        for one in some:
            state = fold(state, one)
        version = some[-1].version
    return state, version


async def snapshot(connection: Any, stream: Stream, state: Any, version: int, *, form: int = 1) -> None:
    """Keep a state that `load` gave; an older one than is there is not kept. Raises EventStoreError for a state that
    JSON cannot express."""
    await connection.execute(_KEEP, *_named(stream), version, form, _dumped("state", state))


def event(row: Any) -> Event:
    """From a row of the table."""
    return Event(
        position=row["position"],
        settled=row["settled"],
        stream=Stream(row["stream_type"], row["stream_id"]),
        version=row["version"],
        type=row["event_type"],
        data=json.loads(row["data"]),
        actor=row["actor"],
        correlation_id=row["correlation_id"],
        recorded_at=row["recorded_at"],
    )


async def _locked(connection: Any, stream: Stream) -> int:
    version = await connection.fetchval(_LOCK, *stream)
    if version is None:
        await connection.execute(_OPEN, *stream)
        version = await connection.fetchval(_LOCK, *stream)
    return int(version)


def _named(stream: Stream) -> Stream:
    """The stream, if it can be one: what PostgreSQL refuses ends the app's transaction. Raises EventStoreError."""
    if not _TYPE.fullmatch(_text("stream type", stream.type, 200)):
        rule = "1 to 200 letters, digits, dots, hyphens, underscores"
        raise EventStoreError(f"stream type: expected {rule}, got {stream.type[:40]!r}")
    _text("stream id", stream.id, 500)
    return stream


def _text(field: str, value: Any, longest: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= longest or "\0" in value:
        got = f"{len(value)} of them" if isinstance(value, str) else type(value).__name__
        raise EventStoreError(f"{field}: expected text of 1 to {longest} characters, none of them NUL, got {got}")
    return value


def _json(event: NewEvent) -> str:
    return _dumped(f"data of {event.type[:40]}", dict(event.data))


def _dumped(what: str, value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise EventStoreError(f"{what}: expected what JSON can express: {error}") from error
    if "\\u0000" in text:
        raise EventStoreError(f"{what}: expected text without NUL, which PostgreSQL's jsonb does not take")
    return text
