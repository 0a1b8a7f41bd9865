"""NovaService as people write it: API group ``nova.dev``, version ``v1alpha1``.

The smallest useful one is an image and a port. The text under a field becomes its description in the CRD.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from nova_api import names
from nova_api.database import DatabasePolicy
from nova_api.exposure import Gateway, Ingress, Monitoring, NetworkPolicy, ServicePort, SessionAffinity
from nova_api.forms import KubernetesObject, Name, ServiceName
from nova_api.model import Model, Rule, stored, unique
from nova_api.policies import (
    AccessLogPolicy,
    BackpressurePolicy,
    BreakerPolicy,
    CorrelationPolicy,
    PoolPolicy,
    RedisStore,
    RetryPolicy,
    SelfProtectionPolicy,
    TcpPolicy,
    TracingPolicy,
    WebSocketPolicy,
)
from nova_api.request_policies.cache import CachePolicy
from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.request_policies.jwt import JwtPolicy, JwtSource
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.request_policies.rate_limit import RateLimitPolicy
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_api.rollout import Rollout
from nova_api.units import Duration
from nova_api.upstream import Upstream
from nova_api.workload import (
    Autoscaling,
    EnvVar,
    PodDisruptionBudget,
    PodTemplate,
    ResourceRequirements,
    ServiceAccount,
    Shutdown,
    Sidecar,
    TopologySpread,
    WorkloadRef,
)

GROUP: Final = "nova.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "NovaService"
PLURAL: Final = "novaservices"

_PRE_STOP: Final = stored(Shutdown, "pre_stop", at="self.shutdown")
_GRACE_PERIOD: Final = stored(Shutdown, "grace_period", at="self.shutdown")
_SPREAD: Final = stored(WebSocketPolicy, "spread", at="self.webSocket")
_CORRELATION_HEADER: Final = stored(CorrelationPolicy, "header", at="self.correlation")
_TOKEN_HEADER: Final = stored(JwtSource, "header", at="self.jwt.source")
_BACKPRESSURE_MODE: Final = stored(BackpressurePolicy, "mode", at="self.backpressure")
_MAX_CONCURRENCY: Final = stored(BackpressurePolicy, "max_concurrency", at="self.backpressure")
_THRESHOLD: Final = stored(BackpressurePolicy, "threshold", at="self.backpressure")
"""Fields of sections that may have been left out, as rules across sections read them."""


class NovaServiceSpec(Model, frozen=True, kw_only=True):
    """A service of the backend and the protections around it."""

    image: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    """Image of the app container. Of image, template and workloadRef a service has one."""

    template: PodTemplate | None = None
    """A whole pod in place of image and the fields of its container."""

    workload_ref: WorkloadRef | None = None
    """A Deployment that is there already, in place of one that the operator makes."""

    app_container: Name | None = None
    """Container of template or workloadRef that is the app; when left out its only one, or the one named app."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """As in a Pod; Kubernetes chooses when left out."""

    command: tuple[str, ...] = ()
    """Entrypoint, in place of the image's."""

    args: tuple[str, ...] = ()
    """Arguments, in place of the image's."""

    env: Annotated[tuple[EnvVar, ...], Meta(max_length=512)] = ()
    """Environment of the app container."""

    resources: ResourceRequirements = ResourceRequirements()
    """Requests and limits of the app container."""

    readiness_probe: KubernetesObject | None = None
    """As in a Pod; it reaches the app container directly."""

    liveness_probe: KubernetesObject | None = None
    """As in a Pod; it reaches the app container directly."""

    replicas: Annotated[int, Meta(ge=0, le=10_000)] = 1
    """Number of pods; left to others with autoscaling or workloadRef."""

    autoscaling: Autoscaling | None = None
    """A HorizontalPodAutoscaler."""

    topology_spread: TopologySpread = TopologySpread()
    """Spreads the pods over nodes and zones."""

    ports: Annotated[tuple[ServicePort, ...], Meta(min_length=1, max_length=16)]
    """Ports of the Service."""

    session_affinity: SessionAffinity = SessionAffinity()
    """Sends a client to the pod it has been at."""

    shutdown: Shutdown = Shutdown()
    """How a pod leaves."""

    timeout: Duration = Duration(30)
    """Whole budget of a request to the app until its response head arrives, waiting for a place included."""

    stream_idle_timeout: Duration = Duration(30)
    """Longest silence while a body is under way in either direction; websocket ports are exempt after the upgrade."""

    backpressure: BackpressurePolicy = BackpressurePolicy()
    """Bounds the requests in flight to the app."""

    rate_limit: RateLimitPolicy = RateLimitPolicy()
    """How many requests in a time each client, key or subject may make."""

    tenancy: TenancyPolicy = TenancyPolicy()
    """How much of the service one tenant may have."""

    circuit_breaker: BreakerPolicy = BreakerPolicy()
    """Breaker of every upstream that does not say otherwise."""

    retry: RetryPolicy = RetryPolicy()
    """Retries to every upstream that does not say otherwise."""

    pool: PoolPolicy = PoolPolicy()
    """Connections to the app and to every upstream that does not say otherwise."""

    correlation: CorrelationPolicy = CorrelationPolicy()
    """One id per request, passed on and logged."""

    access_log: AccessLogPolicy = AccessLogPolicy()
    """One JSON line per request."""

    web_socket: WebSocketPolicy = WebSocketPolicy()
    """Upgraded connections."""

    tcp: TcpPolicy = TcpPolicy()
    """Relayed TCP connections."""

    tracing: TracingPolicy = TracingPolicy()
    """Spans of requests, exported by OTLP."""

    self_protection: SelfProtectionPolicy = SelfProtectionPolicy()
    """Sheds load before the sidecar itself gives up."""

    redis: RedisStore | None = None
    """A Redis in which the sidecars share what request policies know: results, counts, answers. Without it each sidecar
    has its own."""

    cache: CachePolicy = CachePolicy()
    """Keeps responses of the app that allow it, and answers from them."""

    coalescing: CoalescingPolicy = CoalescingPolicy()
    """Lets identical GET and HEAD requests that are under way at once share one call to the app."""

    idempotency: IdempotencyPolicy = IdempotencyPolicy()
    """Lets requests that carry an Idempotency-Key take effect once."""

    pool_guard: PoolGuardPolicy = PoolGuardPolicy()
    """Refuses requests while a database pool of the app is full."""

    jwt: JwtPolicy | None = None
    """Only requests with a valid token reach the app, and it is told who sends them."""

    upstreams: Annotated[tuple[Upstream, ...], Meta(max_length=64)] = ()
    """Services that the app calls."""

    database: DatabasePolicy | None = None
    """A PostgreSQL, and what has to be so in it before new pods start."""

    ingress: Ingress | None = None
    """An Ingress to the service."""

    gateway: Gateway | None = None
    """An HTTPRoute to the service."""

    network_policy: NetworkPolicy = NetworkPolicy()
    """Who may speak to the pods, and to whom they may."""

    rollout: Rollout = Rollout()
    """How a changed pod template comes into force."""

    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()
    """How many pods a voluntary disruption may take at once."""

    service_account: ServiceAccount = ServiceAccount()
    """The identity of the pods."""

    monitoring: Monitoring = Monitoring()
    """A PodMonitor."""

    sidecar: Sidecar = Sidecar()
    """The sidecar container itself."""

    rules = (
        Rule(
            cel="[has(self.image), has(self.template), has(self.workloadRef)].exists_one(given, given)",
            message="exactly one of image, template and workloadRef must be set",
            holds=lambda s: [s.image, s.template, s.workload_ref].count(None) == 2,
        ),
        Rule(
            cel="has(self.image) || !(has(self.readinessProbe) || has(self.livenessProbe) || has(self.imagePullPolicy)"
            " || (has(self.command) && size(self.command) > 0) || (has(self.args) && size(self.args) > 0)"
            " || (has(self.env) && size(self.env) > 0))",
            message="imagePullPolicy, command, args, env, readinessProbe and livenessProbe go with image alone;"
            " with template or workloadRef they stand in the pod itself",
            holds=lambda s: s.image is not None or not _has_container_fields(s),
        ),
        Rule(
            cel="!has(self.workloadRef) || !has(self.rollout) || self.rollout.strategy == 'Rolling'",
            message="rollout.strategy Canary is for services whose Deployment the operator makes, not for workloadRef",
            holds=lambda s: s.workload_ref is None or s.rollout.strategy == "Rolling",
        ),
        Rule(
            cel="!has(self.workloadRef) || !has(self.database)",
            message="database is for services whose Deployment the operator makes, not for workloadRef: another one's"
            " rollout cannot be made to wait",
            holds=lambda s: s.workload_ref is None or s.database is None,
        ),
        Rule(
            cel="!has(self.rollout) || self.rollout.strategy == 'Rolling' || self.rollout.weights != 'HTTPRoute'"
            " || has(self.gateway)",
            message="rollout.weights HTTPRoute needs gateway",
            holds=lambda s: (
                s.rollout.strategy == "Rolling" or s.rollout.weights != "HTTPRoute" or s.gateway is not None
            ),
        ),
        unique("env: names must be unique", "name", of="env"),
        unique("ports: names must be unique", "name", of="ports"),
        unique(
            "ports: port numbers must be unique",
            "port",
            of="ports",
            cel="self.ports.all(p, self.ports.exists_one(q, q.port == p.port))",
        ),
        unique("upstreams: names must be unique", "name", of="upstreams"),
        unique(
            "upstreams: the pair of host and port must be unique",
            "host",
            "port",
            of="upstreams",
            cel="!has(self.upstreams)"
            " || self.upstreams.all(u, self.upstreams.exists_one(v, v.host == u.host && v.port == u.port))",
        ),
        Rule(
            cel="!self.ports.exists(p, p.protocol == 'websocket')"
            f" || duration({_PRE_STOP}) + duration({_SPREAD}) + duration('{names.DRAIN_RESERVE}')"
            f" <= duration({_GRACE_PERIOD})",
            message=f"shutdown.gracePeriod must be at least preStop + webSocket.spread + {names.DRAIN_RESERVE}"
            " where a port has the protocol websocket, so that every connection can be closed in good order",
            holds=lambda s: (
                s.shutdown.pre_stop + closes_within(s) + names.DRAIN_RESERVE <= s.shutdown.grace_period
            ),  # without such a port this is the rule of Shutdown
        ),
        Rule(
            cel="!has(self.jwt) || !has(self.jwt.claimHeaders)"
            f" || self.jwt.claimHeaders.all(c, c.header != {_CORRELATION_HEADER})",
            message="jwt.claimHeaders: a claim cannot come in the header of the correlation id",
            holds=lambda s: s.jwt is None or all(one.header != s.correlation.header for one in s.jwt.claim_headers),
        ),
        Rule(
            cel="!has(self.tenancy) || self.tenancy.mode == 'Off' || self.tenancy.by != 'Header'"
            " || !has(self.jwt) || self.jwt.mode == 'Off' || !has(self.jwt.claimHeaders)"
            " || self.jwt.claimHeaders.all(c, c.header != self.tenancy.header)",
            message="tenancy.header: cannot be one of jwt.claimHeaders, which no caller can set; use by: Claim",
            holds=lambda s: trusts_its_tenants(s),  # noqa: PLW0108 - it stands below
        ),
        Rule(
            cel="!has(self.rateLimit) || self.rateLimit.mode == 'Off' || !has(self.rateLimit.limits)"
            " || !has(self.jwt) || self.jwt.mode == 'Off' || !has(self.jwt.claimHeaders)"
            " || self.rateLimit.limits.all(l, !has(l.header)"
            " || self.jwt.claimHeaders.all(c, c.header != l.header))",
            message="rateLimit.limits: header cannot be one of jwt.claimHeaders, which no caller can set; use by:"
            " Claim",
            holds=lambda s: counts_by_callers_words(s),  # noqa: PLW0108 - it stands below
        ),
        Rule(
            cel="!has(self.coalescing) || self.coalescing.mode == 'Off' || !has(self.coalescing.ignoredHeaders)"
            " || !has(self.jwt) || self.jwt.mode == 'Off'"
            f" || self.coalescing.ignoredHeaders.all(h, h != {_TOKEN_HEADER}"
            " && (!has(self.jwt.claimHeaders) || self.jwt.claimHeaders.all(c, c.header != h)))",
            message="coalescing.ignoredHeaders: cannot name jwt.source.header or one of jwt.claimHeaders, by which"
            " callers are told apart",
            holds=lambda s: tells_callers_apart(s),  # noqa: PLW0108 - it stands below
        ),
        Rule(
            cel="duration(self.timeout) > duration('0s') && duration(self.streamIdleTimeout) > duration('0s')",
            message="timeout and streamIdleTimeout must be longer than 0s",
            holds=lambda s: min(s.timeout, s.stream_idle_timeout) > 0,
        ),
        Rule(
            cel="has(self.redis) || ((!has(self.rateLimit) || self.rateLimit.mode == 'Off'"
            " || !has(self.rateLimit.limits) || self.rateLimit.limits.all(l, l.scope == 'Local'))"
            " && (!has(self.tenancy) || self.tenancy.mode == 'Off' || self.tenancy.scope == 'Local'))",
            message="rateLimit.limits and tenancy: scope Global needs redis, in which all pods count together",
            holds=lambda s: s.redis is not None or not counts_globally(s),
        ),
        Rule(
            cel="!has(self.tenancy) || self.tenancy.mode == 'Off' || self.tenancy.overcommit"
            f" || {_BACKPRESSURE_MODE} == 'Off' || !has(self.tenancy.tenants)"
            " || double(self.tenancy.tenants.map(t, has(t.maxConcurrency) ? t.maxConcurrency : 0).sum())"
            f" <= double({_MAX_CONCURRENCY}) * {_THRESHOLD} + 0.000001",
            message="tenancy.tenants: the maxConcurrency of all of them must not be more than backpressure lets in at"
            " once (maxConcurrency x threshold), or they promise what is not there; overcommit allows it",
            holds=lambda s: quotas_fit(s),  # noqa: PLW0108 - it stands below
        ),
    )


