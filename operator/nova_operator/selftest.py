"""`helm test`: does the operator of this release serve a NovaService? Runs in a pod of the operator's image.

    python3 -m nova_operator.selftest --namespace NS --name NAME [--image IMAGE] [--within SECONDS]

It offers the API server a service that is wrong, which must be refused, and one that is right and has no pods, which
must be taken up: a status of its generation, without an obstacle. Then it takes that one away again. It may create,
get and delete NovaServices in that namespace, and nothing else.

exit codes: 0 all is well, 1 it is not, and the last line says what to do
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from nova_operator import access
from nova_operator.cluster import ClusterError, RefusedError
from nova_operator.kinds import NOVA_SERVICE
from nova_operator.kube import Kube
from nova_operator.metrics import Metrics

ASK: Final = 0.5


class Failure(Exception):  # noqa: N818 - it is what the test reports, not an error of this program
    """What is wrong, and what to do about it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        asyncio.run(_run(options))
    except (Failure, ClusterError) as failure:
        print(f"FAILED: {failure}")
        return 1
    print("all is well")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m nova_operator.selftest", description=__doc__.partition("\n")[0])
    parser.add_argument("--namespace", required=True, help="where the service is made")
    parser.add_argument("--name", required=True, help="of the service")
    parser.add_argument("--image", default="nova-selftest", help="its image, which no pod will run")
    parser.add_argument("--within", type=float, default=60.0, help="seconds until it must have been taken up")
    parser.add_argument("--kubeconfig", help="default: the pod's service account")
    return parser


async def _run(options: argparse.Namespace) -> None:
    configuration = await access.configuration(options.kubeconfig)
    async with access.client(configuration) as api:
        kube = Kube(api, Metrics())
        await _is_refused(kube, options)
        uid = await _make(kube, options)
        try:
            await _is_taken_up(kube, options)
        finally:
            await kube.delete(NOVA_SERVICE, options.namespace, options.name, uid)


async def _is_refused(kube: Kube, options: argparse.Namespace) -> None:
    wrong = _service(options, ports=[])
    try:
        made = await kube.create(NOVA_SERVICE, wrong)
    except RefusedError:
        print("a service without a port is refused")
        return
    await kube.delete(NOVA_SERVICE, options.namespace, options.name, made["metadata"]["uid"])
    raise Failure("the API server took a service without a port: its CustomResourceDefinition is not this chart's")


async def _make(kube: Kube, options: argparse.Namespace) -> str:
    there = await kube.get(NOVA_SERVICE, options.namespace, options.name)
    if there is not None:  # a test that was cut short left it
        await kube.delete(NOVA_SERVICE, options.namespace, options.name, there["metadata"]["uid"])
    made = await kube.create(NOVA_SERVICE, _service(options, ports=[{"port": 8080}]))
    print("a service is admitted")
    return str(made["metadata"]["uid"])


async def _is_taken_up(kube: Kube, options: argparse.Namespace) -> None:
    deadline = time.monotonic() + options.within
    while True:
        found = await kube.get(NOVA_SERVICE, options.namespace, options.name) or {}
        status = found.get("status") or {}
        if status.get("observedGeneration") == found.get("metadata", {}).get("generation") and status.get("configHash"):
            print(f"the operator has taken it up: {_words(status)}")
            return
        if time.monotonic() > deadline:
            said = f"it says {_words(status)}" if status else "it has said nothing of it"
            raise Failure(
                f"the operator did not take the service up within {options.within:.0f} s: {said}; see its log, and "
                f"whether it serves namespace {options.namespace}"
            )
        await asyncio.sleep(ASK)


def _words(status: dict[str, Any]) -> str:
    ready: dict[str, Any] = next((one for one in status.get("conditions") or () if one["type"] == "Ready"), {})
    return f"Ready={ready.get('status')}, {ready.get('reason')}: {ready.get('message')}"


def _service(options: argparse.Namespace, ports: list[dict[str, int]]) -> dict[str, Any]:
    return {
        "apiVersion": NOVA_SERVICE.api_version,
        "kind": NOVA_SERVICE.kind,
        "metadata": {"name": options.name, "namespace": options.namespace},
        "spec": {"image": options.image, "replicas": 0, "ports": ports},
    }


if __name__ == "__main__":
    sys.exit(main())
