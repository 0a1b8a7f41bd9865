"""The operator's command line: everything it can be told, and nothing through the environment."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, Literal

import msgspec

from nova_api import names
from nova_operator.desired.defaults import PullPolicy
from nova_operator.pulse import SILENCE

DEFAULT_IMAGE: Final = f"nova/sidecar:{version('nova')}"
DEFAULT_DATA_IMAGE: Final = f"nova/services:{version('nova')}"
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
    data_image: str = DEFAULT_DATA_IMAGE
    sidecar_requests: dict[str, str] = msgspec.field(default_factory=lambda: resource_list(DEFAULT_REQUESTS))
    metrics_port: int = 8080
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    leader_election_namespace: str | None = None
    kubeconfig: str | None = None
    workers: int = 16
    sidecar_poll: float = 10.0
    resync: float = 300.0
    watch_silence: float = SILENCE
    discovery: float = 30.0
    webhook_port: int | None = None
    webhook_secret: str | None = None
    webhook_names: tuple[str, ...] = ()
    webhook_configuration: str = names.OPERATOR_NAME
    webhook_certificates: Literal["made", "given"] = "made"
    webhook_certificate_lifetime: float = 90 * 86_400.0
    webhook_certificate_poll: float = 10.0
    injection_policy: Literal["Ignore", "Fail"] = "Ignore"
    injection_poll: float = 30.0


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line. Raises SystemExit(2) with the rule that was broken."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    if given["webhook_port"] is not None and not (given["webhook_secret"] and given["webhook_names"]):
        parser.error("--webhook-port needs --webhook-secret and --webhook-name")
    lists = {name: tuple(dict.fromkeys(given[name])) for name in ("namespaces", "webhook_names")}
    return Options(**{**given, **lists})


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
    operator = parser.add_argument_group("the operator itself")
    _add_process(operator)
    _add_times(operator)
    webhooks = parser.add_argument_group("admission webhooks, which every replica serves")
    _add_webhooks(webhooks)
    _add_certificates(webhooks)
    _add_injection(webhooks)
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
        "--data-image",
        metavar="IMAGE",
        default=DEFAULT_DATA_IMAGE,
        help="image of the data tools, for services with a database (default: %(default)s)",
    )
    group.add_argument(
        "--sidecar-requests",
        metavar="LIST",
        type=resource_list,
        default=DEFAULT_REQUESTS,
        help="what a sidecar reserves; a HorizontalPodAutoscaler needs the CPU part (default: %(default)s)",
    )
    _add_time(group, "--sidecar-poll", 10.0, "between two looks at a sidecar that runs the current configuration")


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


def _add_times(group: argparse._ArgumentGroup) -> None:
    silence = "without a word, or the API server's bookmark once a minute, after which a watch is opened anew"
    optional = "HTTPRoutes, PodMonitors and PrometheusRules, which may be installed or removed at any time"
    _add_time(group, "--watch-silence", SILENCE, silence)
    _add_time(
        group,
        "--resync",
        300.0,
        "within which each kind is listed once, and each service checked against that, unasked",
    )
    _add_time(group, "--discovery", 30.0, f"between two looks for {optional}")


def _add_webhooks(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--webhook-port",
        metavar="PORT",
        type=_port,
        help="answer the API server's reviews on this port; 0 takes any free one (default: no webhooks)",
    )
    group.add_argument(
        "--webhook-secret",
        metavar="NS/NAME",
        type=_namespaced,
        help="Secret with the certificate (tls.crt, tls.key and ca.crt); it must exist, and may be empty",
    )
    group.add_argument(
        "--webhook-name",
        dest="webhook_names",
        metavar="HOST",
        action="append",
        default=[],
        help="DNS name or address the webhooks are called by; may be repeated",
    )
    group.add_argument(
        "--webhook-configuration",
        metavar="NAME",
        default=names.OPERATOR_NAME,
        help="name of the validating and of the mutating webhook configuration (default: %(default)s)",
    )


def _add_certificates(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--webhook-certificates",
        choices=("made", "given"),
        default="made",
        help="made: by the operator, which also writes caBundle; given: by somebody else, such as cert-manager "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--webhook-certificate-lifetime",
        metavar="SECONDS",
        type=_lifetime,
        default=90 * 86_400.0,
        help="lifetime of a certificate that is made; it is renewed when a third is left (default: 90 days)",
    )
    _add_time(group, "--webhook-certificate-poll", 10.0, "between two looks at the Secret")


def _add_injection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--injection-policy",
        choices=("Ignore", "Fail"),
        default="Ignore",
        help="a pod that cannot get the sidecar it asks for: Ignore lets it run without, Fail refuses it "
        "(default: %(default)s)",
    )
    _add_time(group, "--injection-poll", 30.0, "between two looks for pods that missed the sidecar")


def _add_time(group: argparse._ArgumentGroup, name: str, default: float, what: str) -> None:
    text = f"time {what} (default: %(default)s)"
    group.add_argument(name, metavar="SECONDS", type=_seconds, default=default, help=text)


def _namespaced(text: str) -> str:
    if text and not re.fullmatch(r"[a-z0-9.-]+/[a-z0-9.-]+", text):  # argparse sends the default through here
        raise argparse.ArgumentTypeError(f"expected NAMESPACE/NAME, got {text!r}")
    return text


def _lifetime(text: str) -> float:
    if not text.isdecimal() or not 10 <= int(text) <= 10 * 365 * 86_400:
        raise argparse.ArgumentTypeError(f"expected whole seconds from 10 to 315360000, got {text!r}")
    return float(text)


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
