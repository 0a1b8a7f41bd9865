"""Sub-commands that have verbs of their own, such as `nova-data outbox install`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from asyncpg import Connection

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where verbs are added to a sub-command."""
Work: TypeAlias = "Callable[[Connection, argparse.Namespace], Awaitable[int]]"
"""What a verb does with a connection; it returns the exit code."""


class _Intermixed(argparse.ArgumentParser):
    """Takes what has no name wherever it stands among options: `replay orders --to other ID`, too.

    https://docs.python.org/3/library/argparse.html#intermixed-parsing
    """

    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._within:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False


def add_command(subparsers: Verbs, name: str, summary: str, epilog: str, *, intermixed: bool = False) -> Verbs:
    """Add a sub-command; returns where its verbs go. `intermixed`: their options and what has no name may stand in any
    order, which does not go together with groups of which only one may be given."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(name, help=summary, description=summary, epilog=epilog, formatter_class=formatter)
    kind = _Intermixed if intermixed else argparse.ArgumentParser
    return parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=kind)


def add_verb(
    verbs: Verbs, name: str, summary: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add a verb; `run` does it and returns the exit code."""
    made = verbs.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    made.set_defaults(func=run)
    return made


def on_database(name: str, package: str, work: Work, *, installs: bool) -> Callable[[argparse.Namespace], int]:
    """Has a verb work on a connection that is called `name`. Unless it `installs` them, the tables of the package have
    to be there (`installing.require`). Nothing of it is loaded before the verb runs: `nova-data --help` needs no
    driver."""

    async def run(given: argparse.Namespace) -> int:
        from nova_data.database import connected  # noqa: PLC0415 - see above

        async with connected(given.database, name=name) as connection:
            if not installs:
                await import_module(f"{package}.installing").require(connection)
            return await work(connection, given)

    return lambda given: asyncio.run(run(given))
