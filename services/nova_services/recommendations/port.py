"""What an analytics store is asked: ClickHouse's SQL, with data in JSON, a line for each row.

    answer = await store.run("SELECT 1 AS one FORMAT JSONEachRow")          # '{"one":1}\n'
    await store.run(f"INSERT INTO posts FORMAT JSONEachRow\n{lines}")

One method is all that an embedded store and a server have in common, and all that is needed. Statements are made of
this package's own text and of UUIDs and numbers (`literal`), so nothing in them has to be escaped.
"""

from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from nova_data.errors import DownstreamError

TIMEOUT: Final = 10.0
"""Seconds for one statement."""
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class AnalyticsUnavailableError(DownstreamError):
    """The store does not answer; a consumer waits for it, and skips nothing."""


class AnalyticsError(Exception):
    """The store refuses a statement; the message is its own, and the statement has no personal data but ids."""


class Store(Protocol):
    """An analytics store."""

    async def run(self, statement: str) -> str:
        """The answer, in the format that the statement names. Raises AnalyticsUnavailableError and AnalyticsError."""

    async def close(self) -> None:
        """End it."""


def literal(value: UUID | int | datetime) -> str:
    """A value within a statement."""
    if isinstance(value, UUID):
        return f"toUUID('{value}')"
    return str(int(value.timestamp())) if isinstance(value, datetime) else str(int(value))


def rows(answer: str) -> list[dict[str, Any]]:
    """Of an answer in JSONEachRow."""
    return [_decode(line) for line in answer.splitlines() if line]


def lines(rows: list[dict[str, Any]]) -> str:
    """Rows as JSONEachRow takes them."""
    return "\n".join(_encode(row).decode() for row in rows)
