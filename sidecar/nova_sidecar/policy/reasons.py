"""Every reason for which the sidecar itself answers, or an attempt fails.

One list, because the same word is the metric label, the field of the access log, the header ``x-nova-reject`` and
the key of the table that turns it into a status (pipeline/refusals.py).
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Reason(StrEnum):
    """Why a request was refused or an attempt failed; the value is what people see."""

    # The caller's fault
    BAD_REQUEST = "bad_request"  # malformed message, RFC 9112
    HEADER_TOO_LARGE = "header_too_large"
    URI_TOO_LONG = "uri_too_long"
    UNSUPPORTED_METHOD = "unsupported_method"  # CONNECT: this is no forward proxy
    FLOOD = "flood"  # HTTP/2 frames that cost work and carry none: rapid reset, CONTINUATION, SETTINGS, PING
    UNSUPPORTED_VERSION = "unsupported_version"  # neither HTTP/1.0 nor HTTP/1.1
    NOT_IMPLEMENTED = "not_implemented"  # a transfer coding other than chunked
    REQUEST_TIMEOUT = "request_timeout"  # the head did not arrive in time
    CLIENT_CLOSED = "client_closed"  # the caller went away before its answer
    UNAUTHENTICATED = "unauthenticated"  # no token, or none that is good (jwt)
    KEYS_UNAVAILABLE = "keys_unavailable"  # the issuer's keys are not to be had, so no token can be judged (jwt)
    FORBIDDEN = "forbidden"  # a good token that does not say what is asked for (jwt)
    RATE_LIMITED = "rate_limited"  # more requests than the caller may send (rateLimit, tenancy)
    TENANT_UNKNOWN = "tenant_unknown"  # no tenant is named, or one that is not known (tenancy)
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"  # the same key is under way
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"  # the same key came with another request
    IDEMPOTENCY_KEY_INVALID = "idempotency_key_invalid"  # no key where one is required, or none that can be one
    QUERY_REFUSED = "query_refused"  # a GraphQL query that would cost too much, or is none

    # This sidecar protects itself or the app
    OVERLOADED = "overloaded"  # utilization above the threshold
    QUEUE_FULL = "queue_full"
    ACQUIRE_TIMEOUT = "acquire_timeout"  # no free place within acquireTimeout
    DRAINING = "draining"
    TENANT_LIMIT = "tenant_limit"  # one tenant holds its whole share
    DATABASE_SATURATED = "database_saturated"  # the app says that its database pool is full (poolGuard)
    STORE_LOST = "store_lost"  # a policy that must not guess got no answer from its store
    CONNECTION_LIMIT = "connection_limit"  # as many upgraded or relayed connections as allowed
    SIDECAR_OVERLOADED = "sidecar_overloaded"  # event loop, memory or descriptors of the sidecar itself

    # The upstream is not to be called, or cannot be
    CIRCUIT_OPEN = "circuit_open"
    POOL_EXHAUSTED = "pool_exhausted"  # as many connections as pool.size, none free in time
    NO_ENDPOINT = "no_endpoint"  # the name does not resolve
    CONNECT_FAILURE = "connect_failure"  # nothing of the request was sent

    # The upstream was called and failed
    UPSTREAM_RESET = "upstream_reset"  # closed or reset before the response was complete
    ATTEMPT_TIMEOUT = "attempt_timeout"
    STREAM_IDLE_TIMEOUT = "stream_idle_timeout"  # silence in the middle of a body
    BAD_RESPONSE = "bad_response"
    UPSTREAM_ERROR = "upstream_error"  # it answered 5xx, and a fallback stood in
    RESPONSE_HEAD_TOO_LARGE = "response_head_too_large"

    # Time is up, or the fault is ours
    DEADLINE_EXCEEDED = "deadline_exceeded"  # the whole budget of the request
    INTERNAL_ERROR = "internal_error"


REJECT_HEADER: Final = b"x-nova-reject"
"""Field of a refusal that carries its reason."""

SHED: Final = frozenset(
    reason.encode()
    for reason in (
        Reason.OVERLOADED,
        Reason.QUEUE_FULL,
        Reason.ACQUIRE_TIMEOUT,
        Reason.DRAINING,
        Reason.TENANT_LIMIT,
        Reason.RATE_LIMITED,
        Reason.DATABASE_SATURATED,
        Reason.STORE_LOST,
        Reason.CONNECTION_LIMIT,
        Reason.SIDECAR_OVERLOADED,
    )
)
"""Reasons in another sidecar's refusal that speak of load, not of failure."""


class Reject(NamedTuple):
    """A refusal, as a value: the reason, and after how many seconds a new try makes sense (None: not known)."""

    reason: Reason
    retry_after: float | None = None
    lines: bytes = b""
    """Field lines for the answer, each with its CRLF, such as WWW-Authenticate."""


OVERLOAD_RETRY_AFTER: Final = 1.0
"""Seconds a caller is asked to stay away when the app, or the pool to an upstream, is full: places come free within a
request's duration."""
