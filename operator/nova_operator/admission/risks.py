"""What is allowed and yet is likely to be regretted. Pure: `nova render` tells it as well as the webhook.

A warning is for what somebody probably did not mean; each says what happens and which field changes that. What every
small service does (one replica, no ingress) is no reason for one: who is always warned does not read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final
from urllib.parse import urlsplit

from nova_api.policies import BreakerPolicy, RetryPolicy
from nova_api.proxy import Outbound
from nova_api.request_policies.jwt import ANY
from nova_api.resolve import resolve
from nova_api.v1alpha1 import NovaService, NovaServiceSpec, closes_within
from nova_operator.desired.autoscaler import autoscaling_warnings
from nova_operator.desired.defaults import Platform
from nova_operator.desired.effect import edge_warnings
from nova_operator.desired.pod_warnings import workload_warnings

_EVERY_PATH: Final = ("*", "/*")
_IN_CLUSTER: Final = (".svc", ".svc.cluster.local")


def warnings(service: NovaService, missing: Collection[str] = (), platform: Platform | None = None) -> tuple[str, ...]:
    """What to tell whoever wrote a service, each on one line and at most 256 characters.

    `missing` are the hosts of upstreams that are known not to exist in the cluster; `platform` is what its API server
    can do, a recent one when left out. Raises ConfigError for a service that `nova_operator.desired` refuses.
    """
    found = [warning for rule in _RULES for warning in rule(service.spec)]
    found += [*autoscaling_warnings(service), *edge_warnings(service)]
    found += workload_warnings(service, None, platform or Platform())
    outbound = resolve(service).outbound
    found += [warning for rule in _UPSTREAM_RULES for upstream in outbound for warning in rule(upstream)]
    found += [
        f"upstreams[{upstream.name}].host: the cluster has no Service {upstream.host} yet; calls fail until then"
        for upstream in service.spec.upstreams
        if upstream.host in missing
    ]
    return tuple(dict.fromkeys(found))


def services_called(service: NovaService) -> dict[str, tuple[str, str]]:
    """The upstream hosts that can only be Services of the cluster: namespace and name by host. Two labels may be a
    name of the internet as well, so they are left out."""
    found = {}
    for upstream in service.spec.upstreams:
        host = upstream.host
        labels = host.removesuffix(".cluster.local").removesuffix(".svc").split(".")
        if len(labels) == 1:
            found[host] = (service.metadata.namespace, labels[0])
        elif len(labels) == 2 and host.endswith(_IN_CLUSTER):
            found[host] = (labels[1], labels[0])
    return found


def _single_replica(spec: NovaServiceSpec) -> Iterator[str]:
    exposed = spec.ingress is not None or spec.gateway is not None
    if spec.workload_ref is not None:
        return
    if spec.autoscaling is not None:
        if spec.autoscaling.min_replicas == 1:
            yield "autoscaling.minReplicas: with 1 pod a node drain or a crash stops the service; 2 or more do not"
    elif spec.replicas == 1 and exposed:
        yield (
            "replicas: with 1 pod there is no PodDisruptionBudget, and a node drain or a crash stops a service that is"
            " reached from outside; 2 or more do not"
        )


def _budget_of_all(spec: NovaServiceSpec) -> Iterator[str]:
    replicas = spec.autoscaling.min_replicas if spec.autoscaling else spec.replicas
    budget = spec.pod_disruption_budget
    if spec.workload_ref is None and budget.mode == "Auto" and 2 <= replicas <= budget.max_unavailable:
        yield f"podDisruptionBudget.maxUnavailable: {budget.max_unavailable} of {replicas} pods may be taken at once"


def _moving_image(spec: NovaServiceSpec) -> Iterator[str]:
    """https://kubernetes.io/docs/concepts/containers/images/#image-names"""
    if spec.image is None or "@" in spec.image:
        return
    _, _, tag = spec.image.rpartition("/")[2].partition(":")
    if tag in {"", "latest"}:
        yield "image: without a tag or a digest, or with latest, pods of one service may run different versions"


