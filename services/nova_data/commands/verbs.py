"""Sub-commands that have verbs of their own, such as `nova-data outbox install`."""

import argparse
from collections.abc import Callable
from typing import TypeAlias

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where verbs are added to a sub-command."""


def add_command(subparsers: Verbs, name: str, summary: str, epilog: str) -> Verbs:
    """Add a sub-command; returns where its verbs go."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(name, help=summary, description=summary, epilog=epilog, formatter_class=formatter)
    return parser.add_subparsers(title="verbs", metavar="VERB", required=True)


def add_verb(
    verbs: Verbs, name: str, summary: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add a verb; `run` does it and returns the exit code."""
    made = verbs.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    made.set_defaults(func=run)
    return made
