"""`nova cluster`: the command line over `Provider`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from nova_cli.console import Console
from nova_cli.errors import CommandError

EPILOG = """\
examples:
  nova cluster up                          start a cluster: kind where Docker answers, else processes of our own
  eval "$(nova cluster up)"                the same, and point this shell's kubectl at it
  nova cluster status                      what runs, and where
  nova cluster load $(nova images --quiet) build the images, make them available to pods
  nova cluster exec -- curl -s http://orders.shop:8080/
                                           run a program of this machine in the node's network, with the cluster's DNS
  nova cluster down                        stop it; nothing stays behind but the cache
  nova cluster up --nodes 2                at least two nodes, to see a drain or the loss of one
  nova cluster up --network-policies       enforce NetworkPolicies, also on a cluster that runs without
  nova cluster up --no-node --name api     an API server without pods, for tests; needs no root

The first start compiles Kubernetes (about six minutes on two cores); later ones take seconds. All but Go's own caches
is kept in $NOVA_CACHE, $XDG_CACHE_HOME/nova or ~/.cache/nova. Logs of a running cluster: clusters/NAME/log in there.

exit codes: 0 done, 1 it failed, 2 wrong usage or something is missing on this machine, 3 (status) not running
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova cluster` and its verbs."""
    formatter = argparse.RawDescriptionHelpFormatter
    summary = "start, stop and inspect a local Kubernetes"
    parser = subparsers.add_parser(
        "cluster", help=summary, description=summary, epilog=EPILOG, formatter_class=formatter
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="nova", help="which cluster (default: %(default)s)")
    common.add_argument("--quiet", action="store_true", help="print results only, no progress")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add_verb(name: str, func: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        description = f"{summary[0].upper()}{summary[1:]}."
        verb = verbs.add_parser(name, parents=[common], help=summary, description=description)
        verb.set_defaults(func=func)
        return verb

    up = add_verb("up", _up, "start it, unless it runs, and print where the kubeconfig is")
    up.add_argument(
        "--nodes",
        type=int,
        choices=range(1, 10),
        default=1,
        metavar="N",
        help="at least so many nodes, up to 9 (default: %(default)s)",
    )
    kinds = up.add_mutually_exclusive_group()
    kinds.add_argument("--network-policies", action="store_true", help="enforce NetworkPolicies, as kind always does")
    kinds.add_argument(
        "--no-node", action="store_true", help="control plane only: no pods, no root, free loopback ports"
    )
    add_verb("down", _down, "stop it and leave nothing behind")
    add_verb("status", _status, "show what runs")
    load = add_verb("load", _load, "make images available to pods")
    load.add_argument(
        "archives", metavar="ARCHIVE", nargs="+", type=Path, help="image archive, as `nova images` writes"
    )
    execute = add_verb("exec", _exec, "run a program where pods and Services can be reached")
    execute.add_argument("--node", default="", metavar="NODE", help="in this node's network (default: the first one's)")
    execute.add_argument("words", metavar="COMMAND", nargs="+", help="the program and its arguments, after --")
    prepare = add_verb("prepare", _prepare, "only get what a start needs, and print where kubectl and Helm are")
    prepare.add_argument("--network-policies", action="store_true", help="and what enforces NetworkPolicies")


def _up(options: argparse.Namespace) -> int:
    console = Console(quiet=options.quiet)
    if options.no_node:
        from nova_cli.cluster.local import LocalCluster  # noqa: PLC0415 - `nova --help` must not import all this

        kubeconfig = LocalCluster(options.name, console).up_control_plane()
    else:
        from nova_cli.cluster.provider import provider  # noqa: PLC0415 - as above

        kubeconfig = provider(console, options.name).up(options.nodes, network_policies=options.network_policies)
    print(f"export KUBECONFIG={kubeconfig}")
    return 0


def _down(options: argparse.Namespace) -> int:
    from nova_cli.cluster.provider import provider  # noqa: PLC0415 - as above

    provider(Console(quiet=options.quiet), options.name).down()
    return 0


def _status(options: argparse.Namespace) -> int:
    from nova_cli.cluster.provider import provider  # noqa: PLC0415 - as above

    status = provider(Console(quiet=options.quiet), options.name).status()
    painter = Console(sys.stdout)
    word = painter.paint("running", "32") if status.running else painter.paint("not running", "31")
    print(f"{status.name} ({status.kind}): {word}")
    for part, text in status.parts.items():
        print(f"  {part:24} {text}")
    if status.running:
        print(f"  {'kubeconfig':24} {status.kubeconfig}")
    return 0 if status.running else 3


def _load(options: argparse.Namespace) -> int:
    from nova_cli.cluster.provider import provider  # noqa: PLC0415 - as above

    for archive in options.archives:
        if not archive.is_file():
            raise CommandError(f"there is no image archive {archive}; `nova images` writes some")
    provider(Console(quiet=options.quiet), options.name).load(options.archives)
    return 0


def _exec(options: argparse.Namespace) -> int:
    from nova_cli.cluster.provider import provider  # noqa: PLC0415 - as above

    command = provider(Console(quiet=options.quiet), options.name).inside(options.words, node=options.node)
    os.execvp(command[0], command)  # noqa: S606 - becoming the command passes signals and exit codes on


def _prepare(options: argparse.Namespace) -> int:
    from nova_cli.cluster import toolchain  # noqa: PLC0415 - as above
    from nova_cli.cluster.provider import provider  # noqa: PLC0415 - as above

    console = Console(quiet=options.quiet)
    provider(console, options.name).prepare(network_policies=options.network_policies)
    print(f"kubectl={toolchain.kubectl(console)}")
    print(f"helm={toolchain.helm(console)}")
    return 0
