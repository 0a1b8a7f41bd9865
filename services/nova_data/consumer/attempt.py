"""One call of a handler, and how it ended."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from nova_data.errors import ClaimedError, RejectedError


@dataclass(frozen=True)
class Ended:
    """How an attempt ended."""

    kind: Literal["done", "outage", "claimed", "rejected", "failed"]
    error: BaseException | None = None
    wait: float = 0.0
    """Seconds after which to ask again for what another one has claimed."""
    said: object = None
    """What the handler returned."""


async def attempted(
    call: Callable[[], Awaitable[object]], *, within: float, pause_on: tuple[type[BaseException], ...]
) -> Ended:
    """Call, for `within` seconds at most. What is raised is told, but for the cancellation of the task itself."""
    bound = asyncio.timeout(within)
    try:
        async with bound:
            return Ended("done", said=await call())
    except ClaimedError as error:
        return Ended("claimed", error, error.retry_after)
    except RejectedError as error:
        return Ended("rejected", error)
    except asyncio.CancelledError as error:
        if _ours_to_end():
            raise
        return Ended("failed", error)  # the handler awaited what somebody else has cancelled
    except Exception as error:  # whatever it is, the message gets another chance
        outage = isinstance(error, pause_on) and not bound.expired()
        return Ended("outage" if outage else "failed", error)


def _ours_to_end() -> bool:
    """Whether it is this task that is to be cancelled."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
