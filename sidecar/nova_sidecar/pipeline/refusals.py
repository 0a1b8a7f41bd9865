"""One table from a reason to an answer. The same word is the metric label, the log field and ``x-nova-reject``."""

import json
from email.utils import formatdate
from math import ceil, isfinite
from typing import Final, NamedTuple

from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.policy.reasons import REJECT_HEADER, Reason


class Refusal(NamedTuple):
    """How one reason is answered."""

    status: int
    code: int
    """gRPC status code of a call that is refused."""
    close: bool
    """Whether the client's connection is closed after it."""
    message: str
    """One sentence for people, where there is nothing more precise to say."""


REFUSALS: Final[dict[Reason, Refusal]] = {
    # the caller's fault: what follows on the connection cannot be trusted
    Reason.BAD_REQUEST: Refusal(400, 13, True, "the request breaks HTTP"),
    Reason.URI_TOO_LONG: Refusal(414, 13, True, "the request target is too long"),
    Reason.HEADER_TOO_LARGE: Refusal(431, 8, True, "the request head is too large"),
    Reason.FLOOD: Refusal(400, 11, True, "the connection carries frames that only cost work"),
    Reason.UNSUPPORTED_METHOD: Refusal(405, 12, True, "the method is not served here"),
    Reason.UNSUPPORTED_VERSION: Refusal(505, 12, True, "the HTTP version is not served here"),
    Reason.NOT_IMPLEMENTED: Refusal(501, 12, True, "the transfer coding is not known here"),
    Reason.REQUEST_TIMEOUT: Refusal(408, 4, True, "the request did not arrive in time"),
    Reason.CLIENT_CLOSED: Refusal(499, 1, True, "the client went away"),
    # the caller's fault, and the connection stays good
    Reason.UNAUTHENTICATED: Refusal(401, 16, False, "the request carries no token that is good here"),
    Reason.KEYS_UNAVAILABLE: Refusal(503, 14, False, "the keys that tokens are judged by cannot be fetched now"),
    Reason.FORBIDDEN: Refusal(403, 7, False, "the token does not allow this"),
    Reason.RATE_LIMITED: Refusal(429, 8, False, "more requests than are allowed"),
    Reason.TENANT_UNKNOWN: Refusal(400, 3, False, "the request names no tenant that is known here"),
    Reason.IDEMPOTENCY_CONFLICT: Refusal(409, 10, False, "a request with this Idempotency-Key is under way"),
    Reason.IDEMPOTENCY_MISMATCH: Refusal(422, 9, False, "this Idempotency-Key was used for another request"),
    Reason.IDEMPOTENCY_KEY_INVALID: Refusal(400, 3, False, "the request needs an Idempotency-Key, and a valid one"),
    Reason.QUERY_REFUSED: Refusal(400, 3, False, "the query cannot be read, or would cost too much"),
    # protection of the app and of this sidecar: the connection stays good
    Reason.OVERLOADED: Refusal(503, 8, False, "the service is at its limit of concurrent requests"),
    Reason.QUEUE_FULL: Refusal(503, 8, False, "too many requests wait for a place"),
    Reason.ACQUIRE_TIMEOUT: Refusal(503, 8, False, "no place came free in time"),
    Reason.DRAINING: Refusal(503, 14, True, "this instance is leaving"),
    Reason.TENANT_LIMIT: Refusal(429, 8, False, "this tenant has as many requests under way as it may"),
    Reason.DATABASE_SATURATED: Refusal(503, 8, False, "the service's database is at its limit"),
    Reason.STORE_LOST: Refusal(503, 14, False, "what must be known for this request cannot be looked up now"),
    Reason.CONNECTION_LIMIT: Refusal(503, 8, True, "there are as many connections as allowed"),
    Reason.SIDECAR_OVERLOADED: Refusal(503, 14, True, "the sidecar itself is at its limit"),
    # the upstream is not to be called, or cannot be
    Reason.CIRCUIT_OPEN: Refusal(
        503, 14, False, "the upstream's circuit breaker is open: it failed or was slow too often, or is forced open"
    ),
    Reason.POOL_EXHAUSTED: Refusal(503, 14, False, "no connection to the upstream came free in time"),
    Reason.NO_ENDPOINT: Refusal(503, 14, False, "the upstream has no known address"),
    Reason.CONNECT_FAILURE: Refusal(503, 14, False, "no connection to the upstream could be made"),
    # the upstream was called and failed
    Reason.UPSTREAM_RESET: Refusal(502, 14, False, "the upstream closed the connection before it answered"),
    Reason.BAD_RESPONSE: Refusal(502, 13, False, "the upstream's response breaks HTTP"),
    Reason.UPSTREAM_ERROR: Refusal(502, 14, False, "the upstream answered with an error"),
    Reason.RESPONSE_HEAD_TOO_LARGE: Refusal(502, 13, False, "the head of the upstream's response is too large"),
    Reason.ATTEMPT_TIMEOUT: Refusal(504, 4, False, "the upstream did not answer in time"),
    Reason.STREAM_IDLE_TIMEOUT: Refusal(504, 4, True, "the upstream took no more of the request"),
    Reason.DEADLINE_EXCEEDED: Refusal(504, 4, False, "the request's whole time is over"),
    Reason.INTERNAL_ERROR: Refusal(500, 13, True, "the proxy failed"),
}

_PHRASES: Final = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 405: "Method Not Allowed", 408: "Request Timeout",
    409: "Conflict", 414: "URI Too Long", 422: "Unprocessable Content", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 499: "Client Closed Request",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip


def render(
    reason: Reason, *, why: str, retry_after: float | None, correlation: tuple[bytes, bytes] | None,
    head_only: bool, keep: bool, http10: bool, mark: bytes = b"",
) -> bytes:  # fmt: skip
    """The whole response. `correlation` is the header's name and the id; `why` stands in for the table's sentence.

    `retry_after` is rounded up to whole seconds, as the header has them (RFC 9110 section 10.2.3); `mark` is one more
    field line.
    """
    refusal = REFUSALS[reason]
    answer = {"error": str(reason), "message": why or refusal.message}
    if correlation is not None:
        answer["correlationId"] = correlation[1].decode("latin-1")
    body = json.dumps(answer, separators=(",", ":")).encode()
    lines = [
        f"HTTP/1.1 {refusal.status} {_PHRASES[refusal.status]}",
        f"date: {formatdate(usegmt=True)}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"{REJECT_HEADER.decode()}: {reason}",
    ]
    if refusal.status == 405:
        lines.append("allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if retry_after is not None and isfinite(retry_after):
        lines.append(f"retry-after: {max(1, ceil(retry_after))}")
    if not keep:
        lines.append("connection: close")
    elif http10:
        lines.append("connection: keep-alive")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n" + mark
    if correlation is not None:
        head += correlation[0] + b": " + correlation[1] + b"\r\n"
    return head + b"\r\n" + (b"" if head_only else body)


def grpc_status(exchange: Handled) -> int | None:
    """Code of a gRPC call, -1 where it got none; None for what is no gRPC call. Exchanges over HTTP/1.1, which share
    the filters that ask, do not know the attributes."""
    if not getattr(exchange.head, "is_grpc", False):
        return None
    code: int = getattr(exchange, "grpc_status", -1)
    if code < 0 and isinstance(exchange.reason, Reason):
        code = REFUSALS[exchange.reason].code
    return code