def _short_grace(spec: NovaServiceSpec) -> Iterator[str]:
    shutdown = spec.shutdown
    left = shutdown.grace_period - shutdown.pre_stop - closes_within(spec)
    if left < spec.timeout / 2:  # few requests take as long as they may
        yield (
            f"shutdown.gracePeriod: a pod that leaves has {left:g}s for its last requests, which may take"
            f" {spec.timeout} (timeout); longer ones are cut off"
        )


def _every_path_repeated(spec: NovaServiceSpec) -> Iterator[str]:
    policies = [("retry", spec.retry.idempotent_paths)]
    policies += [
        (f"upstreams[{upstream.name}].retry", upstream.retry.over(spec.retry).idempotent_paths)
        for upstream in spec.upstreams
        if upstream.retry is not None
    ]
    for where, paths in policies:
        if any(path in _EVERY_PATH for path in paths):
            yield f"{where}.idempotentPaths: every path is said to be safe to repeat, so a POST may be done twice"


def _client_address(spec: NovaServiceSpec) -> Iterator[str]:
    if spec.session_affinity.type == "ClientIP" and (spec.ingress is not None or spec.gateway is not None):
        yield (
            "sessionAffinity.type: ClientIP sees the address of the ingress or gateway, not the client's, and sends"
            " all to one pod; Cookie tells clients apart"
        )


def _plain_cookie(spec: NovaServiceSpec) -> Iterator[str]:
    affinity = spec.session_affinity
    if affinity.type in {"Cookie", "Redis"} and not affinity.cookie.secure:
        yield "sessionAffinity.cookie.secure: without it browsers send the cookie over plain HTTP too"


def _unbounded(spec: NovaServiceSpec) -> Iterator[str]:
    if spec.backpressure.mode == "Off":
        yield "backpressure.mode: with Off overload queues up in the app; Shadow counts what would be refused"


def _rates_that_are_passed(spec: NovaServiceSpec) -> Iterator[str]:
    policy = spec.rate_limit
    if policy.mode == "Off":
        return
    kinds = {limit.by for limit in policy.limits}
    if "Header" in kinds and not kinds & {"Client", "All"}:
        yield (
            "rateLimit.limits: by Header alone, whoever invents values of the header has a bucket for each; a limit by"
            " Client beside it bounds that"
        )
    proxies = policy.client.trusted_proxies or policy.client.trusted_cidrs
    if "Client" in kinds and not proxies and (spec.ingress is not None or spec.gateway is not None):
        yield (
            "rateLimit.client: without trustedProxies or trustedCidrs all that comes through the ingress or gateway is"
            " one client"
        )


def _claims_of_nobody(spec: NovaServiceSpec) -> Iterator[str]:
    if spec.jwt is not None and spec.jwt.mode != "Off":
        return
    limits = spec.rate_limit.limits if spec.rate_limit.mode != "Off" else ()
    for limit in limits:
        if limit.by == "Claim":
            counted = "by its client's address" if limit.missing == "Client" else "not at all"
            yield f"rateLimit.limits[{limit.name}].claim: without jwt no request has claims, and each counts {counted}"
    tenancy = spec.tenancy
    if tenancy.mode != "Off" and tenancy.by == "Claim":
        treated = "all share the default quota" if tenancy.missing == "Shared" else "all are refused"
        yield f"tenancy.claim: without jwt no request has claims, and {treated}"


def _quotas_that_promise_nothing(spec: NovaServiceSpec) -> Iterator[str]:
    policy = spec.tenancy
    if policy.mode == "Off":
        return
    if policy.default.max_concurrency is None and policy.default.max_share is None and policy.unknown != "Refuse":
        yield "tenancy.default: without maxConcurrency and maxShare a tenant that is not listed may take every place"
    if policy.by == "Header" and policy.unknown == "Each":
        yield (
            "tenancy.unknown: with Each, whoever can set the header invents names and has the default quota for each;"
            " Shared or Refuse bounds that"
        )
    if spec.backpressure.threshold < 1 and any(each.weight != 1 for each in (*policy.tenants, policy.default)):
        yield "tenancy.tenants: weights are turns of who waits, and below backpressure.threshold 1.0 nobody does"


