"""The operator's command line: everything it can be told, and nothing through the environment."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, Literal

import msgspec

from nova_operator.desired.defaults import PullPolicy

DEFAULT_IMAGE: Final = f"nova/sidecar:{version('nova')}"
DEFAULT_REQUESTS: Final = "cpu=50m,memory=64Mi"
_QUANTITY: Final = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")

EPILOG: Final = """\
The operator finds the API server through --kubeconfig, else through the service account of its own pod.
GET /healthz, /readyz and /metrics are answered on the metrics port.

exit codes: 0 told to stop, 1 the lease was lost or the API server cannot be reached, 2 wrong usage
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line, checked. Times are in seconds."""

    namespaces: tuple[str, ...] = ()
    sidecar_image: str = DEFAULT_IMAGE
    sidecar_pull_policy: PullPolicy | None = None
    sidecar_requests: dict[str, str] = msgspec.field(default_factory=lambda: resource_list(DEFAULT_REQUESTS))
    metrics_port: int = 8080
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    leader_election_namespace: str | None = None
    kubeconfig: str | None = None
    workers: int = 16
    sidecar_poll: float = 10.0
    resync: float = 300.0
    discovery: float = 30.0


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line. Raises SystemExit(2) with the rule that was broken."""
    given = vars(_parser().parse_args(arguments))
    return Options(**{**given, "namespaces": tuple(dict.fromkeys(given["namespaces"]))})


def resource_list(text: str) -> dict[str, str]:
    """``cpu=50m,memory=64Mi`` as a resource list. Raises ArgumentTypeError naming the part that is wrong."""
    requests: dict[str, str] = {}
    for part in text.split(","):
        name, _, quantity = part.partition("=")
        if name not in {"cpu", "memory", "ephemeral-storage"}:
            raise argparse.ArgumentTypeError(f"expected cpu=…, memory=… or ephemeral-storage=…, got {part!r}")
        if not _QUANTITY.fullmatch(quantity):
            raise argparse.ArgumentTypeError(f"expected a quantity such as 50m or 64Mi after {name}=, got {quantity!r}")
        requests[name] = quantity
    return requests


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nova-operator",
        description="Turns NovaServices into Kubernetes objects and keeps them so.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_sidecar(parser.add_argument_group("the sidecar, for services that do not say otherwise"))
    _add_process(parser.add_argument_group("the operator itself"))
    return parser


def _add_sidecar(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--sidecar-image", metavar="IMAGE", default=DEFAULT_IMAGE, help="image of the sidecar (default: %(default)s)"
    )
    group.add_argument(
        "--sidecar-pull-policy",
        choices=("Always", "IfNotPresent", "Never"),
        help="pull policy of that image (default: Kubernetes chooses)",
    )
    group.add_argument(
        "--sidecar-requests",
        metavar="LIST",
        type=resource_list,
        default=DEFAULT_REQUESTS,
        help="what a sidecar reserves; a HorizontalPodAutoscaler needs the CPU part (default: %(default)s)",
    )
    group.add_argument(
        "--sidecar-poll",
        metavar="SECONDS",
        type=_seconds,
        default=10.0,
        help="time between two looks at a sidecar that runs the current configuration (default: %(default)s)",
    )


def _add_process(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--namespace",
        dest="namespaces",
        metavar="NS",
        action="append",
        default=[],
        help="serve this namespace only; may be repeated (default: all namespaces)",
    )
    group.add_argument(
        "--leader-election-namespace",
        metavar="NS",
        help="share the work with other replicas through a Lease in this namespace (default: this replica is alone)",
    )
    group.add_argument(
        "--metrics-port",
        metavar="PORT",
        type=_port,
        default=8080,
        help="port of /healthz, /readyz and /metrics; 0 takes any free one (default: %(default)s)",
    )
    group.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="least severe level that is logged, as JSON on standard output (default: %(default)s)",
    )
    group.add_argument(
        "--kubeconfig", metavar="FILE", help="how to reach the API server (default: the pod's service account)"
    )
    group.add_argument(
        "--workers", metavar="N", type=_count, default=16, help="services reconciled at once (default: %(default)s)"
    )
    group.add_argument(
        "--resync",
        metavar="SECONDS",
        type=_seconds,
        default=300.0,
        help="time after which a service is checked against the API server unasked (default: %(default)s)",
    )
    group.add_argument(
        "--discovery",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="time between two looks for HTTPRoutes and PodMonitors, which may be installed or removed at any time "
        "(default: %(default)s)",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 1000, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not 0.05 <= float(text) <= 86_400:
        raise argparse.ArgumentTypeError(f"expected seconds from 0.05 to 86400, got {text!r}")
    return float(text)
