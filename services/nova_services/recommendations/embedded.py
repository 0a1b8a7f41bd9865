"""The analytics store in this process: chdb, which is ClickHouse as a library.

It is one more dependency of some hundred megabytes, so it is an extra of its own (`pip install nova[analytics]`) and is
imported where a store is opened, and nowhere else. Without it the store is one that does not answer, and says why: the
service goes on with what it does without analytics.

A process has one of them, and it is asked from one thread: queries wait for each other, and the event loop for none.
What it keeps lies in a folder, and belongs to this process alone: a service with several replicas needs a server.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from nova_services.recommendations.port import TIMEOUT, AnalyticsError, AnalyticsUnavailableError


class EmbeddedStore:
    """`Store` in a folder, which is made where it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "analytics")
        self._session: Any = None

    async def run(self, statement: str) -> str:
        """See `Store`. A statement that takes too long goes on in its thread; the next one waits for it."""
        asked = asyncio.get_running_loop().run_in_executor(self._thread, self._ask, statement)
        try:
            async with asyncio.timeout(TIMEOUT):
                return await asyncio.shield(asked)
        except TimeoutError:
            asked.add_done_callback(_forget)
            raise AnalyticsUnavailableError("the embedded store does not answer in time") from None

    def _ask(self, statement: str) -> str:
        if self._session is None:
            self._session = _opened(self._folder)
        try:
            return str(self._session.query(statement).bytes().decode())
        except RuntimeError as error:
            raise AnalyticsError(str(error).partition("\n")[0]) from error

    async def close(self) -> None:
        """See `Store`."""
        if self._session is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._session.close)
        self._thread.shutdown()


def _opened(folder: Path) -> Any:
    try:
        session = import_module("chdb.session").Session
    except ImportError as error:
        raise AnalyticsUnavailableError(
            "the embedded store needs chdb: `pip install nova[analytics]`, or name a server with --analytics"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    return session(str(folder))


def _forget(asked: "asyncio.Future[str]") -> None:
    """An answer that nobody waits for any more, its error included."""
    if not asked.cancelled():
        asked.exception()
