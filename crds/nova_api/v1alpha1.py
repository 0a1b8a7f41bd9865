"""NovaService as people write it: API group ``nova.dev``, version ``v1alpha1``.

The smallest useful one is an image and a port. The text under a field becomes its description in the CRD.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, field

from nova_api import names, patterns
from nova_api.model import Model, Override, Rule, unique
from nova_api.policies import (
    AccessLogPolicy,
    BackpressurePolicy,
    BreakerPolicy,
    CorrelationPolicy,
    FallbackPolicy,
    PoolPolicy,
    RetryPolicy,
    SelfProtectionPolicy,
    TcpPolicy,
    TracingPolicy,
    WebSocketPolicy,
)
from nova_api.units import Duration

GROUP: Final = "nova.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "NovaService"
PLURAL: Final = "novaservices"

# It names a Kubernetes Service (RFC 1035 label), and `<name>-nova` and the pods' names must fit 63 characters.
ServiceName = Annotated[str, Meta(pattern=patterns.SERVICE, max_length=58)]
Name = Annotated[str, Meta(pattern=patterns.NAME, max_length=63)]
PortName = Annotated[str, Meta(pattern=patterns.NAME, max_length=15)]
Host = Annotated[str, Meta(pattern=patterns.HOST, max_length=253)]
VariableName = Annotated[str, Meta(pattern=patterns.VARIABLE, max_length=253)]  # printable ASCII without =, as in a Pod
Quantity = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=patterns.QUANTITY, max_length=32)]
Port = Annotated[int, Meta(ge=1, le=65535)]
KubernetesObject = Annotated[
    dict[str, Any], Meta(extra_json_schema={"x-kubernetes-preserve-unknown-fields": True})
]  # passed through to the pod as it is; the API server checks it there


class EnvVar(Model, frozen=True, kw_only=True):
    """An environment variable of the app container."""

    key = "name"

    name: VariableName
    """Name of the variable, unique in the container."""

    value: str | None = None
    """Literal value."""

    value_from: KubernetesObject | None = None
    """Source of the value, as in a Pod: secretKeyRef, configMapKeyRef, fieldRef or resourceFieldRef."""

    rules = (
        Rule(
            cel="!has(self.value) || !has(self.valueFrom)",
            message="value and valueFrom must not both be set",
            holds=lambda s: s.value is None or s.value_from is None,
        ),
    )


class ResourceRequirements(Model, frozen=True, kw_only=True):
    """Requests and limits, as in a Pod."""

    requests: dict[str, Quantity] = field(default_factory=dict)
    """What the scheduler reserves, such as cpu: 100m."""

    limits: dict[str, Quantity] = field(default_factory=dict)
    """What the container may use at most."""


class ServicePort(Model, frozen=True, kw_only=True):
    """A port of the Service. Traffic enters through the sidecar and goes on to the app on loopback."""

    key = "name"

    name: PortName = "http"
    """Name of the port, unique in the service."""

    protocol: Literal["http", "websocket", "grpc", "tcp"] = "http"
    """http, websocket for HTTP/1.1 with upgrades that live long, grpc for HTTP/2 without TLS (prior knowledge), or tcp
    for a plain relay."""

    port: Port
    """Port of the Service."""

    app_port: Port | None = None
    """Port the app listens on; the same as port when left out."""


class SessionAffinity(Model, frozen=True, kw_only=True):
    """Sends a client to the pod it has been at."""

    type: Literal["None", "ClientIP"] = "None"
    """None, or ClientIP: the Service remembers the client's address."""

    timeout: Duration = Duration(10800)
    """How long a client is remembered; at most 24h (Kubernetes: sessionAffinityConfig.clientIP.timeoutSeconds)."""

    rules = (
        Rule(
            cel="duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('24h')",
            message="timeout must be from 1s to 24h",
            holds=lambda s: 1 <= s.timeout <= 86_400,
        ),
    )


class Shutdown(Model, frozen=True, kw_only=True):
    """How a pod leaves: it stays reachable while endpoints are removed, finishes what it has, then ends."""

    pre_stop: Duration = Duration(10)
    """How long app and sidecar go on serving after the pod was told to end, so that callers learn of it."""

    grace_period: Duration = Duration(45)
    """Time until the pod is killed (terminationGracePeriodSeconds)."""

    rules = (
        Rule(
            cel="duration(self.gracePeriod) >= duration('1s')"
            f" && duration(self.preStop) + duration('{names.DRAIN_RESERVE}') <= duration(self.gracePeriod)",
            message=f"gracePeriod must be at least preStop + {names.DRAIN_RESERVE}, "
            "the time in which requests in flight can finish",
            holds=lambda s: s.grace_period >= 1 and s.pre_stop + names.DRAIN_RESERVE <= s.grace_period,
        ),
    )


class UpstreamTls(Model, frozen=True, kw_only=True):
    """How the sidecar knows an upstream, and how it is known to it."""

    server_name: Host | None = None
    """Name that the certificate must have, also sent as SNI; the upstream's host when left out."""

    secret: Annotated[str, Meta(pattern=patterns.DOTTED, max_length=253)] | None = None
    """Secret in the service's namespace with ca.crt, or with tls.crt and tls.key for a client certificate, or all
    three. Renewed files are taken over without a restart. Without ca.crt the image's public authorities count."""


