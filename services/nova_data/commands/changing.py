"""What the commands share that change a schema: how patient to be, and an end in good order."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from nova_data.commands import options as shared
from nova_data.errors import DatabaseError
from nova_data.schema.patience import Patience

if TYPE_CHECKING:
    from nova_data.schema.database import Connection

    Work = Callable[[argparse.Namespace, Connection], Awaitable[int]]

_DEFAULT = Patience()


def add_patience(parser: argparse.ArgumentParser) -> None:
    """How long locks are waited for and held."""
    group = parser.add_argument_group("how patient to be")
    shared.add_lock_timeout(group)
    group.add_argument(
        "--hold",
        metavar="TIME",
        type=shared.seconds,
        default=_DEFAULT.hold,
        help="hold up traffic no longer than this in one transaction, or take it back (default: 5s)",
    )
    group.add_argument(
        "--timeout",
        metavar="TIME",
        type=shared.seconds,
        default=_DEFAULT.timeout,
        help="give up after so long in all (default: 10m)",
    )


def patience_of(given: argparse.Namespace) -> Patience:
    """What was said of it."""
    return Patience(lock_timeout=given.lock_timeout, hold=given.hold, timeout=given.timeout)


def say(line: str) -> None:
    """To who started it, at once."""
    print(line, flush=True)


def run_on(given: argparse.Namespace, name: str, work: Work) -> int:
    """Do something on a connection; the exit code. SIGTERM ends it as Ctrl-C does: what runs in the database is
    cancelled, and a transaction taken back. Raises DataError."""
    from nova_data.database import connected  # noqa: PLC0415 - `nova-data --help` needs no driver

    async def main() -> int:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with connected(given.database, name=name) as connection:
            return await work(given, connection)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError as error:
        raise DatabaseError("told to stop; run the command again to go on") from error
