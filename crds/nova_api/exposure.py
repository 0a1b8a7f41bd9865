"""How a service is reached: its ports, session affinity, ingress and gateway, and who may speak to it."""

from typing import Annotated, Literal

from msgspec import Meta, field

from nova_api import patterns
from nova_api.forms import Host, KubernetesObject, Labels, Path, Port, PortName, SecretName
from nova_api.model import Model, Rule
from nova_api.policies import RedisStore
from nova_api.units import Duration


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


class AffinityCookie(Model, frozen=True, kw_only=True):
    """The cookie that names a pod. It is signed, and says nothing about the pod to whoever has no key."""

    name: Annotated[str, Meta(pattern=patterns.COOKIE, max_length=64)] = "nova-session"
    """Name of the cookie."""

    path: Path = "/"
    """Path for which browsers send it."""

    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    """Whether browsers send it with requests from other sites."""

    secure: bool = False
    """Whether browsers send it by TLS only."""

    secret: SecretName | None = None
    """Secret whose key `key` holds at least 32 bytes to sign with; when left out the operator makes one."""

    rules = (
        Rule(
            cel="self.sameSite != 'None' || self.secure",
            message="sameSite None needs secure: browsers refuse it otherwise",
            holds=lambda s: s.same_site != "None" or s.secure,
        ),
    )


class SessionAffinity(Model, frozen=True, kw_only=True):
    """Sends a client to the pod it has been at."""

    type: Literal["None", "ClientIP", "Cookie", "Redis"] = "None"
    """None. ClientIP: the Service remembers the client's address. Cookie: a signed cookie names the pod, and a sidecar
    that gets another pod's client hands the request over; what `ingress` and `gateway` make keeps clients at their pod
    by a cookie of its own, `<name>-edge`. Redis: as Cookie, and the cookie names a session whose pod stands in
    Redis."""

    timeout: Duration = Duration(10800)
    """How long a client is remembered; at most 24h with ClientIP (Kubernetes:
    sessionAffinityConfig.clientIP.timeoutSeconds)."""

    cookie: AffinityCookie = AffinityCookie()
    """The cookie of Cookie and Redis."""

    redis: RedisStore | None = None
    """Where Redis is."""

    rules = (
        Rule(
            cel="duration(self.timeout) >= duration('1s')"
            " && (self.type != 'ClientIP' || duration(self.timeout) <= duration('24h'))",
            message="timeout must be at least 1s, and at most 24h with ClientIP",
            holds=lambda s: s.timeout >= 1 and (s.type != "ClientIP" or s.timeout <= 86_400),
        ),
        Rule(
            cel="self.type != 'Redis' || has(self.redis)",
            message="type Redis needs redis, at least its url",
            holds=lambda s: s.type != "Redis" or s.redis is not None,
        ),
    )


class Ingress(Model, frozen=True, kw_only=True):
    """An Ingress. With Cookie or Redis affinity it has the annotations by which its controller keeps clients at their
    pod."""

    class_name: SecretName | None = None
    """IngressClass; the cluster's default when left out."""

    controller: Literal["nginx", "traefik", "haproxy"] | None = None
    """Whose annotations to write; by className when left out, and none where that names none of them."""

    host: Host | None = None
    """Host of the requests; every host when left out."""

    path: Path = "/"
    """Prefix of the paths."""

    port: PortName | None = None
    """Name of the service's port; its first one when left out."""

    tls_secret: SecretName | None = None
    """Secret with the certificate of the host."""

    annotations: Labels = field(default_factory=dict)
    """Annotations beside those that Nova sets; they win."""


class Gateway(Model, frozen=True, kw_only=True):
    """An HTTPRoute of the Gateway API, where the cluster has it; with Cookie or Redis affinity its session persistence,
    where the cluster has that too (the experimental channel)."""

    parent_refs: Annotated[tuple[KubernetesObject, ...], Meta(min_length=1, max_length=8)]
    """Gateways the route attaches to, as in an HTTPRoute."""

    hostnames: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...], Meta(max_length=16)] = ()
    """Hosts of the requests; every host when left out."""

    path: Path = "/"
    """Prefix of the paths."""

    port: PortName | None = None
    """Name of the service's port; its first one when left out."""


class NetworkPolicy(Model, frozen=True, kw_only=True):
    """Who may speak to the pods, and to whom they may: generated from ports and upstreams. A host such as `auth` or
    `auth.identity.svc` opens its namespace, another one its port anywhere; two labels alone may be either and open
    both."""

    mode: Literal["Off", "Enforce"] = "Off"
    """Off: no NetworkPolicy. Enforce: what is not allowed below is refused, where the cluster's network knows
    policies."""

    allow_from: Annotated[tuple[KubernetesObject, ...], Meta(max_length=64)] = ()
    """Peers that may reach the service's ports, as in a NetworkPolicy; everybody when left out."""

    allow_to: Annotated[tuple[KubernetesObject, ...], Meta(max_length=64)] = ()
    """Peers that the pods may reach on every port, beside DNS, the upstreams, the collector of spans and Redis, as in a
    NetworkPolicy. The API server is not among those."""


class Monitoring(Model, frozen=True, kw_only=True):
    """A PodMonitor, where the cluster has the Prometheus operator."""

    mode: Literal["Auto", "Off"] = "Auto"
    """Auto: where the kind exists. Off: none, and a NetworkPolicy lets the operator alone ask for metrics."""

    interval: Duration = Duration(30)
    """Time between two scrapes."""

    labels: Labels = field(default_factory=dict)
    """Labels by which a Prometheus finds it."""

    rules = (
        Rule(
            cel="duration(self.interval) >= duration('1s')",
            message="interval must be at least 1s",
            holds=lambda s: s.interval >= 1,
        ),
    )
