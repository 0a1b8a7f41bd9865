"""What the data tools raise; one family, so that an app can answer all of it in one place."""

from typing import Literal

Cause = Literal["threshold", "timeout"]
"""Why there is no connection: so many are taken that further requests are refused, or none came free in time."""


class DataError(Exception):
    """Whatever a data tool raises of its own; errors of the driver pass through as they are."""


class DatabaseError(DataError):
    """A database did not do what a command asked of it; the message names the server, and no secret."""


class KafkaUnavailableError(DataError):
    """Kafka does not answer."""


class OutboxError(DataError):
    """An event that cannot be taken, or an outbox that is not as it must be; the message names field and rule."""


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
