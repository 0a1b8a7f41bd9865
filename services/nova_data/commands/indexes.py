"""`nova-data indexes`: indexes that there must be; `nova-data explain`: what they are worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nova_data.commands import options as shared
from nova_data.commands.changing import add_patience, run_on
from nova_data.commands.verbs import add_verb

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG: Final = """\
examples:
  nova-data indexes verify                     whether they are there and can be used
  nova-data indexes apply                      build what is missing, while the tables are in use
  nova-data indexes apply --spec indexes.json  others: [{"table": "posts", "columns": ["user_id", "created_at desc"],
                                                         "where": "deleted_at IS NULL"}]
  nova-data indexes repair                     rebuild every broken index of the database

Without --spec they are those that a social backend usually misses, of the tables that there are.
exit codes: 0 done, 1 it failed or (verify) something is missing, 2 wrong usage
"""
EXPLAIN: Final = """\
examples:
  nova-data explain                        1 000 000 rows
  nova-data explain --rows 12000000        6 M messages, 4 M posts, 2 M follows; about 3 GB of disk

The data lies in the schema nova_explain, which is dropped at the end. exit codes: 0 done, 1 it failed, 2 wrong usage
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands."""
    formatter = argparse.RawDescriptionHelpFormatter
    summary = "indexes that there must be, built while tables are in use"
    parser = subparsers.add_parser("indexes", help=summary, epilog=EPILOG, formatter_class=formatter)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, does in (
        ("apply", "build what is missing or broken"),
        ("plan", "show what apply would run"),
        ("verify", "look whether they are there"),
        ("repair", "rebuild every broken index of the database, wanted or not"),
    ):
        verb = add_verb(verbs, name, does, _run(name))
        shared.add_database(verb)
        add_patience(verb)
        if name != "repair":
            verb.add_argument(
                "--spec", metavar="FILE", type=Path, help="a JSON list of indexes, as in spec.database.indexes"
            )
    summary = "plan and time of queries before and after, on data that is made for it"
    explain = subparsers.add_parser("explain", help=summary, epilog=EXPLAIN, formatter_class=formatter)
    shared.add_database(explain)
    add_patience(explain)
    explain.add_argument(
        "--rows", metavar="N", type=_rows, default=1_000_000, help="of all tables (default: %(default)s)"
    )
    explain.add_argument("--keep", action="store_true", help="leave the data there")
    explain.add_argument("--json", action="store_true", help="as one JSON list")
    explain.set_defaults(func=_run("explain"))


def _run(verb: str) -> Callable[[argparse.Namespace], int]:
    def run(given: argparse.Namespace) -> int:
        from nova_data.commands import indexing  # noqa: PLC0415 - `nova-data --help` needs no driver

        return run_on(given, f"nova-data indexes {verb}", indexing.VERBS[verb])

    return run


def _rows(text: str) -> int:
    number = shared.positive(text)
    if number < 1000:
        raise argparse.ArgumentTypeError(f"expected at least 1000, got {text}")
    return number
