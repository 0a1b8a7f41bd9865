"""Tells the sidecar how full the pools are, so that what a full pool would refuse is refused at the pod's door.

Reports go to the sidecar's control server, which listens on the pod's loopback alone: who can reach it is in the pod.
Its address is fixed (`nova_api.names.CONTROL_PORT`), so the app needs no configuration; under `nova dev`, where it is
any free port, the environment names it (`names.CONTROL_VARIABLE`).

    POST /pool-guard?pool=main&source=5f0c…&held=18&size=20&exhausted=3

Rules:

* A report says how things are, not what has changed: one that is lost is made good by the next.
* A pool that becomes full, or has room again, is reported at once, but not more often than every `QUICK` seconds;
  without news every `STEADY` seconds, since the sidecar forgets what it has not heard for a few seconds.
* Nothing of the app waits for a report. A sidecar that is not there, or does not want reports (`poolGuard` is off), is
  asked again every `PATIENCE` seconds.
* The answer carries the threshold of the NovaService, which guards without one of their own take over.
"""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from nova_api import names
from nova_data.pool_gate import PoolGate
from nova_data.pool_guard import PoolGuard

QUICK: Final = 0.05
STEADY: Final = 1.0
PATIENCE: Final = 5.0
TIMEOUT: Final = 1.0
"""Seconds for a report and its answer."""
LONGEST_ANSWER: Final = 4096


class Pace:
    """When a pool is to be reported next. `now` in seconds on any clock that does not step."""

    __slots__ = ("_at", "_full", "_silent_until")

    def __init__(self) -> None:
        self._at = -inf
        self._full = False
        self._silent_until = -inf

    def due(self, *, full: bool, now: float) -> float:
        """Seconds until the next report, 0 for at once."""
        gap = STEADY if full is self._full else QUICK
        return max(0.0, self._at + gap - now, self._silent_until - now)

    def reported(self, *, full: bool, now: float, taken: bool) -> None:
        """A report was made; `taken` where the sidecar wanted it."""
        self._at, self._full = now, full
        self._silent_until = -inf if taken else now + PATIENCE


class PoolReporter:
    """Reports guards while its block runs: ``async with PoolReporter(guard): …``.

    `address` is the sidecar's control server, where it is not found by itself.
    """

    def __init__(
        self,
        *guards: PoolGuard[Any],
        address: tuple[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._guards: Sequence[PoolGuard[Any]] = guards
        self._address = address or control_address(environment)
        self._clock = clock
        self._source = secrets.token_hex(8)
        self._turned = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.reports = 0
        """Reports that the sidecar has taken."""

    async def __aenter__(self) -> Self:
        for guard in self._guards:
            guard.on_turn = self._turned.set
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for guard in self._guards:
            guard.on_turn = None
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        streams = self._streams
        self._hang_up()
        if streams is not None:
            with suppress(OSError):
                await streams[1].wait_closed()

    async def _run(self) -> None:
        paces = [(guard, Pace()) for guard in self._guards]
        while True:
            self._turned.clear()
            wait = STEADY
            for guard, pace in paces:
                if pace.due(full=guard.gate.full, now=self._clock()) <= 0:
                    full = guard.gate.full
                    taken = await self._report(guard)
                    pace.reported(full=full, now=self._clock(), taken=taken)
                wait = min(wait, max(QUICK, pace.due(full=guard.gate.full, now=self._clock())))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._turned.wait()
                    await asyncio.sleep(min(QUICK, wait))  # a pool at its threshold turns with every query

    async def _report(self, guard: PoolGuard[Any]) -> bool:
        """Whether the sidecar took it."""
        try:
            async with asyncio.timeout(TIMEOUT):
                status, body = await self._ask(request(guard.name, self._source, guard.gate, self._address))
            answer = json.loads(body) if status == 200 else {}
            guard.follow(float(answer["threshold"]))
        except (OSError, EOFError, asyncio.LimitOverrunError, KeyError, TypeError, ValueError):
            self._hang_up()
            return False
        self.reports += 1
        return True

    async def _ask(self, data: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=LONGEST_ANSWER)
        reader, writer = self._streams
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        if not 0 <= length <= LONGEST_ANSWER:
            raise ValueError("expected a short answer")
        return int(head.split(" ")[1]), await reader.readexactly(length)

    def _hang_up(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()

    def __repr__(self) -> str:
        host, port = self._address
        return f"<PoolReporter {host}:{port} guards={len(self._guards)} reports={self.reports}>"


def control_address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Where the sidecar takes reports: the pod's loopback, or where the environment says. Raises ValueError for what is
    no URL with a port."""
    url = environment.get(names.CONTROL_VARIABLE)
    if url is None:
        return "127.0.0.1", names.CONTROL_PORT
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.port is None:
        raise ValueError(f"{names.CONTROL_VARIABLE}: expected a URL such as http://127.0.0.1:15021, got {url!r}")
    return parts.hostname, parts.port


def request(pool: str, source: str, gate: PoolGate, address: tuple[str, int]) -> bytes:
    """A report as it goes to the sidecar. `source` tells the app's processes apart, each of which has its own pool."""
    held, size = min(gate.used, gate.size), gate.size
    query = f"pool={pool}&source={source}&held={held}&size={size}&exhausted={sum(gate.exhausted.values())}"
    line = f"POST {names.POOL_GUARD_PATH}?{query} HTTP/1.1"
    return f"{line}\r\nHost: {address[0]}:{address[1]}\r\nContent-Length: 0\r\n\r\n".encode("ascii")
