"""For apps: events that are there if, and only if, the transaction they were appended in is.

    async with connection.transaction():
        await connection.execute("UPDATE orders SET state = 'paid' WHERE id = $1", order)
        async with outbox(connection) as events:
            await events.append("order", order, "order-paid", {"order": order})

Rules:

* Outside a transaction nothing is appended: an event that is there without the change it tells of is worse than none.
* Append after writing the aggregate's row. Its lock, held until the commit, is what gives events of one aggregate their
  order (see `nova_data.outbox.schema`).
* Every event has an id, which is its idempotency key (consumers drop what they have seen), and a correlation id: the
  one given, else the one that structlog's context has as `correlation_id`, else a new one.
* Connections of asyncpg and of psycopg 3 (AsyncConnection) are taken.
"""

import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from nova_data import correlation
from nova_data.errors import OutboxError
from nova_data.headers import CORRELATION_ID, RESERVED, TRACEPARENT
from nova_data.transactions import in_transaction

LARGEST: Final = 900_000
"""Bytes of an event's content: with its headers it fits into what brokers take by default (1 MiB)."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_HEADER: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""As JSON writes it; behind an escaped backslash it is text that speaks of it."""
_NO_TEXT: Final = re.compile(r"[\x00\ud800-\udfff]")
"""What no text in PostgreSQL has. An error of its own would end the app's transaction."""
_CALL: Final = (
    "SELECT nova_outbox_write({}::text, {}::text, {}::text, {}::text::jsonb, {}::bytea,"
    " {}::text, {}::text, {}::text::jsonb, {}::uuid, {}::boolean)"
)
_ASYNCPG_CALL: Final = _CALL.format(*(f"${number}" for number in range(1, 11)))
_PSYCOPG_CALL: Final = _CALL.format(*["%s"] * 10)


@asynccontextmanager
async def outbox(
    connection: Any, *, correlation_id: str | None = None, traceparent: str | None = None, wake: bool = True
) -> AsyncIterator["Events"]:
    """Events of the transaction that `connection` is in.

    `correlation_id` and `traceparent` (W3C Trace Context) go with each of them; where they are not given, those of the
    message in hand do (`nova_data.correlation`), or a new id and no trace. `wake` tells relays at the commit.
    Commits with a notification wait for one another, so a service of thousands of transactions a second leaves it out;
    its events wait for the relay's next look, 20 ms while it is busy and 1 s at most. Raises OutboxError outside a
    transaction.
    """
    database = _Psycopg(connection) if hasattr(connection, "pgconn") else _Asyncpg(connection)
    identity = correlation.adopted(correlation_id if correlation_id is not None else correlation.correlation_id())
    trace = _trace(traceparent) if traceparent is not None else correlation.traceparent()
    yield Events(database, correlation_id=identity, traceparent=trace, wake=wake)


