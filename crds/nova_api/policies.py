"""Every policy, defined once. A NovaService embeds them and a sidecar runs them.

Each default is safe for a service nobody has tuned: it bounds damage without refusing normal traffic.
The text under a field becomes its description in the CRD.
"""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api import patterns
from nova_api.model import Model, Rule
from nova_api.units import Duration, Share

Mode = Literal["Off", "Shadow", "Enforce"]
"""Off: not there. Shadow: decides, counts and logs, but refuses nothing. Enforce: acts."""

RetryCondition = Literal[
    "connect-failure", "reset", "timeout", "502", "503", "504", "unavailable", "resource-exhausted", "aborted"
]
GrpcCode = Literal[
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
]  # fmt: skip
StatusPattern = Annotated[str, Meta(pattern=patterns.STATUS)]
HeaderName = Annotated[str, Meta(pattern=patterns.HEADER, max_length=128)]
_NO_ID = (
    "authorization", "connection", "content-length", "cookie", "expect", "host", "keep-alive", "te", "trailer",
    "transfer-encoding", "upgrade",
)  # fmt: skip
"""Fields that frame, route or authenticate; an id in their place would break requests, and theirs would be logged."""
ZERO_SHARE = "^0+([.]0+)?%$"


class RedisStore(Model, frozen=True, kw_only=True):
    """A Redis that policies keep state in. Without it they go on by themselves, each sidecar alone."""

    url: Annotated[str, Meta(pattern=patterns.REDIS_URL, max_length=1024)]
    """redis://host:6379/0, or rediss:// with TLS; redis+sentinel://host:26379,host:26379/master-name/0;
    redis+cluster://host:6379,host:6379. Names and passwords do not belong here but into the Secret."""

    secret: Annotated[str, Meta(pattern=patterns.DOTTED, max_length=253)] | None = None
    """Secret with any of the keys username, password and ca.crt."""

    timeout: Duration = Duration(0.1)
    """Budget of one call; a policy that gets no answer in it decides alone."""

    rules = (
        Rule(
            cel="duration(self.timeout) > duration('0s') && duration(self.timeout) <= duration('5s')",
            message="timeout must be longer than 0s and at most 5s",
            holds=lambda s: 0 < s.timeout <= 5,
        ),
    )


class WindowPolicy(Model, frozen=True, kw_only=True):
    """What the failure rate and the slow-call rate are taken over."""

    type: Literal["Count", "Time"] = "Time"
    """Count: the last calls, by number. Time: the calls of the last seconds."""

    calls: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Length of a Count window, calls."""

    duration: Duration = Duration(10)
    """Length of a Time window; whole seconds count, 1s to 300s."""

    minimum_calls: Annotated[int, Meta(ge=1, le=10_000)] = 20
    """Calls in the window before a rate is looked at; never more than the length of a Count window."""

    failure_rate: Share = Share(0.5)
    """Share of failed calls from which on the breaker opens; 0% switches it off."""

    rules = (
        Rule(
            cel="duration(self.duration) >= duration('1s') && duration(self.duration) <= duration('300s')",
            message="duration must be from 1s to 300s",
            holds=lambda s: 1 <= s.duration <= 300,
        ),
    )


class SlowCallPolicy(Model, frozen=True, kw_only=True):
    """Calls that succeed but take too long."""

    duration: Duration = Duration(0)
    """Time to the response head from which on a call that succeeds is slow; 0s: no call is. A slow probe does not count
    as recovery."""

    rate: Share = Share(1.0)
    """Share of slow calls in the window from which on the breaker opens."""


class EndpointBreakerPolicy(Model, frozen=True, kw_only=True):
    """Takes single endpoints of an upstream out of rotation, so that one bad pod does not open the whole breaker."""

    mode: Mode = "Enforce"
    """Off, Shadow (counts what it would take out) or Enforce."""

    failure_threshold: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Consecutive failures of an endpoint that take it out."""

    eject_duration: Duration = Duration(10)
    """How long it stays out; multiplied by the number of times in a row, up to maxEjectDuration. It is in a row when it
    is ejected again within as long as it was out."""

    max_eject_duration: Duration = Duration(300)
    """Longest time it stays out."""

    max_ejected: Share = Share(0.5)
    """Largest share of the endpoints that is out at once, rounded down; of two or more one may be, unless it is 0%. Of
    a single endpoint none is."""

    panic_threshold: Share = Share(0.3)
    """Share of endpoints in rotation below which all are used again: an answer from a bad one beats none."""

    rules = (
        Rule(
            cel="duration(self.ejectDuration) > duration('0s')"
            " && duration(self.ejectDuration) <= duration(self.maxEjectDuration)",
            message="ejectDuration must be longer than 0s and not longer than maxEjectDuration",
            holds=lambda s: 0 < s.eject_duration <= s.max_eject_duration,
        ),
    )


