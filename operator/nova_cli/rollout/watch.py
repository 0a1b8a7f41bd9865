"""`nova rollout status`: where a canary stands and, with `--watch`, how it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nova_api.status import NovaServiceStatus, RolloutStatus
from nova_cli.errors import CommandError
from nova_cli.rollout.view import describe
from nova_operator import reasons
from nova_operator.cluster import UnavailableError
from nova_operator.rollout.machine import is_under_way
from nova_operator.status import read

PERIOD: Final = 1.0
"""Seconds between two looks."""

PATIENCE: Final = 60.0
"""Seconds for which an API server that does not answer is asked again: its restart is no end of a canary."""


async def follow(get: Callable[[], Awaitable[dict[str, Any]]], *, watch: bool) -> int:
    """Print where a canary stands and, with `watch`, how it goes on, until what the present spec started is over.

    Returns the exit code. Raises CommandError where that needs somebody, and what `get` does: at the first look at
    once, since the API server may be the wrong one, and UnavailableError later on only after `PATIENCE`.
    """
    said: str | RolloutStatus | None = None
    document = await get()
    while True:
        status = read(document.get("status"))
        ahead = _ahead(document, status) if watch else ""
        if (ahead or status.rollout) != said:
            print(ahead or describe(document, status.rollout, time.time()), flush=True)
            said = ahead or status.rollout
        if not watch or not (ahead or is_under_way(status.rollout)):
            return 1 if status.rollout.phase == "Aborted" else 0
        await asyncio.sleep(PERIOD)
        document = await _next(get)


async def _next(get: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What there is, asked again while there is no answer."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await get()
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(PERIOD)


def _ahead(document: dict[str, Any], status: NovaServiceStatus) -> str:
    """What the present spec waits for before its canary begins; empty where it has begun, or none will. Who has just
    changed a template finds the end of the canary before, which says nothing of this one.

    Raises CommandError where the spec cannot be put into force. Of a canary that was taken back the rollout tells, and
    sooner than the condition does.
    """
    metadata = document["metadata"]
    head = f"{metadata['name']} in {metadata['namespace']}"
    if status.observed_generation != metadata["generation"]:
        return f"{head}: the operator has not looked at this spec yet"
    found = {one.type: one for one in status.conditions}
    stalled, database = found.get("Stalled"), found.get("DatabaseReady")
    if stalled is not None and stalled.reason != reasons.CANARY_ABORTED:
        raise CommandError(f"{metadata['name']} goes on only when somebody acts: {stalled.message}")
    if database is None or database.status == "True" or is_under_way(status.rollout):
        return ""
    return f"{head}: waits for its database: {database.message}"
