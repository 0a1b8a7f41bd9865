"""The command line of `nova demo`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING

from nova_cli.console import Console
from nova_cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nova_cli.cluster.provider import Provider
    from nova_cli.demo.claim import Claim, S
    from nova_cli.demo.stage import Stage

NAMES = ("correlation", "breaker", "overload", "restart", "reload", "token", "cache", "tenants")
BACKEND_NAMES = ("sign-up", "post", "search", "graphql", "chat", "delete", "media", "trail", "erase")

EPILOG = """\
examples:
  nova demo                       everything: cluster, images, Nova, examples, the eight claims
  nova demo --only breaker        one claim, on the cluster that runs already or a new one
  nova demo backend               the reference backend with its stores, and a walk through it, on the same cluster
  nova demo down                  remove the cluster; binaries and images stay in the cache

claims of the services:
  correlation   one id from the client through two services, their logs and back
  breaker       a failing upstream: fast refusals that say why, then recovery
  overload      early rejection keeps accepted requests fast, beside the same load without the sidecar
  restart       a rolling restart under load without a failed request
  reload        a changed threshold in every sidecar within seconds, no pod restarted
  token         JWT switched on: a valid token passes, none and a forged one do not
  cache         the response cache switched on: the second caller's answer costs the app nothing
  tenants       quotas switched on: one tenant above its own is refused, the other one is served

claims of the backend:
  sign-up       two people register and log in; Kafka hears of it from the outbox
  post          one follows the other, who writes a post: it is in the feed
  search        the post is found by its words, its author by the name
  graphql       posts and authors, which two services have, in one answer
  chat          WebSockets while every pod is replaced: no message lost, none doubled
  delete        a deleted post is gone from feed and search
  media         a picture is its owner's alone until it is shown; recommendations fall back to the feed
  trail         one correlation id through HTTP, gRPC, Kafka and the logs of all pods
  erase         a person who closes the account is gone from every table

The first run compiles what the cluster is made of (about ten minutes on two cores, more beside other work); later ones
take up to two minutes, or one where the cluster still runs.

exit codes: 0 every claim held, 1 one did not or something failed, 2 something is missing on this machine
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova demo`."""
    summary = "show against a real cluster what Nova gains a service"
    parser = subparsers.add_parser(
        "demo",
        help=summary,
        description=summary,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = ("up", "backend", "down")
    parser.add_argument("verb", nargs="?", choices=verbs, default="up", help="up (default), backend or down")
    parser.add_argument("--only", action="append", metavar="CLAIM", help="check just this claim")
    parser.add_argument("--name", default="nova", help="which cluster (default: %(default)s)")
    parser.set_defaults(func=_run)


def _run(options: argparse.Namespace) -> int:
    from nova_cli.cluster.provider import provider  # noqa: PLC0415 - `nova --help` must not import all this

    console = Console()
    cluster = provider(console, options.name)
    if options.verb == "down":
        cluster.down()
        return 0
    _check(options.only or [], BACKEND_NAMES if options.verb == "backend" else NAMES)
    begin = time.monotonic()
    chosen, failed = (_backend if options.verb == "backend" else _services)(options, cluster, console)
    verdict = f"{chosen - len(failed)} of {chosen} claims held"
    print(f"\n{verdict} in {time.monotonic() - begin:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _check(asked: Sequence[str], known: Sequence[str]) -> None:
    """Before anything is started. Raises SystemExit for a claim that there is not."""
    for name in asked:
        if name not in known:
            print(f"nova: --only: expected {', '.join(known)}, got {name}", file=sys.stderr)
            raise SystemExit(2)


def _services(options: argparse.Namespace, cluster: Provider, console: Console) -> tuple[int, list[str]]:
    from nova_cli.demo.bring_up import bring_up  # noqa: PLC0415 - as above
    from nova_cli.demo.claims import CLAIMS  # noqa: PLC0415 - as above

    stage = bring_up(cluster, console)
    result = _judge_all(CLAIMS, options.only, stage, console)
    _farewell(stage, options.name, "storefront")
    return result


def _backend(options: argparse.Namespace, cluster: Provider, console: Console) -> tuple[int, list[str]]:
    from nova_cli.demo.backend.bring_up import bring_up  # noqa: PLC0415 - as above
    from nova_cli.demo.backend.walk import CLAIMS  # noqa: PLC0415 - as above

    stage = bring_up(cluster, console)
    result = _judge_all(CLAIMS, options.only, stage, console)
    _farewell(stage, options.name, "auth")
    return result


def _judge_all(
    claims: Sequence[Claim[S]], only: Sequence[str] | None, stage: S, console: Console
) -> tuple[int, list[str]]:
    """How many were judged, and which of them failed."""
    chosen = [claim for claim in claims if not only or claim.name in only]
    return len(chosen), [claim.name for claim in chosen if not _judge(claim, stage, console)]


def _judge(claim: Claim[S], stage: S, console: Console) -> bool:
    painter = Console(sys.stdout)
    try:
        with console.step(f"{claim.name}: {claim.title}"):
            verdict = claim.check(stage)
        passed, figures = verdict.passed, verdict.figures
    except CommandError as error:
        passed, figures = False, str(error)
    word = painter.paint("PASS", "32") if passed else painter.paint("FAIL", "31")
    print(f"{word} {claim.name}: {figures}", flush=True)
    return passed


def _farewell(stage: Stage, cluster: str, service: str) -> None:
    kubectl = "kubectl" if shutil.which("kubectl") else stage.kubectl_path
    # in this order: a pod that the patch adds has no logs for its first seconds, and kubectl fails over that
    print(f"""
The cluster goes on running. Point kubectl at it:
  export KUBECONFIG={stage.kubeconfig}
then try:
  {kubectl} get novaservices -n {stage.namespace} -o wide
  {kubectl} logs -n {stage.namespace} -l nova.dev/service={service} -c nova-sidecar --tail=5
  {kubectl} patch nsvc {service} -n {stage.namespace} --type=merge -p '{{"spec":{{"replicas":3}}}}'
`nova demo down{"" if cluster == "nova" else f" --name {cluster}"}` (or `make demo-down`) removes it.""")
