"""What each policy would do for one request, in words. One function per policy; `steps` is their order."""

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple, Protocol

from nova_api.policies import BackpressurePolicy, BreakerPolicy, FallbackPolicy
from nova_api.proxy import Affinity, Inbound, Jwt, Outbound, ProxyConfig, Tls
from nova_api.request_policies.cache import CachePolicy
from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.request_policies.rate_limit import RateLimitPolicy
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_sidecar.pipeline.refusals import REFUSALS
from nova_sidecar.policy.jwt import OpenPaths
from nova_sidecar.policy.paths import Paths
from nova_sidecar.policy.rate_limit import Limit
from nova_sidecar.policy.readings import PathMatcher
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import IDEMPOTENT, Retrier

_NAMED = 8
"""Tenants that are named in a sentence."""


class Asked(Protocol):
    """What is known of the request."""

    @property
    def method(self) -> str: ...  # noqa: D102 - as in `explain.Request`
    @property
    def path(self) -> str: ...  # noqa: D102 - as above
    @property
    def grpc(self) -> bool: ...  # noqa: D102 - as above


class Step(NamedTuple):
    """One policy: its field in the document, its mode, what it would do, and its values."""

    policy: str
    mode: str
    does: tuple[str, ...]
    values: Any


def steps(config: ProxyConfig, port: Inbound | Outbound, request: Asked) -> Iterator[Step]:
    """The policies that see a request of a port, first to last."""
    yield _correlation(config)
    yield _tracing(config)
    yield _self_protection(config, request)
    if isinstance(port, Inbound) and port.protocol == "websocket":
        yield _web_socket(config)
    yield _timeout(port, request)
    if isinstance(port, Inbound):
        if port.protocol != "grpc":
            yield _affinity(config.affinity)
        yield _rate_limit(config.rate_limit, request)
        yield _jwt(config.jwt, request)
        yield _tenancy(config.tenancy, request)
        if port.protocol != "grpc":
            yield _idempotency(config, request)
            yield _cache(config.cache, request)
            yield _coalescing(config.coalescing, request)
        yield _pool_guard(config.pool_guard, request)
        yield _backpressure(config.backpressure, request)
    else:
        yield _breaker(port, request)
    yield _pool(port)
    if isinstance(port, Outbound):
        if port.tls is not None:
            yield _tls(port.tls)
        yield _retry(port, request)
        yield _fallback(port.fallback, request)
    yield _access_log(config)


def relayed(config: ProxyConfig, port: Inbound | Outbound) -> Iterator[Step]:
    """The policies that see a connection of a TCP port: it knows no requests, and its only refusal is a reset."""
    protection, limits = config.self_protection, config.tcp
    yield Step(
        "selfProtection",
        protection.mode,
        _off(
            protection.mode,
            f"Closed at once beyond {protection.max_connections} connections of the whole sidecar, or where "
            f"{protection.max_descriptors} of the descriptors are in use.",
        ),
        protection,
    )
    yield Step(
        "tcp",
        "Enforce",
        (f"Reset beyond {limits.max_connections} connections; silence may last {limits.idle_timeout}.",),
        limits,
    )
    if isinstance(port, Outbound):
        yield _relayed_breaker(port)
    yield Step("timeout", "Enforce", (f"A connection must be there within {port.timeout.connect}.",), port.timeout)
    if isinstance(port, Outbound) and port.tls is not None:
        yield _tls(port.tls)
    yield _access_log(config)


def _relayed_breaker(port: Outbound) -> Step:
    policy = port.circuit_breaker
    if policy.mode == "ForcedOpen":
        return Step("circuitBreaker", policy.mode, ("Resets every connection.",), policy)
    step = _off(
        policy.mode,
        f"Reset while open. It opens {_opens(policy)}, for {policy.open_duration}; a failure is a connection that "
        "could not be made.",
    )
    return Step("circuitBreaker", policy.mode, step, policy)


