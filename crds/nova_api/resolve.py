"""From what people write to what a sidecar runs: a pure function, the same in the operator and in `nova dev`."""

from typing import Final, Literal
from urllib.parse import urlsplit

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.exposure import ServicePort
from nova_api.model import M, Override
from nova_api.policies import RedisStore, TimeoutPolicy
from nova_api.proxy import (
    Address,
    Admin,
    Affinity,
    DrainPolicy,
    Inbound,
    Jwt,
    Outbound,
    ProxyConfig,
    SessionCookie,
    Store,
    Tls,
)
from nova_api.redis_url import place
from nova_api.request_policies.jwt import Jwk, JwtIssuer
from nova_api.units import Duration
from nova_api.upstream import Upstream
from nova_api.v1alpha1 import NovaService, NovaServiceSpec, counts_globally, knows_clients, tells_of_tokens

Place = Literal["pod", "local"]

_LONGEST_LABEL: Final = 63
"""Characters between two dots of a host name (RFC 1035 section 2.3.4)."""
_COORDINATE: Final = {"P-256": 43, "P-384": 64, "P-521": 88, "Ed25519": 43}
"""Characters of a coordinate in base64url, by curve."""


def resolve(service: NovaService, place: Place = "pod") -> ProxyConfig:
    """The proxy document of a service.

    `place` is where the sidecar runs: in a ``pod`` it listens on its own ports behind the Service; ``local`` is a
    developer's machine, where it listens on each port itself, on loopback only, and names are the machine's own.
    Raises ConfigError for what passes the schema but cannot work.
    """
    spec = service.spec
    addresses = upstream_addresses(service)
    local = place == "local"
    return ProxyConfig(
        service=service.metadata.name,
        namespace=service.metadata.namespace,
        inbound=tuple(_inbound(service, index, local=local) for index in range(len(spec.ports))),
        outbound=tuple(
            _outbound(service, index, addresses[upstream.host], local=local)
            for index, upstream in enumerate(spec.upstreams)
        ),
        backpressure=spec.backpressure,
        affinity=_affinity(service, local=local),
        store=_store(spec.redis, "$.spec.redis", local=local) if spec.redis is not None else None,
        cache=spec.cache,
        coalescing=spec.coalescing,
        idempotency=spec.idempotency,
        pool_guard=spec.pool_guard,
        rate_limit=spec.rate_limit,
        tenancy=spec.tenancy,
        pods=1 if local else _pods(spec),
        correlation=spec.correlation,
        access_log=spec.access_log,
        web_socket=spec.web_socket,
        tcp=spec.tcp,
        tracing=spec.tracing,
        self_protection=spec.self_protection,
        jwt=_jwt(service, local=local),
        log_level=spec.sidecar.log_level,
        resolver="system" if local else "dns",
        admin=_local_admin() if local else Admin(),
        drain=_drain(service, local=local),
    )


def upstream_addresses(service: NovaService) -> dict[str, str]:
    """Loopback address of each upstream host. One per host, not per upstream: a host name can only point to one."""
    hosts = dict.fromkeys(upstream.host for upstream in service.spec.upstreams)
    return {host: names.upstream_address(index) for index, host in enumerate(hosts)}


def app_port(port: ServicePort) -> int:
    """Port the app listens on."""
    return port.app_port or port.port


def refuse_reserved(port: int, path: str) -> None:
    """Raises ConfigError, naming the field at `path`, for a port that the sidecar keeps for itself in a pod."""
    kept = names.RESERVED_PORTS
    if port in kept:
        raise ConfigError(path, f"expected a port outside {kept[0]}-{kept[-1]}, which the sidecar keeps, got {port}")


def _inbound(service: NovaService, index: int, *, local: bool) -> Inbound:
    spec = service.spec
    port = spec.ports[index]
    path = f"$.spec.ports[{index}].appPort"
    if local and app_port(port) == port.port:
        raise ConfigError(path, f"expected another port than {port.port}, which the sidecar itself listens on here")
    if not local:
        refuse_reserved(app_port(port), path)
    listen = Address(host="127.0.0.1", port=port.port) if local else _pod_address(names.inbound_port(index))
    return Inbound(
        name=port.name,
        protocol=port.protocol,
        listen=listen,
        app=Address(host="127.0.0.1", port=app_port(port)),
        timeout=TimeoutPolicy(request=spec.timeout, attempt=spec.timeout, stream_idle=spec.stream_idle_timeout),
        pool=spec.pool,
    )


def _outbound(service: NovaService, index: int, listen: str, *, local: bool) -> Outbound:
    spec = service.spec
    upstream = spec.upstreams[index]
    path = f"$.spec.upstreams[{index}]"
    return Outbound(
        name=upstream.name,
        protocol=upstream.protocol,
        listen=Address(host=listen, port=upstream.port),
        upstream=Address(host=upstream.host, port=upstream.port),
        endpoints=_endpoints(upstream, path, local=local),
        tls=_tls(upstream),
        timeout=_upstream_timeout(upstream),
        circuit_breaker=_over(upstream.circuit_breaker, spec.circuit_breaker, f"{path}.circuitBreaker"),
        retry=_over(upstream.retry, spec.retry, f"{path}.retry"),
        fallback=upstream.fallback,
        pool=_over(upstream.pool, spec.pool, f"{path}.pool"),
    )


