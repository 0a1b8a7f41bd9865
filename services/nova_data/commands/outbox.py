"""`nova-data outbox`: make the outbox, look at it, and help it."""

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from nova_data.commands import options as shared
from nova_data.commands.verbs import Work, add_command, add_verb, on_database
from nova_data.errors import OutboxError
from nova_data.outbox.partitions import AHEAD, KEEP

if TYPE_CHECKING:
    from asyncpg import Connection


EPILOG: Final = """\
examples:
  nova-data outbox install            may be run again, before every rollout say
  nova-data outbox status             as text; --json for programs
  nova-data outbox replay --all       try what failed once more, after its cause is gone
  nova-data outbox discard ID         give an event up, so that later ones of its aggregate go on
  nova-data outbox retain --keep 7    what the relay does every hour by itself

exit codes: 0 done, 1 it failed or (status) something needs a person, 2 wrong usage
"""
DAY: Final = "a whole number of days"


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `nova-data outbox` and its verbs."""
    summary = "events written in the transaction of what they tell of"
    verbs = add_command(subparsers, "outbox", summary, EPILOG)

    def verb(name: str, work: Work, summary: str) -> argparse.ArgumentParser:
        made = add_verb(
            verbs, name, summary, on_database("nova-data outbox", "nova_data.outbox", work, installs=work is _install)
        )
        shared.add_database(made)
        return made

    install = verb(
        "install", _install, "make the table, its partitions and functions, or bring them up to this version"
    )
    status = verb("status", _status, "show what waits, what failed and whether partitions are there")
    replay = verb("replay", _replay, "try failed and quarantined events at once")
    discard = verb("discard", _discard, "remove quarantined events for good, and print them")
    retain = verb("retain", _retain, "make coming partitions and drop old ones in which nothing waits")
    for one in (install, retain):
        shared.add_lock_timeout(one)
    for one in (install, status, retain):
        one.add_argument("--ahead", type=shared.positive, default=AHEAD, metavar="DAYS", help="default: %(default)s")
    for one in (status, retain):
        one.add_argument("--keep", type=shared.positive, default=KEEP, metavar="DAYS", help="default: %(default)s")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="all of them")
    which.add_argument("ids", nargs="*", type=shared.uuid, default=[], metavar="ID", help="ids, as status shows them")
    discard.add_argument("ids", nargs="+", type=shared.uuid, metavar="ID", help="ids, as status shows them")


async def _install(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.outbox.installing import install  # noqa: PLC0415 - as above

    made = await install(connection, lock_timeout=given.lock_timeout, ahead=given.ahead)
    print(f"the outbox is there; new partitions: {', '.join(made) or 'none'}")
    return 0


async def _status(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.outbox.status import read  # noqa: PLC0415 - as above

    state = await read(connection, datetime.now(UTC), keep=given.keep, ahead=given.ahead)
    print(json.dumps(state, indent=2) if given.json else _text(state))
    return 1 if state["quarantined"] or state["partitions"]["missing"] else 0


async def _replay(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.outbox.status import replay  # noqa: PLC0415 - as above

    count = await replay(connection, None if given.all else given.ids)
    print(f"{count} events are tried again")
    return 0


async def _discard(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.outbox.status import discard  # noqa: PLC0415 - as above

    gone = await discard(connection, given.ids)
    for event in gone:
        print(json.dumps(event))
    if len(gone) < len(set(given.ids)):
        raise OutboxError(f"{len(set(given.ids)) - len(gone)} of these ids are of no quarantined event")
    return 0


async def _retain(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.outbox import retention  # noqa: PLC0415 - as above

    now, patience = datetime.now(UTC), given.lock_timeout
    made = await retention.make_partitions(connection, now, lock_timeout=patience, ahead=given.ahead)
    dropped, kept = await retention.drop_partitions(connection, now, lock_timeout=patience, keep=given.keep)
    print(f"new: {', '.join(made) or 'none'}; dropped: {', '.join(dropped) or 'none'}")
    if kept:
        print(f"kept, since events in them were not published: {', '.join(kept)}")
    return 0


def _text(state: dict[str, Any]) -> str:
    there = state["partitions"]
    lines = [
        f"waiting      {state['backlog']} events, the oldest for {state['oldestSeconds']:.1f} s",
        f"retrying     {state['retrying']}",
        f"quarantined  {state['quarantined']}",
        *(
            f"  {one['id']}  {one['aggregate_type']}/{one['aggregate_id']} {one['event_type']}: {one['last_error']}"
            for one in state["firstQuarantined"]
        ),
        f"partitions   {there['there']}, missing: {', '.join(there['missing']) or 'none'}",
        *(
            [f"  to be dropped: {', '.join(there['overdue'])}; one stays while events in it are not published"]
            if there["overdue"]
            else []
        ),
        *(
            [f"  {there['eventsInDefault']} events came while no partition was ready"]
            if there["eventsInDefault"]
            else []
        ),
    ]
    return "\n".join(lines)
