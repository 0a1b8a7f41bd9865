"""Which kind of port serves which protocol."""

from nova_api.proxy import Inbound, Outbound
from nova_sidecar.pipeline.http2.port import CallPort
from nova_sidecar.pipeline.port import Port


def port_class(settings: Inbound | Outbound) -> type[Port]:
    """The class of the port for these settings. A reload that changes it makes a new port in the old one's place."""
    return CallPort if settings.protocol == "grpc" else Port