def _affinity(policy: Affinity | None) -> Step:
    if policy is None:
        return Step("affinity", "Off", _off("Off"), None)
    cookie = policy.cookie.name
    does = [f"Handed over where a valid cookie {cookie} names another pod of the service that is there."]
    if policy.store is not None:
        does = [
            f"Handed over where the session that a valid cookie {cookie} names is bound to another pod in the store."
        ]
    if not policy.siblings:
        does = ["Always served here: this sidecar knows no siblings."]
    does.append(f"Else served here, and {cookie} is set to name this pod for {policy.timeout}.")
    return Step("affinity", "Redis" if policy.store is not None else "Cookie", tuple(does), policy)


def _cache(policy: CachePolicy, request: Asked) -> Step:
    covered = any(
        request.path == one or (one.endswith("*") and request.path.startswith(one[:-1])) for one in policy.paths
    )
    graphql = policy.graphql
    if (
        graphql.mode != "Off"
        and request.path.rstrip("/") == graphql.path.rstrip("/")
        and request.method in ("GET", "POST")
    ):
        does = (
            f"GraphQL: refused beyond the limits ({graphql.limits.mode}); answers to queries are kept by the class "
            f"of their operation: PUBLIC {graphql.ttl.public}, USER_DATA {graphql.ttl.user_data}, SEARCH "
            f"{graphql.ttl.search}."
        )
    elif not covered:
        does = f"Passes: no path of the policy covers {request.path}."
    elif request.method in ("GET", "HEAD"):
        where = " here or in Redis" if policy.tier == "Redis" else ""
        does = (
            f"Answered with a stored response{where} while that is fresh; else the app's is stored where it allows it."
        )
    elif request.method in ("OPTIONS", "TRACE"):
        does = f"Passes: responses to {request.method} are not stored."
    else:
        does = f"Passes; where the app accepts it, what is stored about {request.path} is forgotten."
    return Step("cache", policy.mode, _off(policy.mode, does), policy)


def _coalescing(policy: CoalescingPolicy, request: Asked) -> Step:
    if request.method not in ("GET", "HEAD"):
        return Step("coalescing", policy.mode, _off(policy.mode, f"Not shared: {request.method} is not safe."), policy)
    besides = f" but for {', '.join(policy.ignored_headers)}" if policy.ignored_headers else ""
    does = _off(
        policy.mode,
        f"Waits where a request with the same target and headers{besides} is under way, and gets its response; after "
        f"{policy.patience} without one, one of those who wait goes to the app as well.",
    )
    return Step("coalescing", policy.mode, does, policy)


def _jwt(policy: Jwt | None, request: Asked) -> Step:
    if policy is None:
        return Step("jwt", "Off", _off("Off"), None)
    if OpenPaths(policy.open_paths).has(request.path):
        does: tuple[str, ...] = ("The path is open: no token is needed, and the app is told of none.",)
    else:
        issuers = ", ".join(issuer.issuer for issuer in policy.issuers)
        headers = ", ".join(one.header for one in policy.claim_headers)
        does = _off(
            policy.mode,
            f"Refused ({_answer(Reason.UNAUTHENTICATED, request)}) without a valid token of {issuers} in "
            f"{policy.source.header}{f' or the cookie {policy.source.cookie}' if policy.source.cookie else ''}.",
            *([f"The app gets its claims as {headers}."] if headers else []),
        )
    guarded = [one.header for one in policy.claim_headers]
    return Step(
        "jwt", policy.mode, (*does, *([f"What comes as {', '.join(guarded)} is removed."] if guarded else [])), policy
    )


def _tls(policy: Tls) -> Step:
    return Step("tls", "Enforce", (f"The upstream must prove that it is {policy.server_name}.",), policy)


def _answer(reason: Reason, request: Asked) -> str:
    """How a refusal is answered: HTTP status or gRPC code, and the reason that is in ``x-nova-reject``."""
    refusal = REFUSALS[reason]
    return f"gRPC status {refusal.code}, {reason}" if request.grpc else f"{refusal.status}, {reason}"


