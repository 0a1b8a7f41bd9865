"""What the data tools raise; one family, so that an app can answer all of it in one place."""

import os
from collections.abc import Mapping
from typing import Any, Literal

Cause = Literal["threshold", "timeout"]
"""Why there is no connection: so many are taken that further requests are refused, or none came free in time."""


class DataError(Exception):
    """Whatever a data tool raises of its own; errors of the driver pass through as they are."""


class DatabaseError(DataError):
    """A database did not do what a command asked of it; the message names the server, and no secret."""


class ListenError(DataError, OSError):
    """A port cannot be listened on; the message names it, and says why where `error` does."""

    def __init__(self, host: str, port: int, error: OSError | None = None) -> None:
        why, number = "", error.errno if error else None
        if number is not None and number > 0:
            why = f": {os.strerror(number)}"
        elif error is not None:  # getaddrinfo's numbers are below 0, and its words stand in strerror; some have neither
            why = f": {error.strerror or error}"
        super().__init__(f"port {port} of {host} cannot be listened on{why}")


class KafkaUnavailableError(DataError):
    """Kafka does not answer."""


class KafkaSettingsError(DataError):
    """Settings of Kafka's client in a file that cannot be taken; says which file and line, and no value."""


class OutboxError(DataError):
    """An event that cannot be taken, or an outbox that is not as it must be; the message names field and rule."""


class MigrationError(DataError):
    """Migrations cannot be put into force; says which file and statement, and what to do."""


class SchemaError(DataError):
    """A table, column or index is not what a tool needs it to be; says which, and what to do."""


class PoolExhaustedError(DataError):
    """There is no connection to be had: answer 503 with Retry-After, and do not wait for one.

    `retry_after` is in seconds.
    """

    def __init__(self, pool: str, cause: Cause, retry_after: float) -> None:
        self.pool = pool
        self.cause: Cause = cause
        self.retry_after = retry_after
        why = "is used beyond its threshold" if cause == "threshold" else "gave no connection in time"
        super().__init__(f"the pool {pool} {why}")


class TenantQuotaError(DataError):
    """A tenant has its share of the pool: answer 429 with Retry-After. `retry_after` is in seconds."""

    def __init__(self, pool: str, retry_after: float) -> None:
        self.pool = pool
        self.retry_after = retry_after
        super().__init__(f"the tenant has its share of the pool {pool}")


class CallTimeoutError(DataError, TimeoutError):
    """A call that several waited for took too long; `seconds` is how long it was given."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        super().__init__(
            "a shared call was ended" if seconds is None else f"a shared call took more than {seconds:g} s"
        )


class NotLoadedError(DataError, LookupError):
    """A batch has no value for a key; the message does not name the key, which may be personal data."""

    def __init__(self) -> None:
        super().__init__("the batch has no value for this key")


class DownstreamError(DataError):
    """What a handler needs is not there: no fault of the event in hand. A consumer pauses, and skips nothing."""


class DedupStoreError(DownstreamError):
    """The store of idempotency keys does not answer, so whether an event was seen is not known."""


class DedupTransactionError(DataError):
    """A key was asked for outside a transaction: it would be there before its effect, and stay where that fails."""

    def __init__(self) -> None:
        super().__init__("a key is taken in the transaction of its effect: `async with connection.transaction(): …`")


class ClaimedError(DataError):
    """Somebody else is handling the same event; ask again after `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__("another one is handling this event")


class RejectedError(DataError):
    """A handler says that this event can never be handled: it goes to the dead letters without another attempt."""


class UndecodableError(RejectedError, ValueError):
    """The content of an event is not what it has to be, and will not be another time; says what is wrong with its form,
    and nothing of what it says."""


class ConsumerError(DataError):
    """A consumer that cannot work as it was told; the message names the setting and the rule."""


class EventStoreError(DataError):
    """An event or a stream that is not as it must be; the message names the field and the rule."""


class StreamConflictError(EventStoreError):
    """A stream has another version than who appends to it has read: read it again and decide anew."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        self.stream = stream
        self.expected = expected
        self.actual = actual
        super().__init__(f"stream {stream}: expected version {expected}, it is at {actual}")


class WriteBackFullError(DataError):
    """As many changes wait to be saved as may: answer 503, the change was not taken."""

    def __init__(self, cache: str) -> None:
        self.cache = cache
        super().__init__(f"the cache {cache} cannot take a further change: too many wait to be saved")


class UnsavedError(DataError):
    """Changes that could not be saved before the end; `values` has them by key, and the message none of them."""

    def __init__(self, cache: str, values: Mapping[Any, Any]) -> None:
        self.cache = cache
        self.values = values
        super().__init__(f"the cache {cache} could not save {len(values)} values")
