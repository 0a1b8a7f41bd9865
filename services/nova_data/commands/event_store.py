"""`nova-data event-store`: the tables of an event store, and its trail."""

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from nova_data.commands import options as shared
from nova_data.commands.verbs import Work, add_command, add_verb, on_database

if TYPE_CHECKING:
    from asyncpg import Connection

    from nova_data.event_store.store import Event


EPILOG: Final = """\
examples:
  nova-data event-store install                          may be run again; after a dump was loaded it must be
  nova-data event-store audit --stream order/42          what happened to an order, newest first
  nova-data event-store audit --actor u17 --since 2026-11-01T00:00:00Z
  nova-data event-store projections                      how far each one is

exit codes: 0 done, 1 it failed, 2 wrong usage
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `nova-data event-store` and its verbs."""
    summary = "what happened, written once, and who did it"
    verbs = add_command(subparsers, "event-store", summary, EPILOG)

    def verb(name: str, work: Work, summary: str) -> argparse.ArgumentParser:
        made = add_verb(
            verbs,
            name,
            summary,
            on_database("nova-data event-store", "nova_data.event_store", work, installs=work is _install),
        )
        shared.add_database(made)
        return made

    shared.add_lock_timeout(verb("install", _install, "make the tables, or bring them up to this version"))
    verb("projections", _projections, "show how far projections are")
    audit = verb("audit", _audit, "print events as JSON lines, newest first")
    audit.add_argument("--stream", metavar="TYPE/ID", type=_stream, help="of this stream")
    audit.add_argument("--type", metavar="TYPE", help="of streams of this type")
    audit.add_argument("--actor", metavar="ID", help="who did it")
    audit.add_argument("--correlation-id", metavar="ID", help="in this request")
    audit.add_argument("--since", metavar="TIME", type=_time, help="ISO 8601, from then on")
    audit.add_argument("--until", metavar="TIME", type=_time, help="before then")
    audit.add_argument("--limit", type=shared.positive, default=100, help="default: %(default)s")


async def _install(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.event_store.installing import install  # noqa: PLC0415 - as above

    await install(connection, lock_timeout=given.lock_timeout)
    print("the event store is there")
    return 0


async def _projections(connection: "Connection", _given: argparse.Namespace) -> int:
    rows = await connection.fetch("SELECT name, events, moved_at FROM event_projections ORDER BY name")
    for name, events, moved in rows:
        print(f"{name}  {events} events, last {moved.astimezone(UTC).isoformat(timespec='seconds')}")
    if not rows:
        print("none")
    return 0


async def _audit(connection: "Connection", given: argparse.Namespace) -> int:
    from nova_data.event_store.audit import trail  # noqa: PLC0415 - as above
    from nova_data.event_store.store import Stream  # noqa: PLC0415 - as above

    found = await trail(
        connection,
        stream_type=given.type,
        stream=given.stream and Stream(*given.stream),
        actor=given.actor,
        correlation_id=given.correlation_id,
        since=given.since,
        until=given.until,
        limit=given.limit,
    )
    for event in found:
        print(json.dumps(_shown(event)))
    return 0


def _shown(event: "Event") -> dict[str, object]:
    return {
        "at": event.recorded_at.astimezone(UTC).isoformat(),
        "stream": str(event.stream),
        "version": event.version,
        "type": event.type,
        "actor": event.actor,
        "correlationId": event.correlation_id,
        "data": event.data,
    }


def _stream(text: str) -> tuple[str, str]:
    kind, slash, identity = text.partition("/")
    if not (kind and slash and identity):
        raise argparse.ArgumentTypeError(f"expected TYPE/ID, got {text[:40]!r}")
    return kind, identity


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-11-01T00:00:00Z, got {text[:40]!r}") from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)