def _off(mode: str, *sentences: str) -> tuple[str, ...]:
    """What a policy does by its mode; in Shadow it only counts."""
    if mode == "Off":
        return ("Does nothing.",)
    if mode == "Shadow":
        return ("Counts what it would do, and lets everything pass:", *sentences)
    return sentences


def _correlation(config: ProxyConfig) -> Step:
    policy = config.correlation
    return Step(
        "correlation",
        policy.mode,
        _off(policy.mode, f"{policy.header} is taken over where it is harmless, else made; it goes on and comes back."),
        policy,
    )


def _tracing(config: ProxyConfig) -> Step:
    policy = config.tracing
    if policy.mode == "Off":
        return Step("tracing", "Off", ("traceparent and tracestate go on as they came.",), policy)
    return Step(
        "tracing",
        policy.mode,
        (
            "With a traceparent its caller's decision is followed; "
            f"without one {policy.sample} of the requests are sampled.",
            f"Spans go to {policy.endpoint}.",
        ),
        policy,
    )


def _self_protection(config: ProxyConfig, request: Asked) -> Step:
    policy = config.self_protection
    return Step(
        "selfProtection",
        policy.mode,
        _off(
            policy.mode,
            f"Refused ({_answer(Reason.SIDECAR_OVERLOADED, request)}) while the event loop comes round more than "
            f"{policy.max_loop_lag} late or memory is above {policy.max_memory}.",
        ),
        policy,
    )


def _idempotency(config: ProxyConfig, request: Asked) -> Step:
    policy = config.idempotency
    if policy.mode == "Off":
        return Step("idempotency", "Off", _off("Off"), policy)
    if request.method not in policy.methods:
        return Step("idempotency", policy.mode, (f"Passes: {request.method} is none of methods.",), policy)
    required = PathMatcher(policy.required_paths).matches(request.path)
    without = f"Without an Idempotency-Key refused ({_answer(Reason.IDEMPOTENCY_KEY_INVALID, request)})."
    known = "this sidecar has" if config.store is None else "the sidecars of the service have"
    does = [
        without if required else "Without an Idempotency-Key it passes.",
        f"With one that {known} seen from the same caller within {policy.keep_for} it gets the first answer, or waits "
        f"{policy.wait} for it (then {_answer(Reason.IDEMPOTENCY_CONFLICT, request)}).",
        f"Another request under the same key is refused ({_answer(Reason.IDEMPOTENCY_MISMATCH, request)}).",
    ]
    if config.store is not None and policy.on_store_loss == "Refuse":
        does.append(f"While the store is lost, one with a key is refused ({_answer(Reason.STORE_LOST, request)}).")
    return Step("idempotency", policy.mode, _off(policy.mode, *does), policy)


def _pool_guard(policy: PoolGuardPolicy, request: Asked) -> Step:
    if policy.paths and request.path not in Paths(policy.paths):
        return Step("poolGuard", policy.mode, _off(policy.mode, "Passes: the path is none of paths."), policy)
    full = f"Refused ({_answer(Reason.DATABASE_SATURATED, request)}) while the app reports that more than "
    step = _off(policy.mode, f"{full}{policy.threshold:.0%} of a database pool is in use.")
    if policy.threshold == 1 and policy.mode != "Off":
        step = ("Lets everything pass: a threshold of 1 switches early rejection off.",)
    return Step("poolGuard", policy.mode, step, policy)


def _web_socket(config: ProxyConfig) -> Step:
    policy = config.web_socket
    return Step(
        "webSocket",
        "Enforce",
        (f"An upgrade is refused beyond {policy.max_connections} open ones; silence may last {policy.idle_timeout}.",),
        policy,
    )


def _timeout(port: Inbound | Outbound, request: Asked) -> Step:
    policy = port.timeout
    attempt = min(policy.attempt, policy.request, key=float)
    return Step(
        "timeout",
        "Enforce",
        (
            f"The response head must be there within {policy.request} ({_answer(Reason.DEADLINE_EXCEEDED, request)}), "
            "or sooner where x-nova-deadline-ms or grpc-timeout says so; what is left goes on.",
            f"One attempt has {attempt} ({_answer(Reason.ATTEMPT_TIMEOUT, request)}), a connection {policy.connect}; "
            f"a body may be silent for {policy.stream_idle}.",
        ),
        policy,
    )