def _shared_with_nobody(spec: NovaServiceSpec) -> Iterator[str]:
    if spec.redis is not None:
        return
    if spec.cache.mode != "Off" and spec.cache.tier == "Redis":
        yield "cache.tier: without redis there is no tier, and each pod has its own cache"
    policy = spec.idempotency
    if policy.mode == "Off":
        return
    if policy.on_store_loss == "Refuse":
        yield "idempotency.onStoreLoss: without redis there is no store to lose, so nothing is ever refused for it"
    if (spec.autoscaling.max_replicas if spec.autoscaling else spec.replicas) > 1:
        yield "idempotency: without redis a repetition that meets another pod acts again"


def _retries_without_breaker(upstream: Outbound) -> Iterator[str]:
    breaker: BreakerPolicy = upstream.circuit_breaker
    retry: RetryPolicy = upstream.retry
    repeats = upstream.protocol != "tcp" and retry.mode == "Enforce" and retry.attempts > 1
    if breaker.mode == "Off" and repeats:
        yield f"upstreams[{upstream.name}].circuitBreaker: Off while failed calls are made up to {retry.attempts} times"


def _always_open(upstream: Outbound) -> Iterator[str]:
    if upstream.circuit_breaker.mode == "ForcedOpen":
        yield f"upstreams[{upstream.name}].circuitBreaker: ForcedOpen refuses every call"


def _plain_keys(spec: NovaServiceSpec) -> Iterator[str]:
    """Whoever can answer in the issuer's place decides who comes in (RFC 7517 section 9.1)."""
    for index, issuer in enumerate(spec.jwt.issuers if spec.jwt is not None else ()):
        url = urlsplit(issuer.jwks_url or "")
        host = url.hostname or ""
        near = "." not in host or host.endswith(_IN_CLUSTER) or host.startswith("127.")
        if url.scheme == "http" and not near:
            yield (
                f"jwt.issuers[{index}].jwksUrl: over plain HTTP to a host outside of the cluster anybody on the way can"
                " put keys of their own there; https:// keeps them out"
            )


def _any_audience(spec: NovaServiceSpec) -> Iterator[str]:
    for index, issuer in enumerate(spec.jwt.issuers if spec.jwt is not None else ()):
        if ANY in issuer.audiences:
            yield f"jwt.issuers[{index}].audiences: with {ANY} a token for another service is good here, too"


def _open_to_all(spec: NovaServiceSpec) -> Iterator[str]:
    if spec.jwt is not None and any(path in _EVERY_PATH for path in spec.jwt.open_paths):
        yield "jwt.openPaths: every path is open, so no request needs a token"


def _relays_without_a_way(spec: NovaServiceSpec) -> Iterator[str]:
    """Where the database is stands in a Secret, so no rule can be made of it."""
    outbox = spec.database.outbox if spec.database is not None else None
    if outbox is None or outbox.mode == "Off" or spec.network_policy.mode == "Off":
        return
    if not spec.network_policy.allow_to and all(upstream.protocol != "tcp" for upstream in spec.upstreams):
        yield (
            "database.outbox: with networkPolicy Enforce relays reach the brokers and not the database; name it in"
            " networkPolicy.allowTo, or as an upstream of protocol tcp"
        )


_RULES: tuple[Callable[[NovaServiceSpec], Iterator[str]], ...] = (
    _single_replica,
    _budget_of_all,
    _moving_image,
    _short_grace,
    _every_path_repeated,
    _client_address,
    _plain_cookie,
    _unbounded,
    _plain_keys,
    _any_audience,
    _open_to_all,
    _rates_that_are_passed,
    _claims_of_nobody,
    _quotas_that_promise_nothing,
    _shared_with_nobody,
    _relays_without_a_way,
)
_UPSTREAM_RULES: tuple[Callable[[Outbound], Iterator[str]], ...] = (_retries_without_breaker, _always_open)