class BreakerPolicy(Model, frozen=True, kw_only=True):
    """Stops calling an upstream that fails, so that callers get a fast answer and the upstream can recover."""

    mode: Literal["Off", "Shadow", "Enforce", "ForcedOpen"] = "Enforce"
    """Off, Shadow (decides and counts, refuses nothing), Enforce, or ForcedOpen (refuses everything, for rehearsal)."""

    failure_threshold: Annotated[int, Meta(ge=0, le=1000)] = 5
    """Consecutive failures (timeout, reset, connect failure, and what failureStatuses and failureCodes name) that open
    the breaker; 0: only the window does. That the upstream's own sidecar sheds load does not count."""

    failure_statuses: Annotated[tuple[StatusPattern, ...], Meta(max_length=32)] = ("5xx",)
    """HTTP statuses that are failures, such as 5xx or 429."""

    failure_codes: Annotated[tuple[GrpcCode, ...], Meta(max_length=16)] = (
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    )
    """gRPC statuses that are failures."""

    window: WindowPolicy = WindowPolicy()
    """Opens by the share of failures, where they do not come one after the other."""

    slow_call: SlowCallPolicy = SlowCallPolicy()
    """Opens by the share of slow calls."""

    endpoints: EndpointBreakerPolicy = EndpointBreakerPolicy()
    """The same for single endpoints of the upstream."""

    success_threshold: Annotated[int, Meta(ge=1, le=1000)] = 3
    """Consecutive successful probes in half_open that close it."""

    open_duration: Duration = Duration(30)
    """How long it stays open before it lets probes through; doubled, up to maxOpenDuration, each time a probe fails."""

    max_open_duration: Duration = Duration(300)
    """Longest time it stays open after failed probes."""

    half_open_probes: Annotated[int, Meta(ge=1, le=100)] = 1
    """Probes in flight at once while half_open; other requests are refused."""

    rules = (
        Rule(
            cel="duration(self.openDuration) <= duration(self.maxOpenDuration)",
            message="openDuration must not be longer than maxOpenDuration",
            holds=lambda s: s.open_duration <= s.max_open_duration,
        ),
        Rule(
            cel="duration(self.openDuration) > duration('0s')",
            message="openDuration must be longer than 0s",
            holds=lambda s: s.open_duration > 0,
        ),
    )


class BackoffPolicy(Model, frozen=True, kw_only=True):
    """Waiting between attempts: full jitter over an exponentially growing bound."""

    base: Duration = Duration(0.025)
    """Upper bound of the wait before the first retry; doubles with each further one."""

    max: Duration = Duration(0.25)
    """Largest upper bound."""

    rules = (
        Rule(
            cel="duration(self.base) <= duration(self.max)",
            message="base must not be longer than max",
            holds=lambda s: s.base <= s.max,
        ),
    )


class RetryPolicy(Model, frozen=True, kw_only=True):
    """Repeats what is safe to repeat, within a budget that keeps retries from becoming the overload."""

    mode: Mode = "Enforce"
    """Off, Shadow (counts what it would retry) or Enforce."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    """Attempts in all, the first one included."""

    budget: Share = Share(0.2)
    """Retries as a share of the requests of the last 10 s; beyond it the first failure is returned."""

    min_per_second: Annotated[int, Meta(ge=0, le=1000)] = 3
    """Retries per second always allowed, so that a quiet service may retry at all."""

    backoff: BackoffPolicy = BackoffPolicy()
    """Wait between attempts."""

    when: tuple[RetryCondition, ...] = ("connect-failure", "reset", "503", "unavailable")
    """What is retried. connect-failure, and a stream that an HTTP/2 upstream refused unseen, are safe for every
    request; the others only for idempotent methods (RFC 9110 section 9.2.2), requests that carry an Idempotency-Key,
    and idempotentPaths. unavailable, resource-exhausted and aborted are gRPC statuses."""

    idempotent_paths: Annotated[
        tuple[Annotated[str, Meta(pattern=patterns.PATH, max_length=256)], ...], Meta(max_length=64)
    ] = ()
    """Paths or gRPC methods (/package.Service/Method) that are safe to repeat whatever their HTTP method; one that ends
    in * stands for all that begin so."""

    max_body_bytes: Annotated[int, Meta(ge=0, le=16_777_216)] = 65_536
    """Request bodies up to this size are kept for a further attempt; larger ones are sent once."""


class PoolPolicy(Model, frozen=True, kw_only=True):
    """Connections to an upstream: how many, how old, and how they are renewed without a herd."""

    size: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """Most connections open at once to one upstream. HTTP/1.1 carries one request on each."""

    grpc_connections: Annotated[int, Meta(ge=1, le=100)] = 4
    """Connections to one upstream over which HTTP/2 streams take turns; 1: a single connection."""

    balance: Literal["RoundRobin", "LeastRequest"] = "LeastRequest"
    """How an endpoint is chosen: in turn, or the less busy of the one whose turn it is and another drawn at random."""

    warm_connections: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Connections kept open in all even when nobody calls, so that the first request does not pay for one."""

    max_age: Duration = Duration(300)
    """Age at which a connection is renewed, so that new endpoints get their share; 0s: never."""

    max_requests: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Requests after which a connection is renewed; 0: no limit."""

    idle_timeout: Duration = Duration(60)
    """Idle time after which a connection is closed; keep it below the upstream's own."""

    jitter: Share = Share(0.1)
    """Each connection's maxAge and idleTimeout are shortened by a random share up to this."""


