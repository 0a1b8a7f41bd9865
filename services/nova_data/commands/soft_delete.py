"""`nova-data soft-delete`: the same soft delete for every table, and what has to do with it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from nova_api.database import SOFT_DELETED
from nova_data.commands import options as shared
from nova_data.commands.changing import add_patience, run_on
from nova_data.commands.verbs import add_verb

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG: Final = """\
examples:
  nova-data soft-delete plan                    the SQL that install would run
  nova-data soft-delete install                 may be run again; what is there is left alone
  nova-data soft-delete verify                  exit code 1 and what is missing, if anything is
  nova-data soft-delete audit --since 24h       who deleted what
  nova-data soft-delete erase --person ID --reference TICKET-17
                                                remove a person's rows for good
  nova-data soft-delete undo                    back to DELETE as it was; the columns stay

exit codes: 0 done, 1 it failed or (verify) something is missing, 2 wrong usage
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its verbs."""
    formatter = argparse.RawDescriptionHelpFormatter
    summary = "rows that are deleted stay, and say when and by whom"
    parser = subparsers.add_parser("soft-delete", help=summary, epilog=EPILOG, formatter_class=formatter)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        made = add_verb(verbs, name, summary, _run(name))
        shared.add_database(made)
        made.add_argument(
            "--table",
            dest="tables",
            metavar="TABLE",
            action="append",
            help=f"may be repeated (default: {', '.join(SOFT_DELETED)}, all of them)",
        )
        return made

    for name, summary in (
        ("install", "bring soft delete to tables, without making traffic wait"),
        ("plan", "show what install would run"),
        ("verify", "look whether all of it is there"),
    ):
        _add_wish(verb(name, summary))
    undo = verb("undo", "take it back, without making traffic wait")
    undo.add_argument("--drop-columns", action="store_true", help="drop deleted_at and deleted_by too")
    audit = verb("audit", "show who deleted what, newest first, as JSON lines")
    audit.add_argument("--by", type=shared.uuid, metavar="ID", help="of one person alone")
    audit.add_argument("--since", type=shared.seconds, metavar="TIME", default=7 * 86400.0, help="default: 7d")
    audit.add_argument("--limit", type=shared.positive, metavar="N", default=100, help="default: %(default)s")
    audit.add_argument("--erasures", action="store_true", help="the records of erasures instead")
    erase = verb("erase", "remove a person's rows for good, and what refers to them")
    erase.add_argument("--person", type=shared.uuid, metavar="ID", required=True, help="as it stands in the tables")
    erase.add_argument("--reference", metavar="TEXT", required=True, help="a ticket's number, kept in the record")
    erase.add_argument(
        "--of",
        dest="places",
        metavar="TABLE.COLUMN",
        action="append",
        help="column that says whose a row is; may be repeated (default: those that posts, comments, messages, "
        "follows, blocks and media usually have)",
    )
    for name in ("install", "undo", "erase"):
        add_patience(verbs.choices[name])


def _add_wish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode",
        choices=("Convert", "Refuse"),
        default="Convert",
        help="what becomes of DELETE: a soft deletion, or an error (default: %(default)s)",
    )
    parser.add_argument("--no-events", dest="events", action="store_false", help="write nothing into the outbox")


def _run(verb: str) -> Callable[[argparse.Namespace], int]:
    def run(given: argparse.Namespace) -> int:
        from nova_data.commands import soft_deleting  # noqa: PLC0415 - `nova-data --help` needs no driver

        given.tables = tuple(given.tables or SOFT_DELETED)
        return run_on(given, f"nova-data soft-delete {verb}", soft_deleting.VERBS[verb])

    return run
