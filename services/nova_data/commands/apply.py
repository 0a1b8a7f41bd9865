"""`nova-data apply`: all that `spec.database` of a NovaService asks for, in order. The operator's Job runs it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from nova_data.commands import options as shared
from nova_data.commands.changing import run_on

EPILOG: Final = """\
examples:
  nova-data apply --spec '{"secretRef": "shop-db", "migrations": {"configMap": "shop-migrations"}}' --folder migrations/

In order: the migrations, the outbox if there is to be one or soft delete writes events, soft delete, the indexes. What
is there is left alone, so it may be run again at any time. exit codes: 0 done, 1 it failed, 2 wrong usage
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "all that spec.database of a NovaService asks for"
    parser = subparsers.add_parser(
        "apply", help=summary, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared.add_database(parser)
    shared.add_service(parser)
    parser.add_argument("--spec", metavar="JSON", required=True, help="spec.database")
    parser.add_argument("--folder", metavar="FOLDER", type=Path, help="where the migrations are, if it has any")
    parser.set_defaults(func=run)


def run(given: argparse.Namespace) -> int:
    """Raises DataError."""
    from nova_data.commands.applying import apply  # noqa: PLC0415 - `nova-data --help` needs no driver

    return run_on(given, "nova-data apply", apply)