class AdaptivePolicy(Model, frozen=True, kw_only=True):
    """Finds the concurrency at which the app is fast, between minConcurrency and maxConcurrency."""

    mode: Mode = "Off"
    """Off: maxConcurrency stands. Shadow: the limit is found and shown. Enforce: it applies."""

    min_concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] = 8
    """Lowest limit."""

    tolerance: Annotated[float, Meta(ge=1, le=10)] = 1.5
    """How many times the usual latency the present one may be before the limit sinks."""


class PriorityPolicy(Model, frozen=True, kw_only=True):
    """Refuses what matters less first. A request's class is in a header: critical, sheddable, anything else normal."""

    mode: Mode = "Off"
    """Off, Shadow (counts what it would refuse) or Enforce."""

    header: HeaderName = "x-nova-priority"
    """Header that carries the class, in lower case. Whoever can set it decides; remove it from foreign traffic."""

    sheddable: Share = Share(0.6)
    """Utilization above which sheddable requests are refused; normal ones at threshold, critical ones at 100%."""


class BackpressurePolicy(Model, frozen=True, kw_only=True):
    """Bounds the requests in flight to the app, so that overload is refused early instead of queueing up."""

    mode: Mode = "Enforce"
    """Off, Shadow (counts what it would refuse) or Enforce."""

    max_concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] = 512
    """Requests in flight to the app at full utilization."""

    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.85
    """Utilization (in flight / maxConcurrency) above which a request is refused at once; 1.0 switches early
    rejection off, and requests then wait for a free place."""

    acquire_timeout: Duration = Duration(2)
    """Longest wait for a free place."""

    max_queue: Annotated[int, Meta(ge=0, le=1_000_000)] = 512
    """Most requests waiting at once; further ones are refused."""

    adaptive: AdaptivePolicy = AdaptivePolicy()
    """Finds the limit from latency in place of maxConcurrency."""

    priority: PriorityPolicy = PriorityPolicy()
    """Refuses what matters less first."""


class CorrelationPolicy(Model, frozen=True, kw_only=True):
    """One id per request, taken over or made, passed on, echoed and logged."""

    mode: Literal["Off", "Enforce"] = "Enforce"
    """Off or Enforce."""

    header: HeaderName = "x-correlation-id"
    """Header that carries it, in lower case."""

    rules = (
        Rule(
            cel=f"!(self.header in [{', '.join(repr(name) for name in _NO_ID)}])",
            message="header must not be one that frames, routes or authenticates requests, such as host or cookie",
            holds=lambda s: s.header not in _NO_ID,
        ),
    )


class AccessLogPolicy(Model, frozen=True, kw_only=True):
    """One JSON line per request; never query strings, credentials or bodies."""

    mode: Literal["Off", "Errors", "All"] = "All"
    """Off, Errors (status 5xx, refusals and broken connections) or All."""

    sample: Share = Share(1.0)
    """Share of the other requests that is logged in mode All; errors always are."""


class TimeoutPolicy(Model, frozen=True, kw_only=True):
    """No call without a deadline. Each budget ends with the response head; bodies are bounded by silence instead,
    because a large download is not a fault."""

    request: Duration = Duration(15)
    """Whole budget of a request: all attempts, waits and queues included."""

    attempt: Duration = Duration(5)
    """Budget of one attempt; never more than what is left of the request's."""

    connect: Duration = Duration(1)
    """Budget for a connection to be established."""

    stream_idle: Duration = Duration(30)
    """Longest silence while a body is under way in either direction."""

    rules = (
        Rule(
            cel="[self.request, self.attempt, self.connect, self.streamIdle].all(d, duration(d) > duration('0s'))",
            message="request, attempt, connect and streamIdle must be longer than 0s",
            holds=lambda s: min(s.request, s.attempt, s.connect, s.stream_idle) > 0,
        ),
    )


