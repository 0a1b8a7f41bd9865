"""What a handler is given."""

import json
from functools import cached_property
from typing import Any

from nova_data.correlation import adopted, traced
from nova_data.dedup.key import LONGEST
from nova_data.errors import UndecodableError
from nova_data.headers import CORRELATION_ID, EVENT_TYPE, IDEMPOTENCY_KEY, TRACEPARENT

Headers = list[tuple[str, bytes | None]]


class Message:
    """A record of a topic. `key` and `value` are bytes as they came, or None; `timestamp` is in seconds since 1970."""

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        timestamp: float = 0.0,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key
        self.value = value
        self.headers: Headers = headers or []
        """All of them, in their order; a name may be there twice."""
        self.timestamp = timestamp

    @property
    def position(self) -> str:
        """topic/partition/offset, which no other message has."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @cached_property
    def idempotency_key(self) -> str:
        """What the sender calls the event, the same each time it is sent; where nobody gave it one, the position."""
        given = self.header(IDEMPOTENCY_KEY)
        return given if given and len(given) <= LONGEST else self.position

    @cached_property
    def correlation_id(self) -> str:
        """The sender's, or a new one where that could do harm."""
        return adopted(self.header(CORRELATION_ID))

    @cached_property
    def traceparent(self) -> str | None:
        """W3C Trace Context, where the sender gave one."""
        return traced(self.header(TRACEPARENT))

    @property
    def event_type(self) -> str | None:
        """Of an event from an outbox."""
        return self.header(EVENT_TYPE)

    def header(self, name: str) -> str | None:
        """The last header of this name, as text."""
        for found, value in reversed(self.headers):
            if found == name:
                return value.decode("utf-8", "replace") if value is not None else None
        return None

    def json(self) -> Any:
        """The value, read as JSON. Raises UndecodableError, with which a handler sends it to the dead letters."""
        if self.value is None:
            raise UndecodableError("value: expected JSON, the message has no value")
        try:
            return json.loads(self.value)
        except RecursionError:
            raise UndecodableError("value: expected JSON, it is nested too deeply") from None
        except ValueError as error:
            raise UndecodableError(f"value: expected JSON: {error}") from None

    def __repr__(self) -> str:
        return f"<Message {self.position}>"
