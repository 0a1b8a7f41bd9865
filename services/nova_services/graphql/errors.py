"""What went wrong, as clients of GraphQL read it: a sentence, and a code under `extensions`.

An error belongs to a field. The others have their values, so a page is shown without what is missing.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import grpc
from graphql import GraphQLError

from nova_services.logs import get_logger

_LONGEST: Final = 300
"""Characters of another service's words that are passed on."""


class Code(StrEnum):
    """Whose fault it was."""

    BAD_USER_INPUT = "BAD_USER_INPUT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    OVERLOADED = "OVERLOADED"
    UNAVAILABLE = "UNAVAILABLE"
    TIMEOUT = "TIMEOUT"
    INTERNAL = "INTERNAL_SERVER_ERROR"
    UNKNOWN_DOCUMENT = "PERSISTED_QUERY_NOT_FOUND"


CALLERS: Final = frozenset((Code.BAD_USER_INPUT, Code.FORBIDDEN, Code.NOT_FOUND, Code.CONFLICT))
"""What the other service says of these is for the caller."""
OF_GRPC: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: Code.BAD_USER_INPUT,
    grpc.StatusCode.UNAUTHENTICATED: Code.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Code.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: Code.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION: Code.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Code.OVERLOADED,
    grpc.StatusCode.UNAVAILABLE: Code.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.TIMEOUT,
}
OF_HTTP: Final = {
    400: Code.BAD_USER_INPUT,
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    409: Code.CONFLICT,
    429: Code.OVERLOADED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.TIMEOUT,
}
_SENTENCES: Final = {
    Code.UNAUTHENTICATED: "{} asks for an access token",
    Code.OVERLOADED: "{} takes no more for now",
    Code.UNAVAILABLE: "{} is not available",
    Code.TIMEOUT: "{} did not answer in time",
}


def failure(code: Code, words: str) -> GraphQLError:
    """An error with a code."""
    return GraphQLError(words, extensions={"code": code.value})


def failed(upstream: str, code: Code, words: str | None = None) -> GraphQLError:
    """Another service did not do what it was asked. Its own words are passed on where they are about the request."""
    if code in CALLERS and words:
        return failure(code, words[:_LONGEST])
    return failure(code, _SENTENCES.get(code, "{} failed").format(upstream))


def told(errors: Sequence[GraphQLError] | None) -> list[dict[str, Any]]:
    """Errors as they are answered. One that nobody meant is logged, and its words stay here."""
    return [_told(error) for error in errors or ()]


def _told(error: GraphQLError) -> dict[str, Any]:
    cause = error.original_error
    if cause is None or isinstance(cause, GraphQLError):
        return {**error.formatted, "extensions": {"code": _code(error).value, **(error.extensions or {})}}
    get_logger().error("operation failed", exc_info=cause)
    masked = GraphQLError("internal error", error.nodes, path=error.path, extensions={"code": Code.INTERNAL.value})
    return dict(masked.formatted)


def _code(error: GraphQLError) -> Code:
    """Of one without: before a field was looked at it is the document's or a variable's."""
    return Code.BAD_USER_INPUT if error.path is None else Code.INTERNAL
