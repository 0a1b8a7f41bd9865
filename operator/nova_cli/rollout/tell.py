"""`nova rollout promote`, `abort` and `retry`: written down, and waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nova_api.status import RolloutStatus
from nova_cli.errors import CommandError
from nova_cli.rollout.service import Service
from nova_cli.rollout.view import describe
from nova_operator.cluster import UnavailableError
from nova_operator.rollout.command import Verb, command_for
from nova_operator.rollout.machine import is_under_way
from nova_operator.status import read

PERIOD: Final = 0.25
"""Seconds between two looks."""

ANSWER_WITHIN: Final = 15.0
"""Seconds in which the operator has taken up what it was told, and the API server says so."""


async def tell(service: Service, verb: Verb) -> int:
    """Write down what is wanted of the canary, and wait until the operator has done it; returns the exit code.

    Raises CommandError where that would do nothing, or did nothing since the canary's course was faster.
    """
    document = await service.get()
    before = _rollout(document)
    _check(service, verb, before)
    command = command_for(verb, before)
    await service.annotate(document, str(command))
    document = await _until(service.get, lambda rollout: _is_answered(verb, before, rollout))
    after = _rollout(document)
    if fate := _missed(verb, before, after):
        raise CommandError(
            f"nothing was done: the canary {before.canary} of {service.name} {fate}; "
            f"see what there is now with: nova rollout status {service.name}"
        )
    print(describe(document, after, time.time()))
    return 0


def _rollout(document: dict[str, Any]) -> RolloutStatus:
    return read(document.get("status")).rollout


async def _until(get: Callable[[], Awaitable[dict[str, Any]]], done: Callable[[RolloutStatus], bool]) -> dict[str, Any]:
    """What there is when the operator has done it. Raises CommandError if it does not, or if the API server does not
    say so: what is written down may be done all the same."""
    deadline = time.monotonic() + ANSWER_WITHIN
    while True:
        try:
            if done(_rollout(document := await get())):
                return document
            lacking = "the operator has not taken it up; see: kubectl -n nova-system get pods"
        except UnavailableError as error:
            lacking = f"the API server does not say whether it is done: {error}"
        if time.monotonic() > deadline:
            raise CommandError(f"it is written down, but {lacking}")
        await asyncio.sleep(PERIOD)


def _is_answered(verb: Verb, before: RolloutStatus, now: RolloutStatus) -> bool:
    """Whether the operator did it, or it is too late for that. What happens to the canary anyway, such as its pods
    becoming ready, is no answer."""
    if now.started != before.started:
        return True
    if verb == "retry":
        return now.phase != "Aborted"
    over = now.phase == "Promoting" or not is_under_way(now)
    return over or (verb == "promote" and now.step != before.step)


def _missed(verb: Verb, before: RolloutStatus, now: RolloutStatus) -> str:
    """What became of the canary that was spoken of, where that was not what somebody wanted; else empty. Who said abort
    must not think that a newer version is taken back, too, and who said retry that a newer one is the same."""
    if verb == "retry" and before.canary in {now.canary, now.stable}:  # stable at once, where no old pod works
        return f"was taken back again: {now.message}" if now.phase == "Aborted" else ""
    if now.started != before.started:
        return "gave way to a change of the spec"
    if verb == "promote":
        return "was taken back" if now.phase == "Aborted" else ""
    return "" if now.phase == "Aborted" else "comes into force already"


def _check(service: Service, verb: Verb, rollout: RolloutStatus) -> None:
    """Refuse what would do nothing, and say what would."""
    under_way = is_under_way(rollout)
    if verb == "retry" and rollout.phase != "Aborted":
        state = "its canary is still under way" if under_way else "no canary of it was aborted"
        raise CommandError(f"{service.name} has nothing to retry: {state}")
    if verb != "retry" and not under_way:
        advice = "try it again with: nova rollout retry" if rollout.phase == "Aborted" else "change its pod template"
        raise CommandError(f"{service.name} has no canary under way ({rollout.phase}); to begin one, {advice}")
    if rollout.phase == "Promoting":
        raise CommandError(
            f"the new version of {service.name} is coming into force already; to go back, apply the old template: it "
            "gets a canary too, and with spec.rollout.strategy Rolling it rolls back without one"
        )
