"""Which kind of port serves which protocol."""

from nova_api.proxy import Inbound, Outbound
from nova_sidecar.pipeline.http2.port import CallPort
from nova_sidecar.pipeline.port import Port
from nova_sidecar.pipeline.relay import RelayPort


def port_class(settings: Inbound | Outbound) -> type[Port]:
    """The class of the port for these settings. A reload that changes it makes a new port in the old one's place."""
    if settings.protocol == "tcp":
        return RelayPort  # type: ignore[return-value]  # it has what the proxy asks of a port
    return CallPort if settings.protocol == "grpc" else Port