def counts_globally(spec: NovaServiceSpec) -> bool:
    """Whether a rate is counted by all pods together."""
    limits, tenancy = spec.rate_limit, spec.tenancy
    return (limits.mode != "Off" and any(limit.scope == "Global" for limit in limits.limits)) or (
        tenancy.mode != "Off" and tenancy.scope == "Global"
    )


def claim_headers(spec: NovaServiceSpec) -> frozenset[str]:
    """Headers of requests to the app that the sidecar alone sets."""
    jwt = spec.jwt
    return frozenset(one.header for one in jwt.claim_headers) if jwt is not None and jwt.mode != "Off" else frozenset()


def trusts_its_tenants(spec: NovaServiceSpec) -> bool:
    """Whether the tenant's header, where one is read, is not one that the sidecar sets itself."""
    tenancy = spec.tenancy
    return tenancy.mode == "Off" or tenancy.by != "Header" or tenancy.header not in claim_headers(spec)


def counts_by_callers_words(spec: NovaServiceSpec) -> bool:
    """Whether no rate is counted by a header that callers cannot set."""
    limits = spec.rate_limit
    return limits.mode == "Off" or claim_headers(spec).isdisjoint(limit.header for limit in limits.limits)


def tells_callers_apart(spec: NovaServiceSpec) -> bool:
    """Whether requests that differ in whose they are never count as identical."""
    coalescing, jwt = spec.coalescing, spec.jwt
    if coalescing.mode == "Off" or jwt is None or jwt.mode == "Off":
        return True
    return (claim_headers(spec) | {jwt.source.header}).isdisjoint(coalescing.ignored_headers)