def _endpoints(upstream: Upstream, path: str, *, local: bool) -> Address | None:
    """The headless Service of the NovaService that the host is, where its pods are to be told apart."""
    if upstream.discovery == "Service" or local:
        return None
    first, dot, rest = upstream.host.partition(".")
    name = names.endpoints(first)
    if len(name) > _LONGEST_LABEL:
        raise ConfigError(
            f"{path}.host", f"expected a first label of at most {_LONGEST_LABEL - len(name) + len(first)} characters"
        )
    return Address(host=f"{name}{dot}{rest}", port=upstream.pod_port)


def _affinity(service: NovaService, *, local: bool) -> Affinity | None:
    """ClientIP is the Service's own affair; on a developer's machine there are no siblings, and the cookie is all."""
    spec = service.spec.session_affinity
    if not knows_clients(service.spec):
        return None
    cookie, metadata = spec.cookie, service.metadata
    stored = spec.type == "Redis" and not local
    return Affinity(
        timeout=spec.timeout,
        cookie=SessionCookie(
            name=cookie.name,
            path=cookie.path,
            same_site=cookie.same_site,
            secure=cookie.secure,
            directory="" if local else names.SESSION_DIRECTORY,
        ),
        siblings="" if local else f"{names.endpoints(metadata.name)}.{metadata.namespace}.svc",
        store=(
            _store(spec.redis, "$.spec.sessionAffinity.redis", local=local)
            if spec.redis is not None and stored
            else None
        ),
    )


def _pods(spec: NovaServiceSpec) -> int:
    """The pods there are at least, where a global rate must be divided among them; else nothing depends on it, and a
    service that is scaled keeps its document."""
    if not counts_globally(spec):
        return 1
    return max(1, spec.autoscaling.min_replicas if spec.autoscaling is not None else spec.replicas)


def _store(redis: RedisStore, path: str, *, local: bool) -> Store:
    try:
        place(redis.url)
    except ValueError as error:
        raise ConfigError(f"{path}.url", str(error)) from error
    directory = f"{names.STORE_DIRECTORY}/{redis.secret}" if redis.secret and not local else ""
    return Store(url=redis.url, directory=directory, timeout=redis.timeout)


def _jwt(service: NovaService, *, local: bool) -> Jwt | None:
    policy = service.spec.jwt
    if policy is None or policy.mode == "Off":
        return None
    for index, issuer in enumerate(policy.issuers):
        _refuse_unreachable(issuer, f"$.spec.jwt.issuers[{index}].jwksUrl")
        for number, key in enumerate(issuer.keys):
            _refuse_cut_short(key, f"$.spec.jwt.issuers[{index}].keys[{number}]")
    return Jwt(
        **{name: getattr(policy, name) for name in type(policy).__struct_fields__},
        directories=tuple(f"{names.TLS_DIRECTORY}/{one.secret}" if one.secret else "" for one in policy.issuers),
        key_directory=names.SESSION_DIRECTORY if tells_of_tokens(service.spec) and not local else "",
    )


def _refuse_unreachable(issuer: JwtIssuer, path: str) -> None:
    if issuer.jwks_url is None:
        return
    try:
        url = urlsplit(issuer.jwks_url)
        usable = bool(url.hostname) and url.username is None and (url.port is None or url.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(path, "expected a host, and perhaps a port from 1 to 65535, after http:// or https://")


def _refuse_cut_short(key: Jwk, path: str) -> None:
    """Coordinates have all the octets of their curve (RFC 7518 section 6.2.1.2, RFC 8037 section 2); a key with others
    verifies nothing, so every token would be refused."""
    for name, value in (("x", key.x), ("y", key.y)):
        if key.crv is not None and value is not None and len(value) != _COORDINATE[key.crv]:
            raise ConfigError(f"{path}.{name}", f"expected {_COORDINATE[key.crv]} characters, as {key.crv} has them")


def _upstream_timeout(upstream: Upstream) -> TimeoutPolicy:
    return TimeoutPolicy(
        request=upstream.timeout,
        attempt=upstream.attempt_timeout,
        connect=upstream.connect_timeout,
        stream_idle=upstream.stream_idle_timeout,
    )


def _tls(upstream: Upstream) -> Tls | None:
    if upstream.tls is None:
        return None
    directory = f"{names.TLS_DIRECTORY}/{upstream.tls.secret}" if upstream.tls.secret else ""
    return Tls(server_name=upstream.tls.server_name or upstream.host, directory=directory)


def _over(override: Override[M] | None, base: M, path: str) -> M:
    if override is None:
        return base
    try:
        return override.over(base)
    except ConfigError as error:
        raise error.below(path) from error


def _drain(service: NovaService, *, local: bool) -> DrainPolicy:
    shutdown = service.spec.shutdown
    if local:
        return DrainPolicy(delay=Duration(0), timeout=shutdown.grace_period)
    remaining = shutdown.grace_period - shutdown.pre_stop  # at least DRAIN_RESERVE, by a rule of Shutdown
    return DrainPolicy(delay=shutdown.pre_stop, timeout=Duration(remaining - names.EXIT_RESERVE))


def _pod_address(port: int) -> Address:
    return Address(host="0.0.0.0", port=port)  # noqa: S104 - the Service reaches the pod's address


def _local_admin() -> Admin:
    loopback = Address(host="127.0.0.1", port=0)
    return Admin(status=loopback, control=loopback)
