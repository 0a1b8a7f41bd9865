"""`nova-data dedup`: the table of idempotency keys."""

import argparse
import json
from typing import TYPE_CHECKING, Any, Final

from nova_data.commands import options as shared
from nova_data.commands.verbs import Work, add_command, add_verb, on_database

if TYPE_CHECKING:
    from asyncpg import Connection


EPILOG: Final = """\
examples:
  nova-data dedup install                     may be run again, before every rollout say
  nova-data dedup prune                       more often than twice in a lifetime: every hour say
  nova-data dedup status                      how many keys there are
  nova-data dedup forget --scope billing KEY  let an event have its effect once more

exit codes: 0 done, 1 it failed or (forget) a key was not known, 2 wrong usage
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `nova-data dedup` and its verbs."""
    summary = "idempotency keys, so that an event that comes twice has its effect once"
    verbs = add_command(subparsers, "dedup", summary, EPILOG)

    def verb(name: str, work: Work, summary: str) -> argparse.ArgumentParser:
        made = add_verb(
            verbs, name, summary, on_database("nova-data dedup", "nova_data.dedup", work, installs=work is _install)
        )
        shared.add_database(made)
        return made

    install = verb("install", _install, "make the table, or bring it up to this version")
    prune = verb("prune", _prune, "empty what is older than a lifetime")
    status = verb("status", _status, "show how long keys are known, and how many there are")
    forget = verb("forget", _forget, "let events have their effect once more")
    for one in (install, prune):
        shared.add_lock_timeout(one)
    install.add_argument(
        "--lifetime", type=shared.seconds, default=86400.0, metavar="TIME", help="a key is known so long at least (24h)"
    )
    status.add_argument("--json", action="store_true", help="as one JSON object")
    forget.add_argument("--scope", required=True, help="of the keys: what the handler gave PostgresKeys")
    forget.add_argument("keys", nargs="+", metavar="KEY", help="idempotency keys")


async def _install(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.dedup.installing import install  # noqa: PLC0415 - as above

    await install(connection, lifetime=given.lifetime, lock_timeout=given.lock_timeout)
    print("the table of keys is there")
    return 0


async def _prune(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.dedup.installing import prune  # noqa: PLC0415 - as above

    there = await prune(connection, lock_timeout=given.lock_timeout)
    print("old keys are gone" if there else "nothing is old enough")
    return 0


async def _status(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.dedup.installing import status  # noqa: PLC0415 - as above

    state = await status(connection)
    print(json.dumps(state, indent=2) if given.json else _text(state))
    return 0


async def _forget(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.dedup.installing import forget  # noqa: PLC0415 - as above

    known = [await forget(connection, given.scope, key) for key in given.keys]
    for key, was in zip(given.keys, known, strict=True):
        print(f"{key}: {'forgotten' if was else 'was not known'}")
    return 0 if all(known) else 1


def _text(state: dict[str, Any]) -> str:
    marks = {state["writes"]: "  (written now)", state["next"]: "  (emptied by prune)"}
    return "\n".join(
        [
            f"keys are known for {state['lifetimeSeconds'] / 3600:g} h at least",
            *(
                f"{name}  about {one['keys']} keys, {one['bytes'] / 1e6:.1f} MB{marks.get(name, '')}"
                for name, one in state["slots"].items()
            ),
        ]
    )
