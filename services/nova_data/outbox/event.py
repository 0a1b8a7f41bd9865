"""An event as the relay reads it, and the message that it becomes."""

from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from nova_data.headers import AGGREGATE_ID, AGGREGATE_TYPE, CONTENT_TYPE, CORRELATION_ID, EVENT_TYPE, IDEMPOTENCY_KEY

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """One row of the outbox that waits."""

    position: int
    created_at: Any
    """Its part of the primary key, a datetime."""
    slot: int
    aggregate: tuple[str, str]
    """Type and id."""
    topic: str
    key: str
    content: bytes
    headers: list[tuple[str, str | bytes | None]]
    """Of the message."""
    retry_count: int
    waited: float
    """Seconds since it was appended."""


def read(row: asyncpg.Record, prefix: str) -> Event:
    """The event in a row of `session.FETCH`; `prefix` and the aggregate's type are the topic where none is given."""
    kind, identity, payload = row["aggregate_type"], row["aggregate_id"], row["payload"]
    given = _decode(row["headers"])
    headers: list[tuple[str, str | bytes | None]] = [
        *((name, value if isinstance(value, str) else _encode(value)) for name, value in given.items()),
        (IDEMPOTENCY_KEY, row["id"]),
        (AGGREGATE_TYPE, kind),
        (AGGREGATE_ID, identity),
        (EVENT_TYPE, row["event_type"]),
    ]
    if CORRELATION_ID not in given:
        headers.append((CORRELATION_ID, row["id"]))  # written in SQL: it is the first of its kind
    if payload is not None:
        headers.append((CONTENT_TYPE, "application/json"))
    return Event(
        position=row["position"],
        created_at=row["created_at"],
        slot=row["slot"],
        aggregate=(kind, identity),
        topic=row["topic"] or prefix + kind,
        key=identity if row["key"] is None else row["key"],
        content=row["content"] if payload is None else payload.encode(),
        headers=headers,
        retry_count=row["retry_count"],
        waited=row["waited"],
    )
