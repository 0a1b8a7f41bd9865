"""`nova render`: the manifests that the operator would apply, without a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from nova_api import block_yaml
from nova_api.errors import ConfigError
from nova_api.model import convert
from nova_api.v1alpha1 import GROUP, NovaService
from nova_cli.documents import DocumentError, parse
from nova_cli.workloads import adopted, is_deployment
from nova_operator.admission.risks import warnings
from nova_operator.desired import desired_state
from nova_operator.desired.defaults import Defaults, Platform
from nova_operator.options import DEFAULT_DATA_IMAGE, DEFAULT_IMAGE, DEFAULT_REQUESTS, resource_list


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova render`."""
    parser = subparsers.add_parser(
        "render",
        help="print the manifests that the operator would apply for a NovaService",
        description="Print, as YAML, the manifests that the operator would apply for each NovaService of a file. A"
        " Deployment that workloadRef names is taken from the same file, and printed with its sidecar.",
    )
    parser.add_argument("-f", "--file", required=True, metavar="FILE", help="NovaServices as YAML; - is standard input")
    parser.add_argument(
        "-n",
        "--namespace",
        default="default",
        metavar="NS",
        help="namespace of services that name none (default: default)",
    )
    parser.add_argument(
        "--sidecar-image",
        default=DEFAULT_IMAGE,
        metavar="IMAGE",
        help="as given to the operator (default: %(default)s)",
    )
    parser.add_argument(
        "--kubernetes", default="1.34", type=_release, metavar="1.N", help="version of the API server (default: 1.34)"
    )
    parser.add_argument(
        "--pod-monitors",
        action="store_true",
        help="print PodMonitors and PrometheusRules too, for a cluster that has the Prometheus operator",
    )
    parser.set_defaults(func=run)


def run(options: argparse.Namespace) -> int:
    """Print all manifests or, where a document is wrong, none: what came out could otherwise be applied by half."""
    defaults = Defaults(
        sidecar_image=options.sidecar_image,
        sidecar_requests=resource_list(DEFAULT_REQUESTS),
        data_image=DEFAULT_DATA_IMAGE,
        platform=msgspec.structs.replace(
            Platform.of(*options.kubernetes),
            http_routes=True,  # who writes `gateway` has them
            session_persistence=True,
            pod_monitors=options.pod_monitors,
            prometheus_rules=options.pod_monitors,
        ),
    )
    manifests: list[dict[str, Any]] = []
    name, documents = _load(options.file)
    for where, service in services(name, documents, options.namespace):
        try:
            manifests.extend(desired_state(service, defaults))
            manifests.extend(adopted(service, documents, options.namespace, defaults))
            risks = warnings(service, platform=defaults.platform)
        except ConfigError as error:
            raise DocumentError(f"{where}: {error}") from error
        for risk in risks:
            print(f"{where}: warning: {risk}", file=sys.stderr)
    sys.stdout.write(block_yaml.dump(*manifests, explicit_start=True))
    return 0


def services(name: str, documents: list[Any], namespace: str) -> Iterator[tuple[str, NovaService]]:
    """The NovaServices of a file, each with the words that name it in messages. Raises DocumentError."""
    found = False
    for number, document in enumerate(documents, start=1):
        where = name if len(documents) == 1 else f"{name} (document {number})"
        if _is_foreign(document):
            if not is_deployment(document):
                print(f"{where}: skipped, it is a {document['kind']}", file=sys.stderr)
            continue
        found = True
        yield where, _decode(document, namespace, where)
    if not found:
        raise DocumentError(f"{name}: $: expected a NovaService, found none")


def _load(file: str) -> tuple[str, list[Any]]:
    """What the file is called in messages, and its documents."""
    name = "<stdin>" if file == "-" else file
    try:
        return name, parse(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as error:
        raise DocumentError(f"{name}: expected a file that can be read: {error.strerror}") from error
    except ConfigError as error:
        raise DocumentError(f"{name}: {error}") from error


def _decode(document: object, namespace: str, where: str) -> NovaService:
    if isinstance(document, dict) and isinstance(document.get("metadata"), dict):
        document = {**document, "metadata": {"namespace": namespace, **document["metadata"]}}
    try:
        return convert(document, NovaService)
    except ConfigError as error:
        raise DocumentError(f"{where}: {error}") from error


def _is_foreign(document: object) -> bool:
    """Whether it is an object of another API, such as the Namespace that an example brings along."""
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        return False
    return not str(document.get("apiVersion", GROUP)).startswith(f"{GROUP}/") and document["kind"] != "NovaService"


def _release(text: str) -> tuple[str, str]:
    major, _, minor = text.removeprefix("v").partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a version such as 1.34, got {text!r}")
    return major, minor
