"""What passes the schema but could never run: refused before anything is written."""

from __future__ import annotations

from nova_api import names
from nova_api.errors import ConfigError
from nova_api.resolve import app_port
from nova_api.v1alpha1 import NovaService


def check(service: NovaService) -> None:
    """Raises ConfigError naming the field and what to change.

    The sidecar listens on 127.77.0.N at an upstream's port. Linux refuses a second listener on the same port when one
    of the two is on all addresses (ip(7), EADDRINUSE), and that is how apps and the sidecar itself listen.
    """
    taken = {app_port(port): port.name for port in service.spec.ports}
    for index, upstream in enumerate(service.spec.upstreams):
        path = f"$.spec.upstreams[{index}].port"
        if upstream.port in names.RESERVED_PORTS:
            raise ConfigError(
                path, f"expected a port outside 15000-15199, which the sidecar keeps, got {upstream.port}"
            )
        if upstream.port in taken:
            raise ConfigError(
                path,
                f"expected another port than {upstream.port}, on which the app listens ({taken[upstream.port]}): "
                "a pod cannot listen on it twice; let the app take another one and name it in ports[].appPort",
            )
