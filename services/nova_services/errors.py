"""What a service says no with: whose fault it was, in words that may leave the process.

Raised where the fault is found, whatever the request came by; `web` has the table of answers by HTTP, `rpc` the one by
gRPC. No message quotes what was sent, and none names a person.
"""


class ServiceError(Exception):
    """One of these, never itself."""


class InvalidError(ServiceError, ValueError):
    """The caller's: a field is not what it must be. The message is ``field: expected …``."""

    def __init__(self, field: str, rule: str) -> None:
        self.field = field
        super().__init__(f"{field}: expected {rule}")


class ForbiddenError(ServiceError):
    """Known who asks, and not allowed."""


class NotFoundError(ServiceError):
    """There is none, or none that the caller may know of; the two are answered alike."""


class ConflictError(ServiceError):
    """It cannot be as things stand; after a look at them the caller may decide anew."""


class UnavailableError(ServiceError):
    """What the service needs is away, and will be back; `retry_after` in seconds."""

    def __init__(self, what: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(f"{what} is not available")
