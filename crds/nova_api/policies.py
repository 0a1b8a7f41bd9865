"""Every policy, defined once. A NovaService embeds them and a sidecar runs them.

Each default is safe for a service nobody has tuned: it bounds damage without refusing normal traffic.
The text under a field becomes its description in the CRD.
"""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api.model import Model, Rule
from nova_api.units import Duration, Share

Mode = Literal["Off", "Shadow", "Enforce"]
"""Off: not there. Shadow: decides, counts and logs, but refuses nothing. Enforce: acts."""

RetryCondition = Literal["connect-failure", "reset", "timeout", "502", "503", "504"]


class BreakerPolicy(Model, frozen=True, kw_only=True):
    """Stops calling an upstream that fails, so that callers get a fast answer and the upstream can recover."""

    mode: Literal["Off", "Shadow", "Enforce", "ForcedOpen"] = "Enforce"
    """Off, Shadow (decides and counts, refuses nothing), Enforce, or ForcedOpen (refuses everything, for rehearsal)."""

    failure_threshold: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Consecutive failures (status 5xx, timeout, reset, connect failure) that open the breaker. That the upstream's own
    sidecar sheds load is no failure of it and does not count."""

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

    when: tuple[RetryCondition, ...] = ("connect-failure", "reset", "503")
    """What is retried. connect-failure is safe for every method; the others only for idempotent methods
    (RFC 9110 section 9.2.2)."""

    max_body_bytes: Annotated[int, Meta(ge=0, le=16_777_216)] = 65_536
    """Request bodies up to this size are kept for a further attempt; larger ones are sent once."""


class PoolPolicy(Model, frozen=True, kw_only=True):
    """Connections to an upstream: how many, how old, and how they are renewed without a herd."""

    size: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """Most connections open at once to one upstream. HTTP/1.1 carries one request on each."""

    max_age: Duration = Duration(300)
    """Age at which a connection is renewed, so that new endpoints get their share; 0s: never."""

    max_requests: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    """Requests after which a connection is renewed; 0: no limit."""

    idle_timeout: Duration = Duration(60)
    """Idle time after which a connection is closed; keep it below the upstream's own."""

    jitter: Share = Share(0.1)
    """Each connection's maxAge and idleTimeout are shortened by a random share up to this."""


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


class CorrelationPolicy(Model, frozen=True, kw_only=True):
    """One id per request, taken over or made, passed on, echoed and logged."""

    mode: Literal["Off", "Enforce"] = "Enforce"
    """Off or Enforce."""

    header: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}\Z")] = "x-correlation-id"
    """Header that carries it, in lower case."""


class AccessLogPolicy(Model, frozen=True, kw_only=True):
    """One JSON line per request; never query strings, credentials or bodies."""

    mode: Literal["Off", "Errors", "All"] = "All"
    """Off, Errors (status 5xx, refusals and broken connections) or All."""


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
