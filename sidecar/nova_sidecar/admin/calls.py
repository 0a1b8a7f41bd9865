"""What is counted of gRPC calls beyond what all requests have; only ports of protocol grpc have any."""

from collections.abc import Sequence
from typing import Final, get_args

from nova_api.policies import GrpcCode
from nova_sidecar.admin.families import CounterFamily, Family
from nova_sidecar.pipeline.stats import PortStats

_CODES: Final = ("OK", *get_args(GrpcCode), "other")


def call_metrics(ports: Sequence[PortStats]) -> Family:
    """Responses by gRPC status, Nova's own refusals among them."""
    family = CounterFamily(
        "nova_grpc_responses",
        "gRPC responses by status; refusals are included.",
        labels=("direction", "name", "code"),
    )
    for port in ports:
        for code, count in zip(_CODES, port.grpc or (), strict=False):
            family.add_metric((port.direction, port.name, code), count)
    return family
