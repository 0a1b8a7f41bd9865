"""Keeps the watches open while a replica leads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import kopf
import structlog
from kubernetes.aio.client import Configuration

from nova_operator import handlers, relist
from nova_operator.cluster import ClusterError
from nova_operator.health import State
from nova_operator.metrics import Metrics
from nova_operator.options import Options
from nova_operator.session import Sessions
from nova_operator.stream import Streams
from nova_operator.system import System
from nova_operator.watch import Watch

RETRY: Final = 2.0
"""Seconds until watches that ended, or a list that failed, are tried again."""

log = structlog.get_logger()


class Watches:
    """What a watch cannot go on from, such as its kind being no longer served, ends all of them; then they are started
    anew. `stop` ends the process, `catch_signals` takes the signals back from Kopf, and `connect` waits for the API
    server and the definition."""

    def __init__(
        self,
        options: Options,
        state: State,
        metrics: Metrics,
        identity: str,
        *,
        stop: Callable[[], None],
        catch_signals: Callable[[], None],
        connect: Callable[[], Awaitable[object]],
    ) -> None:
        self._options = options
        self._state = state
        self._metrics = metrics
        self._me = identity
        self._stop = stop
        self._catch_signals = catch_signals
        self._connect = connect

    async def run(self, configuration: Configuration, system: System) -> None:
        """Until it is cancelled, or Kopf ended by itself."""
        while True:
            await self._prime(system)
            self._state.pulse.begin()
            sessions = Sessions(configuration, self._state.pulse)
            streams = Streams(configuration, self._state.pulse, handlers.longest_watch(self._options.resync))
            try:
                outdated = await self._watch(sessions, streams, system)
            except Exception as error:  # Kopf has no family of errors of its own
                if _is_cancelled():  # while Kopf was ending, which then hides it behind the error that ended it
                    raise asyncio.CancelledError from error
                log.warning("watches ended", error=f"{type(error).__name__}: {error}", retry_in=RETRY)
            else:
                if outdated:
                    log.info("the API server serves other kinds than before")
                    continue
                self._stop()  # nobody has asked Kopf to end
                return
            finally:
                self._state.watching = False
                await sessions.close()
                await streams.close()
            self._metrics.watch_restarts.inc()
            await asyncio.sleep(RETRY)
            await self._connect()

    async def _watch(self, sessions: Sessions, streams: Streams, system: System) -> bool:
        """Whether it ended because there are other kinds to watch; False where Kopf ended."""
        ready, watches = asyncio.Event(), system.watches(streams)
        outdated = asyncio.create_task(system.discovery.changed(system.platform))
        others = [asyncio.create_task(watch.run()) for watch in watches]
        others.append(asyncio.create_task(system.resync()))
        others.append(asyncio.create_task(self._when_watching(system, ready, watches)))
        kopfs = asyncio.create_task(self._kopf(sessions, system, ready))
        try:
            done, _ = await asyncio.wait({kopfs, outdated, *others[:-1]}, return_when=asyncio.FIRST_COMPLETED)
            if outdated in done:
                return True
            for task in done:
                await task
        finally:
            for task in (kopfs, outdated, *others):
                task.cancel()
            await asyncio.gather(kopfs, outdated, *others, return_exceptions=True)
        return False

    async def _kopf(self, sessions: Sessions, system: System, ready: asyncio.Event) -> None:
        """Kopf's watch of the NovaServices, until it is cancelled."""

        async def login(**_: Any) -> kopf.AiohttpSession:
            return await sessions.login()

        others = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=handlers.registry(system.feed, login),
            settings=handlers.settings(self._options.resync, self._options.watch_silence),
            clusterwide=not self._options.namespaces,
            namespaces=self._options.namespaces,
            standalone=True,
            # Kopf would otherwise make one from the user's name, and a container's user has none
            identity=self._me,  # type: ignore[arg-type]  # a NewType of str that Kopf does not export
            ready_flag=ready,
        )
        # Kopf has put its own handlers of signals in place, which know nothing of the lease, and lose a signal when the
        # kinds change. That was the last thing it did there, so that no signal came in between.
        self._catch_signals()
        await kopf.run_tasks(tasks, ignored=others)  # ended by cancelling: for its stop flag it waits 5 s

    async def _prime(self, system: System) -> None:
        while True:
            try:
                system.use(await system.discovery.platform(system.platform))
                return await system.prime(self._options.namespaces)
            except ClusterError as error:
                log.warning("objects not listed", error=str(error), retry_in=RETRY)
                await asyncio.sleep(RETRY)

    async def _when_watching(self, system: System, ready: asyncio.Event, watches: Sequence[Watch]) -> None:
        await ready.wait()
        for watch in watches:
            await watch.opened.wait()
        self._state.watching = True
        await asyncio.sleep(relist.QUIET)
        system.opened()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
