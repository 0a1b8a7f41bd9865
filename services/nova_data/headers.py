"""What the headers of a message in Kafka are called that Nova sets: the relay writes them, consumers read them."""

from typing import Final

IDEMPOTENCY_KEY: Final = "idempotency-key"
CORRELATION_ID: Final = "correlation-id"
TRACEPARENT: Final = "traceparent"
"""W3C Trace Context."""
AGGREGATE_TYPE: Final = "aggregate-type"
AGGREGATE_ID: Final = "aggregate-id"
EVENT_TYPE: Final = "event-type"
CONTENT_TYPE: Final = "content-type"
RESERVED: Final = frozenset(
    (IDEMPOTENCY_KEY, CORRELATION_ID, TRACEPARENT, AGGREGATE_TYPE, AGGREGATE_ID, EVENT_TYPE, CONTENT_TYPE)
)
"""All of them: an event brings none of its own by these names."""
