"""`nova-data migrate`: put a folder of migrations into force, or show what that would do."""

from __future__ import annotations

import argparse
from pathlib import Path

from nova_data.commands import options as shared
from nova_data.commands.changing import add_patience, run_on

DESCRIPTION = """\
Applies the SQL files of a folder (0001_users.sql, 0002_...) that the database has not seen, each once and in order.
No statement makes traffic wait for long: locks are waited for briefly and asked for again, and what holds up traffic
longer than --hold is taken back.
"""
EPILOG = """\
examples:
  nova-data migrate migrations/                 apply what is pending
  nova-data migrate migrations/ --dry-run       the SQL, and the locks it takes by PostgreSQL's documentation
  nova-data migrate migrations/ --try           run it, read the locks out of the database, take everything back
  nova-data migrate migrations/ --status        what has been applied, and how

A file whose first line is `-- nova: no-transaction` runs statement by statement, which CONCURRENTLY asks for.
exit codes: 0 done, 1 it failed or the database cannot be reached, 2 wrong usage
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "migrate",
        help="apply SQL migrations without making traffic wait",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the .sql files are")
    shared.add_database(parser)
    shared.add_service(parser)
    add_patience(parser)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--dry-run", action="store_true", help="show the pending SQL with its locks, and change nothing")
    modes.add_argument("--try", dest="trial", action="store_true", help="run what is pending, and take it back")
    modes.add_argument("--status", action="store_true", help="show what has been applied")
    modes.add_argument(
        "--accept", metavar="VERSION", type=int, help="take over the content that an applied file has now"
    )
    parser.set_defaults(func=run)


def run(given: argparse.Namespace) -> int:
    """Raises DataError."""
    from nova_data.commands.migrating import migrate  # noqa: PLC0415 - `nova-data --help` needs no driver

    return run_on(given, "nova-data migrate", migrate)
