"""`nova services`: PostgreSQL, Redis and Kafka for a developer."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from nova_cli.cluster.cache import cache_root, locked
from nova_cli.console import Console
from nova_cli.services.running import SERVERS, Server, down, forget, running, up

ROOTS_FOLDER = Path("/var/tmp/nova-services")  # noqa: S108 - not for secrets: data of a developer's servers
OTHERWISE = "name one that can with --data"
EPILOG = """\
examples:
  nova services up                  all three, and what to put into the environment
  nova services up postgres kafka   only these
  eval "$(nova services up --quiet)" && nova-data outbox install
  nova services down --delete       stop them and remove their data

They listen on 127.0.0.1, without passwords. Ports and data stay the same until `down --delete`; both lie in
~/.cache/nova/services (root: /var/tmp/nova-services), or where --data says, and so do logs.

exit codes: 0 done, 1 it failed, 2 wrong usage or something is missing on this machine, 3 (status) not all of them run
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `nova services` and its verbs."""
    summary = "start and stop PostgreSQL, Redis and Kafka on this machine"
    parser = subparsers.add_parser(
        "services",
        help=summary,
        description=summary,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, func: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        names = [server.name for server in SERVERS]
        made.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(names)} (default: all)")
        made.add_argument("--data", type=Path, metavar="FOLDER", help="where data, logs and ports are kept")
        made.add_argument("--quiet", action="store_true", help="print results only, no progress")
        made.set_defaults(func=func)
        return made

    verb("up", _up, "start them, unless they run, and print their URLs")
    stop = verb("down", _down, "stop them")
    stop.add_argument("--delete", action="store_true", help="remove their data too")
    verb("status", _status, "show what runs")


def _up(options: argparse.Namespace) -> int:
    folder, console = _folder(options), Console(quiet=options.quiet)
    with locked(folder / ".lock", otherwise=OTHERWISE):
        for server in _chosen(options):
            print(f"export {server.variable}={up(folder, server, console)}", flush=True)
    return 0


def _down(options: argparse.Namespace) -> int:
    folder = _folder(options)
    with locked(folder / ".lock", otherwise=OTHERWISE):
        for server in reversed(_chosen(options)):
            print(f"{server.name}: {'stopped' if down(folder, server) else 'did not run'}")
            if options.delete:
                forget(folder, server)
    return 0


def _status(options: argparse.Namespace) -> int:
    folder = _folder(options)
    found = {server: running(folder, server) for server in _chosen(options)}
    for server, url in found.items():
        print(f"{server.name:10} {url or 'not running'}")
    return 0 if all(found.values()) else 3


def _chosen(options: argparse.Namespace) -> list[Server]:
    known = {server.name: server for server in SERVERS}
    if unknown := [name for name in options.names if name not in known]:
        print(f"nova: {unknown[0]}: expected {', '.join(known)}", file=sys.stderr)
        raise SystemExit(2)
    return [server for name, server in known.items() if not options.names or name in options.names]


def _folder(options: argparse.Namespace) -> Path:
    """Root's home is closed to the user that PostgreSQL then runs as."""
    folder: Path | None = options.data
    return folder.absolute() if folder else (cache_root() / "services" if os.geteuid() else ROOTS_FOLDER)
