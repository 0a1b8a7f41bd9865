"""A worker with a fixed capacity, like a thread pool in front of a database.

Each piece of work holds one of a few slots for a fixed time and takes no CPU, so that overload can be shown on any
machine: capacity is slots / service time (4 slots of 40 ms: 100 a second), and beyond it the queue grows without a
bound. There is none on purpose: bounding it is what the sidecar is for.
"""

import asyncio


class Worker:
    """`slots` pieces of work at once; each takes `service_time` seconds."""

    def __init__(self, *, slots: int, service_time: float) -> None:
        self._service_time = service_time
        self._slots = asyncio.Semaphore(slots)

    async def work(self, extra: float = 0.0) -> None:
        """Wait for a slot, then hold it for the service time and `extra` seconds."""
        async with self._slots:
            await asyncio.sleep(self._service_time + extra)