def _rate_limit(policy: RateLimitPolicy, request: Asked) -> Step:
    does = []
    for each in policy.limits:
        limit = Limit(each, 1)
        if not limit.matches(request.method, request.path):
            continue
        counted = {
            "Client": "client",
            "Header": f"value of {each.header}",
            "Claim": f"value of the claim {each.claim}",
            "All": "service",
        }[each.by]
        where = " in all pods together" if each.scope == "Global" else ""
        does.append(
            f"{each.name}: {each.rate} in {each.period} for each {counted}{where}, {limit.quota.burst} at once "
            f"({_answer(Reason.RATE_LIMITED, request)})."
        )
    return Step("rateLimit", policy.mode, _off(policy.mode, *(does or ["No limit is for it."])), policy)


def _tenancy(policy: TenancyPolicy, request: Asked) -> Step:
    where = {
        "Claim": f"the claim {policy.claim}",
        "Header": policy.header,
        "Path": f"segment {policy.segment} of the path",
    }[policy.by]
    unknown = {
        "Each": "has the default quota",
        "Shared": "shares the default quota with all such",
        "Refuse": f"is refused ({_answer(Reason.TENANT_UNKNOWN, request)})",
    }[policy.unknown]
    names = ", ".join(tenant.name for tenant in policy.tenants[:_NAMED]) or "none"
    more = f" and {len(policy.tenants) - _NAMED} more" if len(policy.tenants) > _NAMED else ""
    quota = policy.default
    parts = [f"{quota.max_concurrency} requests under way"] if quota.max_concurrency is not None else []
    parts += [f"{quota.max_share} of the places"] if quota.max_share is not None else []
    parts += [f"{quota.rate} requests in {quota.period}"] if quota.rate is not None else []
    return Step(
        "tenancy",
        policy.mode,
        _off(
            policy.mode,
            f"Its tenant is named by {where}; known by name: {names}{more}. Another one {unknown}.",
            f"The default quota: {', '.join(parts) or 'no bound'}; "
            f"beyond it {_answer(Reason.TENANT_LIMIT, request)} or {Reason.RATE_LIMITED}.",
        ),
        policy,
    )


def _backpressure(policy: BackpressurePolicy, request: Asked) -> Step:
    places = policy.max_concurrency
    if policy.threshold < 1:
        refused = _answer(Reason.OVERLOADED, request)
        full = f"Refused at once ({refused}) above {policy.threshold:.0%} of {places} requests in flight."
    else:
        full = (
            f"With {places} requests in flight it waits up to {policy.acquire_timeout} "
            f"({_answer(Reason.ACQUIRE_TIMEOUT, request)}), behind at most {policy.max_queue} others "
            f"({_answer(Reason.QUEUE_FULL, request)})."
        )
    parts = [full]
    if policy.adaptive.mode != "Off":
        parts.append(f"The limit follows latency, from {policy.adaptive.min_concurrency} up ({policy.adaptive.mode}).")
    if policy.priority.mode != "Off":
        parts.append(
            f"{policy.priority.header}: sheddable is refused above {policy.priority.sheddable} "
            f"({policy.priority.mode})."
        )
    return Step("backpressure", policy.mode, _off(policy.mode, *parts), policy)


def _breaker(port: Outbound, request: Asked) -> Step:
    policy = port.circuit_breaker
    if policy.mode == "ForcedOpen":
        return Step(
            "circuitBreaker",
            policy.mode,
            (f"Refuses every request ({_answer(Reason.CIRCUIT_OPEN, request)}).",),
            policy,
        )
    failures = policy.failure_codes if request.grpc else policy.failure_statuses
    return Step(
        "circuitBreaker",
        policy.mode,
        _off(
            policy.mode,
            f"Refused ({_answer(Reason.CIRCUIT_OPEN, request)}) while open. It opens {_opens(policy)}, "
            f"for {policy.open_duration} (up to {policy.max_open_duration} when probes fail); "
            f"{policy.success_threshold} good probes close it.",
            f"Failures are timeouts, resets, refused connections and {', '.join(failures) or 'no answer'}.",
            f"Single endpoints ({policy.endpoints.mode}): out after {policy.endpoints.failure_threshold} failures in a "
            f"row for {policy.endpoints.eject_duration}, at most {policy.endpoints.max_ejected} of them at once.",
        ),
        policy,
    )


