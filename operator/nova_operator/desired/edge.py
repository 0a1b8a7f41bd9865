"""What stands before a service, an ingress controller or a gateway, keeps clients at their pod too: it sends them there
at once, which saves the sidecars most of the handing over.

It does so by a cookie of its own beside the sidecars', since what it writes into one only it can read; were they the
same cookie, each would overwrite the other's.

Annotations as of ingress-nginx (https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/),
Traefik (https://doc.traefik.io/traefik/reference/routing-configuration/kubernetes/ingress/), whose are read from the
Service, HAProxy Ingress (https://haproxy-ingress.github.io/docs/configuration/keys/#affinity) and the HAProxy
Technologies controller (https://github.com/haproxytech/kubernetes-ingress/blob/master/documentation/annotations.md);
the last two share a class name and ignore each other's.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from nova_api.errors import ConfigError
from nova_api.exposure import ServicePort
from nova_api.v1alpha1 import NovaService
from nova_operator.desired.metadata import Manifest

Controller = Literal["nginx", "traefik", "haproxy"]

_CONTROLLERS: Final[tuple[Controller, ...]] = ("nginx", "traefik", "haproxy")
_NGINX: Final = "nginx.ingress.kubernetes.io"
_NGINX_BY_PROTOCOL: Final[dict[str, dict[str, str]]] = {
    "grpc": {f"{_NGINX}/backend-protocol": "GRPC"},
    "websocket": {f"{_NGINX}/proxy-read-timeout": "3600", f"{_NGINX}/proxy-send-timeout": "3600"},
}
"""It would close a WebSocket that is silent for a minute; the others let it be for an hour."""

_TRAEFIK: Final = "traefik.ingress.kubernetes.io/service"
_HAPROXY: Final = "haproxy-ingress.github.io"
_HAPROXY_TECHNOLOGIES: Final = "haproxy.org"


def routed_port(service: NovaService, name: str | None, where: str) -> ServicePort:
    """The port that requests from outside go to: the named one, or the first. Raises ConfigError for a name that no
    port has, and for a port that is not HTTP."""
    ports = service.spec.ports
    port = next((port for port in ports if name in {None, port.name}), None)
    if port is None:
        raise ConfigError(where, f"expected one of {', '.join(port.name for port in ports)}, got {name}")
    if port.protocol == "tcp":
        raise ConfigError(
            where,
            f"expected a port whose protocol is http, websocket or grpc, got the port named {port.name}, whose protocol"
            " is tcp; name another one",
        )
    return port


def keeps_clients(service: NovaService) -> bool:
    """Whether a cookie keeps clients at their pod."""
    return service.spec.session_affinity.type in {"Cookie", "Redis"}


def cookie_name(service: NovaService) -> str:
    """Name of the cookie of whatever stands before the service."""
    return f"{service.spec.session_affinity.cookie.name}-edge"


def seconds(service: NovaService) -> int:
    """How long a client is remembered."""
    return math.ceil(service.spec.session_affinity.timeout)


def controller(service: NovaService) -> Controller | None:
    """Whose annotations to write."""
    ingress = service.spec.ingress
    if ingress is None:
        return None
    named = (one for one in _CONTROLLERS if one in (ingress.class_name or ""))
    return ingress.controller or next(named, None)


def ingress_annotations(service: NovaService, port: ServicePort) -> dict[str, str]:
    """Annotations of the Ingress."""
    name = controller(service)
    if name == "nginx":
        return _nginx(service, port)
    return _haproxy(service, port) if name == "haproxy" else {}


def service_annotations(service: NovaService) -> dict[str, str]:
    """Annotations of the Service, where Traefik looks for them."""
    ingress = service.spec.ingress
    if ingress is None or controller(service) != "traefik":
        return {}
    found = {}
    if routed_port(service, ingress.port, "$.spec.ingress.port").protocol == "grpc":
        found[f"{_TRAEFIK}.serversscheme"] = "h2c"
    if keeps_clients(service):
        cookie = service.spec.session_affinity.cookie
        found |= {
            f"{_TRAEFIK}.sticky.cookie": "true",
            f"{_TRAEFIK}.sticky.cookie.name": cookie_name(service),
            f"{_TRAEFIK}.sticky.cookie.maxage": str(seconds(service)),
            f"{_TRAEFIK}.sticky.cookie.httponly": "true",
            f"{_TRAEFIK}.sticky.cookie.samesite": cookie.same_site.lower(),
            f"{_TRAEFIK}.sticky.cookie.secure": _word(cookie.secure),
        }
    return found


def session_persistence(service: NovaService) -> Manifest:
    """The field of a rule of an HTTPRoute, GEP-1619; nothing without a cookie."""
    if not keeps_clients(service):
        return {}
    persistence = {
        "sessionName": cookie_name(service),
        "type": "Cookie",
        "absoluteTimeout": _gateway_duration(seconds(service)),
        "cookieConfig": {"lifetimeType": "Permanent"},
    }
    return {"sessionPersistence": persistence}


def _nginx(service: NovaService, port: ServicePort) -> dict[str, str]:
    found = dict(_NGINX_BY_PROTOCOL.get(port.protocol, {}))
    if keeps_clients(service):
        cookie = service.spec.session_affinity.cookie
        found |= {
            f"{_NGINX}/affinity": "cookie",
            f"{_NGINX}/affinity-mode": "persistent",
            f"{_NGINX}/session-cookie-name": cookie_name(service),
            f"{_NGINX}/session-cookie-path": cookie.path,
            f"{_NGINX}/session-cookie-max-age": str(seconds(service)),
            f"{_NGINX}/session-cookie-samesite": cookie.same_site,
            f"{_NGINX}/session-cookie-secure": _word(cookie.secure),
            f"{_NGINX}/session-cookie-change-on-failure": "true",
        }
    return found


def _haproxy(service: NovaService, port: ServicePort) -> dict[str, str]:
    found: dict[str, str] = {}
    if port.protocol == "grpc":
        found |= {f"{_HAPROXY}/backend-protocol": "grpc", f"{_HAPROXY_TECHNOLOGIES}/server-proto": "h2"}
    if keeps_clients(service):
        cookie = service.spec.session_affinity.cookie
        keywords = f"indirect nocache httponly maxlife {seconds(service)}s" + (" secure" if cookie.secure else "")
        found |= {
            f"{_HAPROXY}/affinity": "cookie",
            f"{_HAPROXY}/session-cookie-name": cookie_name(service),
            f"{_HAPROXY}/session-cookie-strategy": "insert",
            f"{_HAPROXY}/session-cookie-keywords": keywords,
            f"{_HAPROXY_TECHNOLOGIES}/cookie-persistence": cookie_name(service),
        }
        if cookie.same_site == "None":
            found[f"{_HAPROXY}/session-cookie-same-site"] = "true"
    return found


def _gateway_duration(total: int) -> str:
    """In the Gateway API no number of a duration has more than five digits
    (https://gateway-api.sigs.k8s.io/geps/gep-2257/); a client may be remembered for 30 days."""
    minutes, rest = divmod(total, 60)
    return f"{total}s" if total < 100_000 else f"{minutes}m{rest}s"


def _word(value: bool) -> str:
    return "true" if value else "false"