class FallbackPolicy(Model, frozen=True, kw_only=True):
    """What the caller of a GET or HEAD gets when the upstream has failed for good: the last good answer, a fixed one,
    or the error."""

    mode: Mode = "Off"
    """Off, Shadow (counts what it would answer) or Enforce."""

    stale_for: Duration = Duration(0)
    """Age up to which the last good response to the same GET is served, 0s: never. Private responses, and those to
    requests with credentials, are not kept."""

    max_bytes: Annotated[int, Meta(ge=0, le=268_435_456)] = 4_194_304
    """Memory for kept responses; the least recently used leave."""

    status: Annotated[int, Meta(ge=200, le=599)] = 200
    """Status of the fixed answer."""

    content_type: Annotated[str, Meta(pattern=patterns.PRINTABLE, max_length=128)] = "application/json"
    """Content-Type of the fixed answer."""

    body: Annotated[str, Meta(max_length=16_384)] = ""
    """The fixed answer, used where no kept response is young enough; empty: none, the error goes to the caller."""

    rules = (
        Rule(
            cel="self.mode == 'Off' || self.body != '' || duration(self.staleFor) > duration('0s')",
            message="mode needs a body or a staleFor longer than 0s, or there is nothing to answer with",
            holds=lambda s: s.mode == "Off" or s.body != "" or s.stale_for > 0,
        ),
    )


class WebSocketPolicy(Model, frozen=True, kw_only=True):
    """Upgraded connections: how many, how long, and how they are told that the pod leaves."""

    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """Most upgraded connections at once; further upgrades are refused."""

    idle_timeout: Duration = Duration(3600)
    """Silence in both directions, pings included, after which a connection is closed; 0s: never."""

    max_age: Duration = Duration(0)
    """Age at which a connection is closed (1001), so that long sessions spread over new pods; 0s: never."""

    jitter: Share = Share(0.1)
    """Each connection's idleTimeout and maxAge are shortened by a random share up to this."""

    close_code: Literal[1001, 1012] = 1012
    """Code of the close frame when the pod leaves: 1012 service restart, 1001 going away (RFC 6455 section 7.4)."""

    spread: Duration = Duration(20)
    """Time over which the closes are spread when the pod leaves, so that clients do not come back in one herd. It
    begins after preStop, and the app is told to end after it."""

    session_header: HeaderName = "x-session-id"
    """Header of the upgrade that tells sessions apart; one seen again is a reconnect. Only a hash of it is kept."""


class TcpPolicy(Model, frozen=True, kw_only=True):
    """Relayed TCP connections."""

    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Most connections at once; further ones are reset."""

    idle_timeout: Duration = Duration(3600)
    """Silence in both directions after which a connection is closed; 0s: never."""


class TracingPolicy(Model, frozen=True, kw_only=True):
    """Spans of requests, exported by OTLP. The W3C trace context is passed on whether this is on or off."""

    mode: Literal["Off", "Enforce"] = "Off"
    """Off or Enforce."""

    endpoint: Annotated[str, Meta(pattern=patterns.URL, max_length=512)] = "http://otel-collector:4318"
    """OTLP/HTTP collector; /v1/traces is appended."""

    sample: Share = Share(0.01)
    """Share of requests without a caller's decision that is traced; a caller's decision (traceparent) is followed."""

    rules = (
        Rule(
            cel="!self.endpoint.endsWith('/v1/traces')",
            message="endpoint must be written without /v1/traces, which is appended",
            holds=lambda s: not s.endpoint.endswith("/v1/traces"),
        ),
    )


class SelfProtectionPolicy(Model, frozen=True, kw_only=True):
    """Sheds load before the sidecar itself, or the kernel, gives up."""

    mode: Mode = "Enforce"
    """Off, Shadow (counts what it would refuse) or Enforce."""

    max_loop_lag: Duration = Duration(1)
    """How late the event loop may come round before new requests are refused."""

    max_memory: Share = Share(0.9)
    """Share of the container's memory limit above which new requests are refused."""

    max_descriptors: Share = Share(0.9)
    """Share of the process's file descriptors above which new connections are refused."""

    max_connections: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    """Most connections from callers at once; further ones are closed."""

    rules = (
        Rule(
            cel="duration(self.maxLoopLag) > duration('0s')"
            f" && !self.maxMemory.matches('{ZERO_SHARE}') && !self.maxDescriptors.matches('{ZERO_SHARE}')",
            message="maxLoopLag, maxMemory and maxDescriptors must be more than 0; at 0 all would be refused",
            holds=lambda s: min(s.max_loop_lag, s.max_memory, s.max_descriptors) > 0,
        ),
    )
