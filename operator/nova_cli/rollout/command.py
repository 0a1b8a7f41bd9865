"""The verbs of `nova rollout`."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Final

from nova_cli.errors import CommandError, MissingRequirementError
from nova_cli.rollout.service import Service
from nova_cli.rollout.tell import tell
from nova_cli.rollout.watch import follow
from nova_operator import access
from nova_operator.cluster import ClusterError
from nova_operator.kube import Kube
from nova_operator.metrics import Metrics

EPILOG = """\
A service with spec.rollout.strategy Canary gets a changed pod template in steps, beside the version it has. The
operator compares both by their sidecars and takes the new one back when it does worse.

examples:
  nova rollout status shop            where the canary of shop stands
  nova rollout status shop --watch    follow it to its end; fails when it is taken back, or cannot begin
  nova rollout promote shop           go on to the next step now, through a gate or past the hold
  nova rollout abort shop             take the new version back
  nova rollout retry shop             try an aborted version once more

Commands name the canary and the step that you see: one that comes too late fails, and does nothing to a newer canary.

exit codes: 0 done, 1 it failed or the canary was aborted, 2 wrong usage or no cluster, 130 interrupted
"""

_HELP: Final = {
    "status": "show where a canary stands",
    "promote": "go on to the next step now",
    "abort": "take the new version back",
    "retry": "try an aborted version again from the first step",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova rollout`."""
    parser = subparsers.add_parser(
        "rollout",
        help="watch, promote or abort a canary",
        description="Look at the canary of a NovaService, and say whether it goes on.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb, text in _HELP.items():
        one = verbs.add_parser(verb, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.add_argument("name", metavar="NAME", help="the NovaService")
        one.add_argument("-n", "--namespace", metavar="NS", help="its namespace (default: the kubeconfig's)")
        one.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, else ~/.kube/config")
        if verb == "status":
            one.add_argument("-w", "--watch", action="store_true", help="go on until the canary is over")
        one.set_defaults(func=run, verb=verb)


def run(options: argparse.Namespace) -> int:
    """Returns the exit code. Raises CommandError saying what to do."""
    file = _kubeconfig(options.kubeconfig)
    try:
        return asyncio.run(_with_cluster(file, options))
    except ClusterError as error:
        raise CommandError(f"the API server did not do it: {error}") from error


async def _with_cluster(file: Path, options: argparse.Namespace) -> int:
    try:
        configuration = await access.configuration(str(file))
    except ClusterError as error:
        raise MissingRequirementError(str(error)) from error
    async with access.client(configuration) as client:
        service = Service(Kube(client, Metrics()), options.namespace or _namespace(file), options.name)
        if options.verb == "status":
            return await follow(service.get, watch=options.watch)
        return await tell(service, options.verb)


def _kubeconfig(given: str | None) -> Path:
    listed = [file for file in os.environ.get("KUBECONFIG", "").split(os.pathsep) if file]
    file = Path(given or next(iter(listed), "") or Path.home() / ".kube" / "config")
    if not file.is_file():
        raise MissingRequirementError(f"there is no kubeconfig {file}; name one with --kubeconfig or in $KUBECONFIG")
    return file


def _namespace(file: Path) -> str:
    """The namespace that kubectl would use."""
    from kubernetes.aio.config import list_kube_config_contexts  # noqa: PLC0415 - only where no -n is given

    _, active = list_kube_config_contexts(config_file=str(file))
    return str(active["context"].get("namespace") or "default")
