"""Which kind of port serves which protocol.

Memory is paid per pod: what speaks HTTP/2 or relays TCP is imported where the configuration has such a port.
"""

from nova_api.proxy import Inbound, Outbound
from nova_sidecar.pipeline.port import Port


def port_class(settings: Inbound | Outbound) -> type[Port]:
    """The class of the port for these settings. A reload that changes it makes a new port in the old one's place."""
    if settings.protocol == "tcp":
        from nova_sidecar.pipeline.relay import RelayPort  # noqa: PLC0415 - see above

        return RelayPort  # type: ignore[return-value]  # it has what the proxy asks of a port
    if settings.protocol == "grpc":
        from nova_sidecar.pipeline.http2.port import CallPort  # noqa: PLC0415 - see above

        return CallPort
    return Port
