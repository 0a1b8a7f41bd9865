"""What a run of the tools of an app needs: servers on the core of the load, and percentiles."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from tests.loopback.support.postgresserver import Server as Postgres

from ..machine import Cores


@contextlib.contextmanager
def servers(replicas: int = 0) -> Iterator[list[Postgres]]:
    """A PostgreSQL and its replicas on the core of the load; who measures is on the other one."""
    before, cores = os.sched_getaffinity(0), Cores.choose()
    started: list[Postgres] = []
    try:
        os.sched_setaffinity(0, {cores.load})
        started.append(Postgres(synchronous_commit="on"))
        started += [Postgres(started[0]) for _ in range(replicas)]
        os.sched_setaffinity(0, {cores.proxy})
        yield started
    finally:
        os.sched_setaffinity(0, before)
        for each in reversed(started):
            each.close()


async def took(call: Callable[[], Awaitable[Any]]) -> float:
    """How long a call takes, in ms."""
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1000


async def at_a_rate(rate: float, seconds: float, call: Callable[[], Awaitable[Any]]) -> list[float]:
    """What calls take that begin at fixed instants, in ms; who begins late is counted from when it should have."""
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def one(due: float) -> float:
        await asyncio.sleep(due - loop.time())
        await call()
        return (loop.time() - due) * 1000

    return await asyncio.gather(*(one(start + number / rate) for number in range(int(rate * seconds))))


def p50(values: list[float]) -> float:
    """The median."""
    return round(statistics.median(values), 3)


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return round(statistics.quantiles(values, n=100)[98], 3)
