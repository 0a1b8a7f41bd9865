"""Works a queue off: the async half of `work.WorkQueue`.

A fixed number of workers, all started together: Kopf ends every task that began after it did when it stops, and the
workers must outlive a restart of the watches.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import Literal

import structlog

from nova_operator.cluster import ClusterError, StaleError, UnavailableError
from nova_operator.mirror import ServiceKey
from nova_operator.work import WorkQueue

Work = Literal["reconcile", "look"]
"""What is done for a service, as the log calls it; a look is one at its sidecars."""

Job = Callable[[ServiceKey], Awaitable[float | None]]
"""Works on a service; returns the seconds until it wants to be looked at again, None if it is gone."""

Count = Callable[[str, float], None]
"""Told the result (see `metrics.RESULTS`) and the duration of each run; beside it, what kind of error ended one
(`metrics.ERRORS`)."""

log = structlog.get_logger()


class Runner:
    """Runs `job` for each service that was added, one run per service at a time, `workers` runs at most."""

    def __init__(
        self,
        work: Work,
        job: Job,
        workers: int,
        random: Random,
        *,
        count: Count = lambda _result, _seconds: None,
        error: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._name = work
        self._job = job
        self._workers = workers
        self._queue: WorkQueue[ServiceKey] = WorkQueue(random)
        self._idle: deque[asyncio.Future[ServiceKey]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._count = count
        self._error = error

    def __repr__(self) -> str:
        return f"<Runner {self._name} {self._queue!r} idle={len(self._idle)}/{self._workers}>"

    def add(self, key: ServiceKey, delay: float = 0.0, *, in_motion: bool = False) -> None:
        """Give the key a turn `delay` seconds from now, or earlier if it has one; see `work` for the two classes."""
        self._queue.add(key, time.monotonic(), delay, in_motion=in_motion)
        self._hand_out()

    def overdue(self) -> int:
        """Keys whose turn has come and for which no worker is free."""
        return self._queue.overdue(time.monotonic())

    def lag(self) -> float:
        """Seconds by which it is behind."""
        return self._queue.lag(time.monotonic())

    def failing(self) -> int:
        """Keys that could not be worked on the last time."""
        return self._queue.failing()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self._run_one(await self._next())

    async def _next(self) -> ServiceKey:
        key = self._queue.take(time.monotonic())
        if key is not None:
            return key
        turn: asyncio.Future[ServiceKey] = asyncio.get_running_loop().create_future()
        self._idle.append(turn)
        self._hand_out()
        return await turn

    def _hand_out(self) -> None:
        """Give every due key to an idle worker, and wake up when the next one is due."""
        now = time.monotonic()
        while self._somebody_idle() and (key := self._queue.take(now)) is not None:
            self._idle.popleft().set_result(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._queue.next_due()
        if self._idle and due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._hand_out)

    def _somebody_idle(self) -> bool:
        """Drops the turns of workers that are being ended: a key handed to one would be lost."""
        while self._idle and self._idle[0].done():
            self._idle.popleft()
        return bool(self._idle)

    async def _run_one(self, key: ServiceKey) -> None:
        started = time.monotonic()
        try:
            again_in = await self._job(key)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._error("cancelled")
            self._failed(key, "retried", started)  # only a call inside was cancelled, by Kopf as it stopped
        except ClusterError as error:
            self._error(_reason(error))
            patience = (error.retry_after or 0.0) if isinstance(error, UnavailableError) else 0.0
            wait = self._failed(key, "retried", started, patience)
            level = log.debug if isinstance(error, StaleError) else log.warning
            level("work postponed", **self._about(key), error=str(error), retry_in=round(wait, 1))
        except Exception:  # a fault of ours must not end the work on other services
            self._error("internal")
            wait = self._failed(key, "failed", started)
            log.exception("work failed", **self._about(key), retry_in=round(wait, 1))
        else:
            self._queue.done(key, time.monotonic(), again_in)
            self._count("ok", time.monotonic() - started)

    def _about(self, key: ServiceKey) -> dict[str, str]:
        return {"service": key.name, "namespace": key.namespace, "work": self._name}

    def _failed(self, key: ServiceKey, result: str, started: float, at_least: float = 0.0) -> float:
        self._count(result, time.monotonic() - started)
        return self._queue.failed(key, time.monotonic(), at_least)


def _reason(error: ClusterError) -> str:
    if isinstance(error, UnavailableError):
        return "unavailable"
    return "stale" if isinstance(error, StaleError) else "refused"
