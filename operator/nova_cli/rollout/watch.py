"""`nova rollout status`: where a canary stands and, with `--watch`, how it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from nova_api.status import Condition, NovaServiceStatus, RolloutStatus
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


async def follow(
    get: Callable[[], Awaitable[dict[str, Any]]], *, watch: bool, clock: Callable[[], float] = time.monotonic
) -> int:
    """Print where a canary stands and, with `watch`, how it goes on, until what the present spec started is over.

    Returns the exit code. Raises CommandError where that needs somebody, and what `get` does: at the first look at
    once, since the API server may be the wrong one, and UnavailableError later on only after `PATIENCE`.
    """
    said: str | RolloutStatus | None = None
    document, looked = await get(), clock()
    while True:
        status = read(document.get("status"))
        looked = clock() if _is_seen(document, status) else looked
        ahead = _ahead(document, status, clock() - looked) if watch else ""
        if (ahead or status.rollout) != said:
            print(ahead or describe(document, status.rollout, time.time()), flush=True)
            said = ahead or status.rollout
        if not watch or not (ahead or is_under_way(status.rollout)):
            return 1 if status.rollout.phase == "Aborted" else 0
        await asyncio.sleep(PERIOD)
        document = await _next(get, clock)


async def _next(get: Callable[[], Awaitable[dict[str, Any]]], clock: Callable[[], float]) -> dict[str, Any]:
    """What there is, asked again while there is no answer."""
    deadline = clock() + PATIENCE
    while True:
        try:
            return await get()
        except UnavailableError:
            if clock() > deadline:
                raise
        await asyncio.sleep(PERIOD)


def _is_seen(document: dict[str, Any], status: NovaServiceStatus) -> bool:
    """Whether the operator has looked at the present spec."""
    return bool(status.observed_generation == document["metadata"]["generation"])


def _ahead(document: dict[str, Any], status: NovaServiceStatus, unseen: float) -> str:
    """What the present spec waits for before its canary begins; empty where it has begun, or none will. Who has just
    changed a template finds the end of the canary before, which says nothing of this one. `unseen`: seconds for which
    nobody has looked at it; each full minute is said.

    Raises CommandError where the spec cannot be put into force.
    """
    metadata = document["metadata"]
    head = f"{metadata['name']} in {metadata['namespace']}"
    if not _is_seen(document, status):
        minutes = int(unseen // 60)
        asks = f", for {minutes} min; is an operator running for this namespace?" if minutes else ""
        return f"{head}: the operator has not looked at this spec yet{asks}"
    found = {one.type: one for one in status.conditions}
    database = found.get("DatabaseReady")
    waits = database is not None and database.status != "True" and not is_under_way(status.rollout)
    if "Stalled" in found and not _goes_on(found, status.rollout, waits=waits):
        raise CommandError(f"{metadata['name']} goes on only when somebody acts: {found['Stalled'].message}")
    return f"{head}: waits for its database: {found['DatabaseReady'].message}" if waits else ""


def _goes_on(found: Mapping[str, Condition], rollout: RolloutStatus, *, waits: bool) -> bool:
    """Whether it comes to an end in spite of Stalled. Of a canary that was taken back the rollout tells, and sooner
    than the condition does. Late are only pods of the stable version: as long as that has another template than the
    spec, they hold up no canary, which may be what mends them. That it gets this one is written down before the
    conditions know of it, which speak of the other one until then."""
    reason = found["Stalled"].reason
    if reason != reasons.PROGRESS_DEADLINE_EXCEEDED:
        return reason == reasons.CANARY_ABORTED
    if rollout.phase == "Promoting":
        return "Canary" not in found or found["Canary"].reason != reasons.CANARY_PROMOTING
    return waits or rollout.phase not in {"Idle", "Promoted"}
