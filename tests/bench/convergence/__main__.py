"""`make bench-operator`: the command line, and the order of a run."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

from nova_cli.errors import CommandError
from nova_operator.desired.defaults import Defaults
from tests.cluster.api import Api
from tests.cluster.operator_process import PROGRAM
from tests.cluster.operator_process import running as operator_running

from ..machine import memory
from . import after, cluster, converge, node, report, workload
from .client import Client, connected
from .workload import Crowd

_ROOT: Final = Path(__file__).parents[3]
_PATIENCE_PER_SERVICE: Final = 1.0
EPILOG: Final = """\
What is measured, in this order:
  1. rounds of a bare client that writes N services and their children, and of the operator that makes them,
     in turns, on one API server (etcd, kube-apiserver, kube-controller-manager; no kubelets)
  2. with the services of the last round: memory, API calls and CPU at rest
  3. how long a change takes to the ConfigMap, alone and beside a service that changes 50 times a second,
     how long drift stays
  4. how long a change takes to every sidecar of a service with two pods: on the demo's cluster where this machine can
     have one (Docker or root; it is started if it does not run), else on fake kubelets

exit codes: 0 measured, 1 with --check and a ratio above the limit, 2 wrong usage, 3 cannot measure here
"""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.convergence",
        description="Measure the operator with many services, beside a bare client on the same API server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--services", type=_count, default=1000, metavar="N", help="default %(default)s")
    parser.add_argument("--rounds", type=_count, default=2, metavar="N", help="of each kind (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round, and fewer samples afterwards")
    parser.add_argument("--seed", type=int, default=1, help="which services are changed (default %(default)s)")
    parser.add_argument("--check", action="store_true", help=f"fail if the ratio is above {report.LIMIT:g}")
    parser.add_argument("--fake-kubelets", action="store_true", help="start no cluster for figure 4, wherever it could")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the operator's log")
    parser.add_argument(
        "--output", type=Path, default=_ROOT / "build" / "bench-operator.json", help="default %(default)s"
    )
    return parser.parse_args(given)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 5000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 5000, got {text!r}")
    return int(text)


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix="nova-bench-") as folder:
        try:
            with cluster.running(Path(folder)) as (plane, kubeconfig):
                document = asyncio.run(Run(options, plane, kubeconfig, Path(folder)).everything())
            if _on_a_node(options):
                times = node.measured(10 if options.quick else 100)
                document["config_to_sidecar_seconds"] = {**times.figures(), "kubelet": "real"}
        except CommandError as reason:
            print(f"cannot measure: {reason}", file=sys.stderr)
            return 3
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=2) + "\n")
    print(report.table(document, options.services))
    print(f"\nwritten to {options.output}")
    ratio = document[f"converge_{options.services}"]["ratio_raw_client"]
    if options.check and ratio > report.LIMIT:
        print(f"FAIL: {ratio:.2f} times a bare client's time, at most {report.LIMIT} is allowed", file=sys.stderr)
        return 1
    return 0


def _on_a_node(options: argparse.Namespace) -> bool:
    return not options.fake_kubelets and node.available()


def _leave(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that every process started here is ended."""
    sys.exit(128 + number)


class Run:
    """One run, from the first round to the last figure."""

    def __init__(self, options: argparse.Namespace, plane: cluster.Plane, kubeconfig: Path, folder: Path) -> None:
        self._options = options
        self._plane = plane
        self._kubeconfig = kubeconfig
        self._log = options.log or folder / "operator.log"
        self._random = Random(options.seed)
        self._began = time.monotonic()

    async def everything(self) -> dict[str, Any]:
        options, bare, operator = self._options, [], []
        async with connected(self._kubeconfig) as client:
            defaults = workload.defaults(await cluster.platform(client))
            rounds = 1 if options.quick else options.rounds
            for number in range(rounds):
                bare.append(await self._bare(client, defaults))
                crowd = Crowd.of(options.services)
                with operator_running(self._kubeconfig, self._log, program=PROGRAM) as process:
                    base = memory(process.process.pid).rss_mb
                    pids = {**self._plane.pids, "client": os.getpid(), "operator": process.process.pid}
                    patience = 60 + options.services * _PATIENCE_PER_SERVICE
                    operator.append(await converge.operator(client, crowd, defaults, pids, patience))
                    self._say(f"operator     {operator[-1].seconds:6.1f} s")
                    await self._plane.hurry()
                    if number == rounds - 1:
                        peak, found = await self._afterwards(client, crowd, process)
                await self._clean(client)
        return report.figures(options.services, bare=bare, operator=operator, base_mb=base, peak=peak, found=found)

    async def _bare(self, client: Client, defaults: Defaults) -> converge.Round:
        pids = {**self._plane.pids, "client": os.getpid()}
        taken = await converge.bare(client, Crowd.of(self._options.services), defaults, pids)
        self._say(f"bare client  {taken.seconds:6.1f} s")
        await self._plane.hurry()
        await self._clean(client)
        return taken

    async def _clean(self, client: Client) -> None:
        await cluster.remove_all(client)
        await self._plane.usual()

    async def _afterwards(
        self, client: Client, crowd: Crowd, process: after.OperatorProcess
    ) -> tuple[after.Rest, dict[str, Any]]:
        few = 10 if self._options.quick else 100
        self._say("waiting until the controller manager has made ReplicaSets and pods")
        if not await after.quiet(client, crowd, process, 60 + self._options.services * _PATIENCE_PER_SERVICE):
            self._say("not at rest yet; the figures at rest are too high")
        peak = await after.rest(process, 10 if self._options.quick else 60)
        self._say(f"at rest      {peak.calls_per_minute:6.1f} API calls a minute, {peak.rss_mb:.0f} MB")
        alone = await after.changes(client, crowd, few, self._random)
        noisy, rate = await after.beside_noise(client, crowd, few, self._random)
        self._say(f"changes      {alone.share(0.99):6.2f} s p99, {noisy.share(0.99):.2f} s beside a noisy service")
        drift = await after.drift(client, crowd, few, self._random)
        found: dict[str, Any] = {
            "change_seconds": alone.figures(),
            "change_beside_noise_seconds": {**noisy.figures(), "noise_per_second": round(rate, 1)},
            "drift_seconds": drift.figures(),
        }
        if not _on_a_node(self._options):
            delivery = await after.delivery(client, Api(self._kubeconfig), 5, max(2, few // 5))
            found["config_to_sidecar_seconds"] = {**delivery.figures(), "kubelet": "fake"}
        return peak, found

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:4.0f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
