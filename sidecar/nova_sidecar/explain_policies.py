"""What each policy would do for one request, in words. One function per policy; `steps` is their order."""

from collections.abc import Iterator
from random import Random

from nova_api.policies import BackpressurePolicy, BreakerPolicy, FallbackPolicy
from nova_api.proxy import Affinity, Inbound, Outbound, ProxyConfig, Tls
from nova_sidecar import explain_request_policies as request_policies
from nova_sidecar.explain_step import Asked, Step, answer, by_mode
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.retry import IDEMPOTENT, Retrier


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
        yield request_policies.rate_limit(config.rate_limit, request)
        yield request_policies.jwt(config.jwt, request)
        yield request_policies.tenancy(config.tenancy, request)
        if port.protocol != "grpc":
            yield request_policies.idempotency(config, request)
            yield request_policies.cache(config.cache, request)
            yield request_policies.coalescing(config.coalescing, request)
        yield request_policies.pool_guard(config.pool_guard, request)
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
        by_mode(
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
    step = by_mode(
        policy.mode,
        f"Reset while open. It opens {_opens(policy)}, for {policy.open_duration}; a failure is a connection that "
        "could not be made.",
    )
    return Step("circuitBreaker", policy.mode, step, policy)


def _affinity(policy: Affinity | None) -> Step:
    if policy is None:
        return Step("affinity", "Off", by_mode("Off"), None)
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


def _tls(policy: Tls) -> Step:
    return Step("tls", "Enforce", (f"The upstream must prove that it is {policy.server_name}.",), policy)


def _correlation(config: ProxyConfig) -> Step:
    policy = config.correlation
    return Step(
        "correlation",
        policy.mode,
        by_mode(
            policy.mode, f"{policy.header} is taken over where it is harmless, else made; it goes on and comes back."
        ),
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
        by_mode(
            policy.mode,
            f"Refused ({answer(Reason.SIDECAR_OVERLOADED, request)}) while the event loop comes round more than "
            f"{policy.max_loop_lag} late or memory is above {policy.max_memory}.",
        ),
        policy,
    )


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
            f"The response head must be there within {policy.request} ({answer(Reason.DEADLINE_EXCEEDED, request)}), "
            "or sooner where x-nova-deadline-ms or grpc-timeout says so; what is left goes on.",
            f"One attempt has {attempt} ({answer(Reason.ATTEMPT_TIMEOUT, request)}), a connection {policy.connect}; "
            f"a body may be silent for {policy.stream_idle}.",
        ),
        policy,
    )


def _backpressure(policy: BackpressurePolicy, request: Asked) -> Step:
    places = policy.max_concurrency
    if policy.threshold < 1:
        refused = answer(Reason.OVERLOADED, request)
        full = f"Refused at once ({refused}) above {policy.threshold:.0%} of {places} requests in flight."
    else:
        full = (
            f"With {places} requests in flight it waits up to {policy.acquire_timeout} "
            f"({answer(Reason.ACQUIRE_TIMEOUT, request)}), behind at most {policy.max_queue} others "
            f"({answer(Reason.QUEUE_FULL, request)})."
        )
    parts = [full]
    if policy.adaptive.mode != "Off":
        parts.append(f"The limit follows latency, from {policy.adaptive.min_concurrency} up ({policy.adaptive.mode}).")
    if policy.priority.mode != "Off":
        parts.append(
            f"{policy.priority.header}: sheddable is refused above {policy.priority.sheddable} "
            f"({policy.priority.mode})."
        )
    return Step("backpressure", policy.mode, by_mode(policy.mode, *parts), policy)


def _breaker(port: Outbound, request: Asked) -> Step:
    policy = port.circuit_breaker
    if policy.mode == "ForcedOpen":
        return Step(
            "circuitBreaker",
            policy.mode,
            (f"Refuses every request ({answer(Reason.CIRCUIT_OPEN, request)}).",),
            policy,
        )
    failures = policy.failure_codes if request.grpc else policy.failure_statuses
    return Step(
        "circuitBreaker",
        policy.mode,
        by_mode(
            policy.mode,
            f"Refused ({answer(Reason.CIRCUIT_OPEN, request)}) while open. It opens {_opens(policy)}, "
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
        by_mode(
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
    return Step("fallback", policy.mode, by_mode(policy.mode, said), policy)


def _access_log(config: ProxyConfig) -> Step:
    policy = config.access_log
    said = {
        "Off": "No line.",
        "Errors": "A line if it is refused, breaks off or ends in 5xx.",
        "All": "A line." if policy.sample >= 1 else f"A line for {policy.sample} of them, and for every error.",
    }
    return Step("accessLog", policy.mode, (said[policy.mode],), policy)
