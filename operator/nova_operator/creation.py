"""Makes all children of a service that has none yet, without asking first.

Whether a name is free and whether the API server takes a Deployment could be asked before anything is written, and is,
once something went wrong. But the answer is yes nearly always, and asking doubles the requests; a thousand services
that begin at once would feel it. So each object is written on the condition that there is none of its name, what pods
need first and the Deployment last, and if one is refused, those that were made are deleted again: all or nothing. An
operator that is killed in between leaves a part of them, owned by the service, and its next life goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from nova_operator.cluster import StaleError
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import DEPLOYMENT
from nova_operator.plan import Action, Apply, Prune
from nova_operator.pods import Trouble


class ObstacleError(Exception):
    """Nothing can be written; the trouble says what to do."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def is_creation(actions: Sequence[Action]) -> bool:
    """Whether a plan makes everything and finds nothing there."""
    return len(actions) > 1 and all(isinstance(action, Apply) and action.why == "missing" for action in actions)


async def create(
    actions: Sequence[Apply],
    write: Callable[[Apply], Awaitable[Manifest]],
    delete: Callable[[Prune], Awaitable[None]],
) -> None:
    """`write` makes an object or raises; a refusal (ObstacleError) or a taken name (StaleError) is undone with
    `delete`. What may work later is not: the next run goes on from there."""
    made: list[Prune] = []
    for late in (False, True):
        batch = [action for action in actions if (action.child.kind is DEPLOYMENT) is late]
        results = await asyncio.gather(*(write(action) for action in batch), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        made += [
            Prune(action.child, result["metadata"]["uid"])
            for action, result in zip(batch, results, strict=True)
            if not isinstance(result, BaseException)
        ]
        if failures:
            if all(isinstance(failure, ObstacleError | StaleError) for failure in failures):
                await asyncio.gather(*(delete(one) for one in reversed(made)))
            raise failures[0]
