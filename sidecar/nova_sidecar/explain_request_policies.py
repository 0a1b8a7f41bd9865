"""What each request policy would do for one request, in words; the order is that of `explain_policies.steps`."""

from typing import Final

from nova_api.proxy import Jwt, ProxyConfig
from nova_api.request_policies.cache import CachePolicy
from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.request_policies.rate_limit import RateLimitPolicy
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_sidecar.explain_step import Asked, Step, answer, by_mode
from nova_sidecar.policy.jwt import OpenPaths
from nova_sidecar.policy.paths import Paths
from nova_sidecar.policy.rate_limit import Limit
from nova_sidecar.policy.readings import PathMatcher
from nova_sidecar.policy.reasons import Reason

_NAMED: Final = 8
"""Tenants that are named in a sentence."""


def rate_limit(policy: RateLimitPolicy, request: Asked) -> Step:
    """Which limits it counts for."""
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
            f"({answer(Reason.RATE_LIMITED, request)})."
        )
    return Step("rateLimit", policy.mode, by_mode(policy.mode, *(does or ["No limit is for it."])), policy)


def jwt(policy: Jwt | None, request: Asked) -> Step:
    """Whether it needs a token, and what the app is told of it."""
    if policy is None:
        return Step("jwt", "Off", by_mode("Off"), None)
    if OpenPaths(policy.open_paths).has(request.path):
        does: tuple[str, ...] = ("The path is open: no token is needed, and the app is told of none.",)
    else:
        issuers = ", ".join(issuer.issuer for issuer in policy.issuers)
        headers = ", ".join(one.header for one in policy.claim_headers)
        does = by_mode(
            policy.mode,
            f"Refused ({answer(Reason.UNAUTHENTICATED, request)}) without a valid token of {issuers} in "
            f"{policy.source.header}{f' or the cookie {policy.source.cookie}' if policy.source.cookie else ''}.",
            *([f"The app gets its claims as {headers}."] if headers else []),
        )
    guarded = [one.header for one in policy.claim_headers]
    return Step(
        "jwt", policy.mode, (*does, *([f"What comes as {', '.join(guarded)} is removed."] if guarded else [])), policy
    )


def tenancy(policy: TenancyPolicy, request: Asked) -> Step:
    """How its tenant is found, and what a tenant may have."""
    where = {
        "Claim": f"the claim {policy.claim}",
        "Header": policy.header,
        "Path": f"segment {policy.segment} of the path",
    }[policy.by]
    unknown = {
        "Each": "has the default quota",
        "Shared": "shares the default quota with all such",
        "Refuse": f"is refused ({answer(Reason.TENANT_UNKNOWN, request)})",
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
        by_mode(
            policy.mode,
            f"Its tenant is named by {where}; known by name: {names}{more}. Another one {unknown}.",
            f"The default quota: {', '.join(parts) or 'no bound'}; "
            f"beyond it {answer(Reason.TENANT_LIMIT, request)} or {Reason.RATE_LIMITED}.",
        ),
        policy,
    )


def idempotency(config: ProxyConfig, request: Asked) -> Step:
    """What becomes of it with a key, and without one."""
    policy = config.idempotency
    if policy.mode == "Off":
        return Step("idempotency", "Off", by_mode("Off"), policy)
    if request.method not in policy.methods:
        return Step("idempotency", policy.mode, (f"Passes: {request.method} is none of methods.",), policy)
    required = PathMatcher(policy.required_paths).matches(request.path)
    without = f"Without an Idempotency-Key refused ({answer(Reason.IDEMPOTENCY_KEY_INVALID, request)})."
    known = "this sidecar has" if config.store is None else "the sidecars of the service have"
    does = [
        without if required else "Without an Idempotency-Key it passes.",
        f"With one that {known} seen from the same caller within {policy.keep_for} it gets the first answer, or waits "
        f"{policy.wait} for it (then {answer(Reason.IDEMPOTENCY_CONFLICT, request)}).",
        f"Another request under the same key is refused ({answer(Reason.IDEMPOTENCY_MISMATCH, request)}).",
    ]
    if config.store is not None and policy.on_store_loss == "Refuse":
        does.append(f"While the store is lost, one with a key is refused ({answer(Reason.STORE_LOST, request)}).")
    return Step("idempotency", policy.mode, by_mode(policy.mode, *does), policy)


def cache(policy: CachePolicy, request: Asked) -> Step:
    """Whether a stored response may answer it."""
    covered = request.path in Paths(policy.paths)
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
    return Step("cache", policy.mode, by_mode(policy.mode, does), policy)


def coalescing(policy: CoalescingPolicy, request: Asked) -> Step:
    """Whether it shares another one's call."""
    if request.method not in ("GET", "HEAD"):
        return Step(
            "coalescing", policy.mode, by_mode(policy.mode, f"Not shared: {request.method} is not safe."), policy
        )
    besides = f" but for {', '.join(policy.ignored_headers)}" if policy.ignored_headers else ""
    does = by_mode(
        policy.mode,
        f"Waits where a request with the same target and headers{besides} is under way, and gets its response; after "
        f"{policy.patience} without one, one of those who wait goes to the app as well.",
    )
    return Step("coalescing", policy.mode, does, policy)


def pool_guard(policy: PoolGuardPolicy, request: Asked) -> Step:
    """Whether a full database pool refuses it."""
    if policy.paths and request.path not in Paths(policy.paths):
        return Step("poolGuard", policy.mode, by_mode(policy.mode, "Passes: the path is none of paths."), policy)
    full = f"Refused ({answer(Reason.DATABASE_SATURATED, request)}) while the app reports that more than "
    step = by_mode(policy.mode, f"{full}{policy.threshold:.0%} of a database pool is in use.")
    if policy.threshold == 1 and policy.mode != "Off":
        step = ("Lets everything pass: a threshold of 1 switches early rejection off.",)
    return Step("poolGuard", policy.mode, step, policy)
