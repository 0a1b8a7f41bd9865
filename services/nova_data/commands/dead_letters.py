"""`nova-data dead-letters`: messages that a consumer could not handle."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from nova_data.commands import options as shared
from nova_data.commands.verbs import add_command, add_verb

if TYPE_CHECKING:
    from nova_data.consumer.dead_letter_list import DeadLetterList

    Work = Callable[[DeadLetterList, argparse.Namespace], int]

EPILOG: Final = """\
examples:
  nova-data dead-letters list orders                  those of the topic orders; --json for programs
  nova-data dead-letters replay orders orders/3/1234  put one back, when the cause is gone
  nova-data dead-letters replay orders --all
  nova-data dead-letters drop orders orders/3/1234    give one up

A message that is put back has the same idempotency key, so what it did before it failed is not done again by a consumer
that deduplicates. It comes after what its topic has got since.

exit codes: 0 done, 1 it failed or (list) there are some, 2 wrong usage
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `nova-data dead-letters` and its verbs."""
    summary = "messages that a consumer could not handle"
    verbs = add_command(subparsers, "dead-letters", summary, EPILOG, intermixed=True)

    def verb(name: str, work: "Work", summary: str) -> argparse.ArgumentParser:
        made = add_verb(verbs, name, summary, lambda given: work(_opened(given), given))
        made.add_argument("topic", metavar="TOPIC", help="where the messages came from")
        shared.add_brokers(made)
        return made

    listed = verb("list", _list, "show them, without what is in them")
    listed.add_argument("--json", action="store_true", help="as a JSON list")
    replay = verb("replay", _replay, "put messages back into their topic")
    replay.add_argument("--to", metavar="TOPIC", help="into another topic")
    for one in (replay, verb("drop", _drop, "give messages up, and print their headers")):
        one.add_argument("ids", nargs="*", metavar="ID", help="topic/partition/offset, as list shows it")
        one.add_argument("--all", action="store_true", help="all of them")


def _opened(given: argparse.Namespace) -> "DeadLetterList":
    from nova_data.consumer.dead_letter_list import DeadLetterList  # noqa: PLC0415 - `nova-data --help` needs no client

    if hasattr(given, "ids") and bool(given.ids) is given.all:
        print("nova-data dead-letters: expected ids, or --all", file=sys.stderr)
        raise SystemExit(2)
    return DeadLetterList(given.brokers, given.topic, {**shared.in_file(given), **dict(given.kafka)})


def _list(there: "DeadLetterList", given: argparse.Namespace) -> int:
    found = [letter.shown() for letter in there.read().values()]
    print(json.dumps(found, indent=2) if given.json else "\n".join(map(_line, found)) or "none")
    return 1 if found else 0


def _replay(there: "DeadLetterList", given: argparse.Namespace) -> int:
    done = there.replay(None if given.all else given.ids, to=given.to)
    print(f"{len(done)} messages were put back")
    return 0


def _drop(there: "DeadLetterList", given: argparse.Namespace) -> int:
    for letter in there.drop(None if given.all else given.ids):
        print(json.dumps(letter.shown()))
    return 0


def _line(one: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(one["at"], UTC).isoformat(timespec="seconds")
    again = f", replayed {one['replayed']}" if one["replayed"] else ""
    return f"{one['id']}  {when}  {one['group']}: {one['reason']} after {one['attempts']}{again}: {one['error']}"