def _opens(policy: BreakerPolicy) -> str:
    """What opens the breaker, in words."""
    opens = [f"after {policy.failure_threshold} failures in a row"] if policy.failure_threshold else []
    window = policy.window
    span = f"{window.calls} calls" if window.type == "Count" else str(window.duration)
    if window.failure_rate:
        opens.append(f"from {window.failure_rate} failures in {span} on, once there were {window.minimum_calls} calls")
    if policy.slow_call.duration:
        opens.append(f"from {policy.slow_call.rate} calls slower than {policy.slow_call.duration} on")
    return ", or ".join(opens) or "never"


def _pool(port: Inbound | Outbound) -> Step:
    policy = port.pool
    chosen = "the less busy of two endpoints" if policy.balance == "LeastRequest" else "the next endpoint in turn"
    renewed = f"renewed after {policy.max_age}" if policy.max_age else "never renewed for their age"
    where = f"Goes to {chosen}, over" if isinstance(port, Outbound) else "Goes to the app over"
    most = policy.grpc_connections if port.protocol == "grpc" else policy.size
    return Step(
        "pool",
        "Enforce",
        (f"{where} one of at most {most} connections, {renewed} and closed when idle for {policy.idle_timeout}.",),
        policy,
    )


def _retry(port: Outbound, request: Asked) -> Step:
    policy = port.retry
    if policy.mode == "Off" or policy.attempts < 2:
        return Step("retry", policy.mode, ("Not repeated: retries are off.",), policy)
    listed = Retrier(policy, Random(0)).listed(request.path)  # noqa: S311 - no wait is drawn from it
    when = ", ".join(policy.when)
    if listed:
        why = f"Repeated on {when}: idempotentPaths lists {request.path}."
    elif request.grpc or request.method.encode() not in IDEMPOTENT:
        what = "a gRPC call" if request.grpc else request.method
        why = (
            f"Repeated on connect-failure alone: {what} may act twice. An Idempotency-Key, or its path in "
            f"idempotentPaths, would let it be repeated on {when}."
        )
    else:
        why = f"Repeated on {when}: {request.method} is idempotent (RFC 9110 section 9.2.2)."
    return Step(
        "retry",
        policy.mode,
        _off(
            policy.mode,
            why,
            f"At most {policy.attempts} attempts, after waits of up to {policy.backoff.base}, doubling to "
            f"{policy.backoff.max}; retries are at most {policy.budget} of the requests of 10s, "
            f"{policy.min_per_second} a second always.",
            f"A body above {policy.max_body_bytes} bytes is sent once.",
        ),
        policy,
    )


def _fallback(policy: FallbackPolicy, request: Asked) -> Step:
    answers = []
    safe = request.method in {"GET", "HEAD"} and not request.grpc
    if policy.stale_for and safe:
        answers.append(f"the last good answer, up to {policy.stale_for} old")
    if policy.body and safe:
        answers.append(f"a fixed one ({policy.status}, {policy.content_type}, {len(policy.body)} characters)")
    said = f"When the upstream has failed for good: {', else '.join(answers) or 'nothing but the error'}."
    return Step("fallback", policy.mode, _off(policy.mode, said), policy)


def _access_log(config: ProxyConfig) -> Step:
    policy = config.access_log
    said = {
        "Off": "No line.",
        "Errors": "A line if it is refused, breaks off or ends in 5xx.",
        "All": "A line." if policy.sample >= 1 else f"A line for {policy.sample} of them, and for every error.",
    }
    return Step("accessLog", policy.mode, (said[policy.mode],), policy)