def quotas_fit(spec: NovaServiceSpec) -> bool:
    """Whether the quotas of named tenants can all be used at once."""
    tenancy, backpressure = spec.tenancy, spec.backpressure
    if tenancy.mode == "Off" or tenancy.overcommit or backpressure.mode == "Off":
        return True
    promised = sum(tenant.max_concurrency or 0 for tenant in tenancy.tenants)
    return promised <= backpressure.max_concurrency * backpressure.threshold + 1e-6


def closes_within(spec: NovaServiceSpec) -> float:
    """Seconds over which the closes of WebSockets are spread when a pod leaves; 0 for a service that has none."""
    return spec.web_socket.spread if any(port.protocol == "websocket" for port in spec.ports) else 0.0


def knows_clients(spec: NovaServiceSpec) -> bool:
    """Whether the sidecars know clients again by a signed cookie, and hand them over to each other: for the sake of
    their pod, or of the version that they got of a canary."""
    sticky = spec.rollout.strategy == "Canary" and spec.rollout.sticky
    return sticky or spec.session_affinity.type in ("Cookie", "Redis")


def tells_of_tokens(spec: NovaServiceSpec) -> bool:
    """Whether the sidecars tell each other by Redis, signed, which tokens they have verified."""
    jwt = spec.jwt
    return jwt is not None and jwt.mode != "Off" and jwt.cache.redis != "Off" and spec.redis is not None


def signs(spec: NovaServiceSpec) -> bool:
    """Whether the sidecars sign anything, and so need a key that only they have."""
    return knows_clients(spec) or tells_of_tokens(spec)


def _has_container_fields(spec: NovaServiceSpec) -> bool:
    given = (
        spec.image_pull_policy, spec.command, spec.args, spec.env, spec.readiness_probe, spec.liveness_probe,
    )  # fmt: skip
    return any(given)


class ObjectMeta(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The metadata that Nova reads; everything else in it is the API server's business."""

    name: ServiceName
    """Name of the service and of its children."""

    namespace: str = "default"
    """Namespace of the service and of its children."""

    uid: str = ""
    """Given by the API server."""

    generation: int = 0
    """Counted up by the API server with each change of the spec."""

    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    """Of them `nova.dev/retry` is read: another value has the database's Job run once more."""


class NovaService(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One service: what `kubectl apply` takes."""

    api_version: Literal["nova.dev/v1alpha1"]
    kind: Literal["NovaService"]
    metadata: ObjectMeta
    spec: NovaServiceSpec
    status: dict[str, Any] | None = None
