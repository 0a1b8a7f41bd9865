"""The document a sidecar runs: every value resolved, nothing inherited, nothing optional.

The operator writes it into a ConfigMap and the sidecar mounts it; its hash proves that both speak of the same bytes.
"""

import hashlib
from typing import Annotated, Final, Literal

from msgspec import Meta

from nova_api import names, patterns
from nova_api.forms import Name
from nova_api.model import Model, decode_json, encode_json, unique
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
    TimeoutPolicy,
    TracingPolicy,
    WebSocketPolicy,
)
from nova_api.request_policies.cache import CachePolicy
from nova_api.request_policies.coalescing import CoalescingPolicy
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_api.request_policies.jwt import JwtPolicy
from nova_api.request_policies.pool_guard import PoolGuardPolicy
from nova_api.request_policies.rate_limit import RateLimitPolicy
from nova_api.request_policies.tenancy import TenancyPolicy
from nova_api.units import Duration

FORMAT: Final = "nova.dev/proxy/v1alpha1"

HostOrAddress = Annotated[str, Meta(pattern=patterns.ADDRESS, max_length=253)]
ListenPort = Annotated[int, Meta(ge=0, le=65535)]  # 0: any free port, for tests


class Address(Model, frozen=True, kw_only=True):
    """Where to listen or connect: an IP address or a host name, and a port."""

    host: HostOrAddress
    port: ListenPort


class Inbound(Model, frozen=True, kw_only=True):
    """A listener for traffic to the app."""

    name: Name
    protocol: Literal["http", "websocket", "grpc", "tcp"] = "http"
    listen: Address
    app: Address
    timeout: TimeoutPolicy = TimeoutPolicy()
    pool: PoolPolicy = PoolPolicy()


class Tls(Model, frozen=True, kw_only=True):
    """TLS to an upstream. `directory` may hold ca.crt, and tls.crt with tls.key for a client certificate; they are read
    again when they change. Without ca.crt the machine's own authorities count; without a directory ("") all of it."""

    server_name: HostOrAddress
    directory: str = ""


class Canary(Model, frozen=True, kw_only=True):
    """Where an upstream has its canary, and the share of the requests that it gets, in percent."""

    address: Address
    weight: Annotated[int, Meta(ge=1, le=100)]


class Outbound(Model, frozen=True, kw_only=True):
    """A listener for traffic from the app to one upstream."""

    name: Name
    protocol: Literal["http", "grpc", "tcp"] = "http"
    listen: Address
    upstream: Address
    endpoints: Address | None = None
    """Where its pods are found one by one; None: at `upstream`, which is always the name that the app uses."""
    canary: Canary | None = None
    """A new version of it that is being tried; None: there is none."""
    tls: Tls | None = None
    timeout: TimeoutPolicy = TimeoutPolicy()
    circuit_breaker: BreakerPolicy = BreakerPolicy()
    retry: RetryPolicy = RetryPolicy()
    fallback: FallbackPolicy = FallbackPolicy()
    pool: PoolPolicy = PoolPolicy()


class SessionCookie(Model, frozen=True, kw_only=True):
    """The cookie that names a pod. `directory` holds the file `key` with what signs it; it is read again when it
    changes. Without a directory ("") the sidecar makes a key of its own, which no other one knows."""

    name: str
    path: str
    same_site: Literal["Lax", "Strict", "None"]
    secure: bool
    directory: str = ""


class Store(Model, frozen=True, kw_only=True):
    """A Redis that policies keep state in. `directory` may hold the files username, password and ca.crt; they are read
    again when they change. Without a directory ("") it asks for none of them."""

    url: str
    directory: str = ""
    timeout: Duration


class Affinity(Model, frozen=True, kw_only=True):
    """Keeps clients at their pod. `siblings` is the host name under which all pods of the service are found, "" where
    there is only this one; each listens on the port that the request came to."""

    timeout: Duration
    cookie: SessionCookie
    siblings: Annotated[str, Meta(max_length=253)] = ""
    store: Store | None = None
    """Where sessions stand; None: the cookie names the pod itself."""


class Jwt(JwtPolicy, frozen=True, kw_only=True):
    """Who may come in. `directories` hold, for each issuer, what the host of its keys is known by, "" for the machine's
    own authorities; `key_directory` the file `key`, with what sidecars sign for each other in the store, "" where they
    tell each other nothing."""

    directories: tuple[str, ...]
    key_directory: str = ""


class Admin(Model, frozen=True, kw_only=True):
    """Two admin surfaces: `status` is read-only and reachable in the cluster (probes, metrics, hash); `control` can
    drain and shows the configuration, and stays on loopback."""

    status: Address = Address(host="0.0.0.0", port=names.STATUS_PORT)  # noqa: S104 - the kubelet probes the pod's address
    control: Address = Address(host="127.0.0.1", port=names.CONTROL_PORT)


class DrainPolicy(Model, frozen=True, kw_only=True):
    """How the sidecar leaves."""

    delay: Duration = Duration(10)
    """How long it goes on accepting after drain began, so that callers learn the pod is leaving."""

    timeout: Duration = Duration(30)
    """Longest wait, after the delay, for requests in flight."""


class ProxyConfig(Model, frozen=True, kw_only=True):
    """Everything one sidecar does."""

    format: Literal["nova.dev/proxy/v1alpha1"] = FORMAT
    service: str
    namespace: str = "default"
    inbound: tuple[Inbound, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    backpressure: BackpressurePolicy = BackpressurePolicy()
    affinity: Affinity | None = None
    store: Store | None = None
    """Where request policies share what they know; None: each sidecar has its own."""
    cache: CachePolicy = CachePolicy()
    coalescing: CoalescingPolicy = CoalescingPolicy()
    idempotency: IdempotencyPolicy = IdempotencyPolicy()
    pool_guard: PoolGuardPolicy = PoolGuardPolicy()
    rate_limit: RateLimitPolicy = RateLimitPolicy()
    tenancy: TenancyPolicy = TenancyPolicy()
    pods: Annotated[int, Meta(ge=1)] = 1
    """Pods among which global rates are divided while the store does not answer."""
    correlation: CorrelationPolicy = CorrelationPolicy()
    access_log: AccessLogPolicy = AccessLogPolicy()
    web_socket: WebSocketPolicy = WebSocketPolicy()
    tcp: TcpPolicy = TcpPolicy()
    tracing: TracingPolicy = TracingPolicy()
    self_protection: SelfProtectionPolicy = SelfProtectionPolicy()
    jwt: Jwt | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    resolver: Literal["dns", "system"] = "dns"
    """dns: the name servers of /etc/resolv.conf, never /etc/hosts, which points upstreams back at the sidecar.
    system: the machine's own resolver, for `nova dev`."""
    admin: Admin = Admin()
    drain: DrainPolicy = DrainPolicy()

    rules = (
        unique("inbound: names must be unique", "name", of="inbound"),
        unique("outbound: names must be unique", "name", of="outbound"),
    )


def decode(text: bytes) -> ProxyConfig:
    """Decode and check a document. Raises ConfigError (``$.path: expected …``)."""
    return decode_json(text, ProxyConfig)


def encode(config: ProxyConfig) -> bytes:
    """The document as the operator writes it; equal configurations give equal bytes."""
    return encode_json(config)


def digest(text: bytes) -> str:
    """Short hash of a document's bytes, 16 hexadecimal digits; what operator and sidecars compare."""
    return hashlib.sha256(text).hexdigest()[:16]
