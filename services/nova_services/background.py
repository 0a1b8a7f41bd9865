"""Work that goes on beside what a process serves, and ends with it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from nova_services.logs import get_logger


@asynccontextmanager
async def background(work: Coroutine[Any, Any, object], name: str) -> AsyncIterator[None]:
    """Work while the block runs; it is cancelled at the end. Where it fails before, the process is asked to end, in
    good order, and the error is raised at the end of the block: work that has silently stopped is found by nobody."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ending_with)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def ending_with(task: "asyncio.Task[Any]") -> None:
    """To be called when a task is done: one that has failed ends the process, in good order."""
    if not task.cancelled() and (error := task.exception()) is not None:
        get_logger().error("background work failed", work=task.get_name(), exc_info=error)
        signal.raise_signal(signal.SIGTERM)