class Upstream(Model, frozen=True, kw_only=True):
    """A service that the app calls. The app keeps the address it has; the sidecar stands in between."""

    key = "name"

    name: Name
    """Name in metrics, logs and NOVA_UPSTREAM_<NAME>_URL; unique in the service."""

    host: Host
    """Host name the app uses, such as auth-service or auth-service.identity.svc; not an address, nor localhost."""

    port: Port
    """Port the app uses."""

    protocol: Literal["http", "grpc", "tcp"] = "http"
    """http: HTTP/1.1, upgrades included. grpc: HTTP/2. tcp: a plain relay."""

    tls: UpstreamTls | None = None
    """TLS from the sidecar to the upstream; the app itself goes on speaking plainly. `{}` is enough."""

    timeout: Duration = Duration(15)
    """Whole budget of a call until its response head arrives, all attempts and waits included."""

    attempt_timeout: Duration = Duration(5)
    """Budget of one attempt until its response head arrives; never more than what is left of timeout."""

    connect_timeout: Duration = Duration(1)
    """Budget for a connection to be established."""

    stream_idle_timeout: Duration = Duration(30)
    """Longest silence while a body is under way in either direction."""

    circuit_breaker: Override[BreakerPolicy] | None = None
    """Differences from the service's circuitBreaker."""

    retry: Override[RetryPolicy] | None = None
    """Differences from the service's retry."""

    fallback: FallbackPolicy = FallbackPolicy()
    """What callers get when the upstream has failed for good. Only for http."""

    pool: Override[PoolPolicy] | None = None
    """Differences from the service's pool."""

    rules = (
        Rule(
            cel="[self.timeout, self.attemptTimeout, self.connectTimeout, self.streamIdleTimeout]"
            ".all(d, duration(d) > duration('0s'))",
            message="timeout, attemptTimeout, connectTimeout and streamIdleTimeout must be longer than 0s",
            holds=lambda s: min(s.timeout, s.attempt_timeout, s.connect_timeout, s.stream_idle_timeout) > 0,
        ),
        Rule(
            cel="self.protocol == 'http' || self.fallback.mode == 'Off'",
            message="fallback is only for the protocol http",
            holds=lambda s: s.protocol == "http" or s.fallback.mode == "Off",
        ),
    )


class PodDisruptionBudget(Model, frozen=True, kw_only=True):
    """How many pods a voluntary disruption may take at once."""

    mode: Literal["Auto", "Off"] = "Auto"
    """Auto: a budget when there are two replicas or more; with one it would block every node drain. Off: none."""

    max_unavailable: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Most pods away at once."""


class Sidecar(Model, frozen=True, kw_only=True):
    """The sidecar container itself; unset fields take the operator's values."""

    image: str | None = None
    """Another sidecar image for this service."""

    resources: ResourceRequirements | None = None
    """Other requests and limits for this service."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""


class NovaServiceSpec(Model, frozen=True, kw_only=True):
    """A service of the backend and the protections around it."""

    image: Annotated[str, Meta(min_length=1, max_length=512)]
    """Image of the app container."""

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
    """Number of pods."""

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

    upstreams: Annotated[tuple[Upstream, ...], Meta(max_length=64)] = ()
    """Services that the app calls."""

    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()
    """How many pods a voluntary disruption may take at once."""

    sidecar: Sidecar = Sidecar()
    """The sidecar container itself."""

    rules = (
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
            f" || duration(self.shutdown.preStop) + duration(self.webSocket.spread) + duration('{names.DRAIN_RESERVE}')"
            " <= duration(self.shutdown.gracePeriod)",
            message=f"shutdown.gracePeriod must be at least preStop + webSocket.spread + {names.DRAIN_RESERVE}"
            " where a port has the protocol websocket, so that every connection can be closed in good order",
            holds=lambda s: (
                s.shutdown.pre_stop + closes_within(s) + names.DRAIN_RESERVE <= s.shutdown.grace_period
            ),  # without such a port this is the rule of Shutdown
        ),
        Rule(
            cel="duration(self.timeout) > duration('0s') && duration(self.streamIdleTimeout) > duration('0s')",
            message="timeout and streamIdleTimeout must be longer than 0s",
            holds=lambda s: min(s.timeout, s.stream_idle_timeout) > 0,
        ),
    )


def closes_within(spec: NovaServiceSpec) -> float:
    """Seconds over which the closes of WebSockets are spread when a pod leaves; 0 for a service that has none."""
    return spec.web_socket.spread if any(port.protocol == "websocket" for port in spec.ports) else 0.0


class Condition(Model, frozen=True, kw_only=True):
    """A condition as in metav1.Condition."""

    key = "type"

    type: str
    """Ready, Progressing, Converged or Degraded."""

    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""

    reason: str
    """One word for programs."""

    message: str
    """A sentence for people that says what to do."""

    observed_generation: int
    """Generation of the spec it speaks of."""

    last_transition_time: str
    """When status last changed (RFC 3339)."""


class SidecarCount(Model, frozen=True, kw_only=True):
    """How many sidecars run the current configuration."""

    configured: int = 0
    """Sidecars that run it."""

    total: int = 0
    """Sidecars there are."""

    summary: str = "0/0"
    """Both, for printing."""


class NovaServiceStatus(Model, frozen=True, kw_only=True):
    """What the operator saw last."""

    observed_generation: int = 0
    """Generation of the spec that the status speaks of."""

    conditions: tuple[Condition, ...] = ()
    """Ready, Progressing, Converged and Degraded."""

    replicas: int = 0
    """Pods there are."""

    ready_replicas: int = 0
    """Pods that are ready."""

    selector: str = ""
    """Label selector of the pods, for the scale subresource."""

    config_hash: str = ""
    """Hash of the configuration the sidecars should run."""

    sidecars: SidecarCount = SidecarCount()
    """How many of them do."""

    upstreams: str = ""
    """Upstreams whose breaker is closed in every sidecar, of all, such as 2/2."""


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


class NovaService(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One service: what `kubectl apply` takes."""

    api_version: Literal["nova.dev/v1alpha1"]
    kind: Literal["NovaService"]
    metadata: ObjectMeta
    spec: NovaServiceSpec
    status: dict[str, Any] | None = None
