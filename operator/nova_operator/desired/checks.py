"""What passes the schema but could never run: refused before anything is written."""

from __future__ import annotations

import re
from typing import Final

from nova_api.errors import ConfigError
from nova_api.resolve import app_port, refuse_reserved
from nova_api.v1alpha1 import NovaService

_ENDS_IN_A_NUMBER: Final = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")


def check(service: NovaService) -> None:
    """Raises ConfigError naming the field and what to change.

    The sidecar listens on 127.77.0.N at an upstream's port. Linux refuses a second listener on the same port when one
    of the two is on all addresses (ip(7), EADDRINUSE), and that is how apps and the sidecar itself listen.
    """
    taken = {app_port(port): port.name for port in service.spec.ports}
    for index, upstream in enumerate(service.spec.upstreams):
        _check_host(upstream.host, f"$.spec.upstreams[{index}].host")
        path = f"$.spec.upstreams[{index}].port"
        refuse_reserved(upstream.port, path)
        if upstream.port in taken:
            raise ConfigError(
                path,
                f"expected another port than {upstream.port}, on which the app listens ({taken[upstream.port]}): "
                "a pod cannot listen on it twice; let the app take another one and name it in ports[].appPort",
            )


def _check_host(host: str, path: str) -> None:
    """The app must look the host up to get the sidecar's address; what it never looks up would pass the sidecar by,
    and nobody would notice.

    A last label that is a number makes the whole an IPv4 address (WHATWG URL, "ends in a number checker"; inet(3)).
    """
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        raise ConfigError(path, f"expected another host than {host}, which is the pod itself, past the sidecar")
    if _ENDS_IN_A_NUMBER.fullmatch(host):
        raise ConfigError(
            path,
            f"expected a host name, got the address {host}, which the app would reach past the sidecar; give it a name "
            "with a Service without selector and an EndpointSlice, and let the app use that",
        )
