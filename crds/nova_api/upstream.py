"""A service that the app calls, and the protections around those calls."""

from typing import Literal

from nova_api import names
from nova_api.forms import Host, Name, Port, SecretName
from nova_api.model import Model, Override, Rule
from nova_api.policies import BreakerPolicy, FallbackPolicy, PoolPolicy, RetryPolicy
from nova_api.units import Duration


class UpstreamTls(Model, frozen=True, kw_only=True):
    """How the sidecar knows an upstream, and how it is known to it."""

    server_name: Host | None = None
    """Name that the certificate must have, also sent as SNI; the upstream's host when left out."""

    secret: SecretName | None = None
    """Secret in the service's namespace with ca.crt, or with tls.crt and tls.key for a client certificate, or all
    three. Renewed files are taken over without a restart. Without ca.crt the image's public authorities count."""


class Upstream(Model, frozen=True, kw_only=True):
    """A service that the app calls. The app keeps the address it has; the sidecar stands in between."""

    key = "name"

    name: Name
    """Name in metrics, logs and NOVA_UPSTREAM_<NAME>_URL, for gRPC also …_TARGET; unique in the service."""

    host: Host
    """Host name the app uses, such as auth-service or auth-service.identity.svc; not an address, nor localhost."""

    port: Port
    """Port the app uses."""

    protocol: Literal["http", "grpc", "tcp"] = "http"
    """http: HTTP/1.1, upgrades included. grpc: HTTP/2. tcp: a plain relay."""

    discovery: Literal["Service", "Endpoints"] = "Service"
    """Service: the host's own address. Endpoints: the host is a NovaService of this cluster, and its pods are found and
    judged one by one through its headless Service, `<name>-endpoints`."""

    pod_port: Port = names.INBOUND_PORT_BASE
    """Port of the pods with Endpoints: 15100 for the first port of that NovaService, 15101 for the second."""

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
            cel="self.protocol == 'http' || !has(self.fallback) || self.fallback.mode == 'Off'",
            message="fallback is only for the protocol http",
            holds=lambda s: s.protocol == "http" or s.fallback.mode == "Off",
        ),
    )
