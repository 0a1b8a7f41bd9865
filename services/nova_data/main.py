"""The `nova-data` command: changes a database and sends its events, run by hand, as a Job or as a Deployment.

Each sub-command is a module of `nova_data.commands` with `add(subparsers)`, which adds its parser and sets `func`, a
function from the parsed arguments to an exit code. The modules import what they need when they run, so that
`nova-data --help` needs no driver.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from nova_data.commands import apply, dead_letters, dedup, event_store, indexes, migrate, outbox, relay, soft_delete
from nova_data.errors import DataError

COMMANDS: Final = (migrate, soft_delete, indexes, apply, outbox, relay, dedup, dead_letters, event_store)

EPILOG: Final = """\
examples:
  export DATABASE_URL=postgresql://nova@localhost:5432/shop
  nova-data migrate migrations/                SQL files, each applied once, without making traffic wait
  nova-data soft-delete install                rows that are deleted stay, and say when and by whom
  nova-data outbox install                     the table that events are written to, in one transaction with the rest
  nova-data outbox status                      what waits, what failed, and whether partitions are there
  nova-data relay --brokers localhost:9092     bring events to Kafka
  nova-data dedup install                      idempotency keys, so that an event that comes twice has its effect once
  nova-data dead-letters list orders           messages that a consumer could not handle
  nova-data event-store audit --actor u17      who did what, when

exit codes: 0 done, 1 it failed, 2 wrong usage, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Usage errors raise `SystemExit(2)`, as argparse does."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.func(options))
    except DataError as error:
        print(f"nova-data: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("nova-data: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nova-data",
        description="Tools for services with a PostgreSQL: changes that keep nobody waiting, events never lost.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nova-data {version('nova')}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