class Events:
    """Appends to the outbox; see the module."""

    def __init__(
        self, database: "_Asyncpg | _Psycopg", *, correlation_id: str, traceparent: str | None, wake: bool
    ) -> None:
        database.require_transaction()
        self._database = database
        self.correlation_id = correlation_id
        self._common = {CORRELATION_ID: correlation_id} | ({TRACEPARENT: traceparent} if traceparent else {})
        self._wake = wake
        self.appended = 0
        """Events so far."""

    async def append(
        self,
        aggregate_type: str,
        aggregate_id: str | int | uuid.UUID,
        event_type: str,
        payload: Mapping[str, Any] | bytes,
        *,
        topic: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        event_id: uuid.UUID | None = None,
    ) -> uuid.UUID:
        """Append an event and return its id.

        The order is kept among the events of one aggregate, which is a type (letters, digits, dots, hyphens,
        underscores; 200 at most) and an id (1 to 500 characters). `payload` is a mapping, sent as JSON, or bytes as
        they are; 900 000 bytes at most. `topic` is the relay's for this aggregate type unless given, `key` the
        aggregate's id; who sets them must set the same for all events of an aggregate, or they come in any order.
        Raises OutboxError.
        """
        self._database.require_transaction()
        if not isinstance(aggregate_id, str | int | uuid.UUID):
            raise OutboxError(f"aggregate_id: expected a text, a number or a UUID, got {type(aggregate_id).__name__}")
        identity = event_id or uuid.uuid4()
        text, content = _content(payload)
        await self._database.call(
            _checked("aggregate_type", aggregate_type, _NAME, "1 to 200 letters, digits, dots, hyphens, underscores"),
            _bounded("aggregate_id", str(aggregate_id), 500),
            _bounded("event_type", event_type, 200),
            text,
            content,
            topic and _checked("topic", topic, _TOPIC, "1 to 249 letters, digits, dots, hyphens, underscores"),
            key if key is None else _bounded("key", key, 500),
            json.dumps(_headers(headers) | self._common),
            identity,
            self._wake,
        )
        self.appended += 1
        return identity

    def __repr__(self) -> str:
        return f"<Events appended={self.appended}>"


class _Asyncpg:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def require_transaction(self) -> None:
        if not in_transaction(self._connection):
            raise OutboxError("an event is appended in a transaction: `async with connection.transaction(): …`")

    async def call(self, *values: Any) -> None:
        await self._connection.fetchval(_ASYNCPG_CALL, *values)


class _Psycopg:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def require_transaction(self) -> None:
        if not in_transaction(self._connection):
            raise OutboxError(
                "an event is appended in a transaction: `async with connection.transaction(): …`, or no autocommit"
            )

    async def call(self, *values: Any) -> None:
        await self._connection.execute(_PSYCOPG_CALL, values)


def _content(payload: Mapping[str, Any] | bytes) -> tuple[str | None, bytes | None]:
    """As JSON, or as it is. Raises OutboxError."""
    if isinstance(payload, bytes):
        text, content, size = None, payload, len(payload)
    elif not isinstance(payload, Mapping):
        raise OutboxError(f"payload: expected a mapping or bytes, got {type(payload).__name__}")
    else:
        try:
            text, content = json.dumps(payload, allow_nan=False, ensure_ascii=False), None
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise OutboxError("payload: expected text without halves of surrogate pairs") from error
        except (TypeError, ValueError) as error:
            raise OutboxError(f"payload: expected what JSON can express: {error}") from error
        if _NUL.search(text):
            raise OutboxError("payload: expected text without NUL, which PostgreSQL's jsonb does not take; send bytes")
    if size > LARGEST:
        raise OutboxError(f"payload: expected at most {LARGEST} bytes, got {size}; send where it lies instead")
    return text, content


def _headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    given = dict(headers or {})
    for name, value in given.items():
        if not _HEADER.fullmatch(name) or name in RESERVED:
            raise OutboxError(f"headers: expected lower-case names that Nova does not set itself, got {name[:40]!r}")
        if not isinstance(value, str) or len(value) > 4096:
            raise OutboxError(f"headers: {name}: expected a text of at most 4096 characters")
        if _NO_TEXT.search(value):
            raise OutboxError(f"headers: {name}: expected text without NUL and without halves of surrogate pairs")
    return given


def _trace(given: str) -> str:
    if correlation.traced(given) is None:
        raise OutboxError("traceparent: expected version-trace-parent-flags, as W3C Trace Context has it")
    return given


def _checked(field: str, value: str, form: re.Pattern[str], rule: str) -> str:
    if not form.fullmatch(value):
        raise OutboxError(f"{field}: expected {rule}, got {value[:40]!r}")
    return value


def _bounded(field: str, value: str, longest: int) -> str:
    if not 1 <= len(value) <= longest or "\0" in value:
        raise OutboxError(f"{field}: expected 1 to {longest} characters, none of them NUL")
    return value
