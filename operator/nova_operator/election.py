"""Leader election: the async half of `lease`.

The `kubernetes` package has one, too. It compares wall-clock times without a zone, keeps its record in an annotation
that other tools do not show, and does not give the lease back, so that each update of the operator would cost
fifteen seconds without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime

import structlog

from nova_operator.cluster import Cluster, ClusterError, StaleError
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import LEASE
from nova_operator.lease import ATTEMPT, RENEW_DEADLINE, RETRY, WAIT, Observer, held, may_take, released

log = structlog.get_logger()


class Election:
    """One candidate. `acquire`, then `keep` as long as it acts, then `release`."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, me: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._me = me
        self._observer = Observer()
        self._lease: Manifest | None = None
        """As this candidate wrote it last; None unless it holds it."""
        self._renewed = 0.0
        """When that write was sent, in monotonic seconds: the others may have seen it long before the answer came."""

    def __repr__(self) -> str:
        return f"<Election {self._me} {'leads' if self._lease else 'waits'}>"

    async def acquire(self) -> None:
        """Returns once this candidate leads. Where the answer came too late to act by, the lease is renewed first."""
        while not await self._attempt() or self._left() <= 0.0:  # noqa: ASYNC110 - the condition lives in the API server
            await asyncio.sleep(WAIT)
        log.info("leading", identity=self._me)

    async def keep(self) -> None:
        """Renews the lease; returns when it is lost or could not be renewed in time: stop acting at once."""
        pause = max(0.0, self._renewed + RETRY - time.monotonic())
        while self._left() > 0.0:
            await asyncio.sleep(pause)
            pause = 0.0  # after silence at once, over another connection
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.1, min(ATTEMPT, self._left()))):
                    if await self._attempt():
                        pause = RETRY
                    elif self._lease is None:
                        break
                    else:
                        pause = WAIT
        self._lease = None
        log.error("lease lost", identity=self._me)

    async def release(self) -> None:
        """Give the lease back, if this candidate holds it; the next one takes over within `WAIT` seconds."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            await self._give_back(lease)
        except ClusterError as error:
            log.warning("lease not given back", identity=self._me, error=str(error))

    def _left(self) -> float:
        """Seconds until this candidate must not act any more, if it does not renew the lease."""
        return self._renewed + RENEW_DEADLINE - time.monotonic()

    async def _give_back(self, lease: Manifest) -> None:
        """A renewal that was cut short may have been written all the same."""
        try:
            await self._cluster.replace(LEASE, released(lease, _now()))
        except StaleError:
            there = await self._cluster.get(LEASE, self._namespace, self._name)
            if there is not None and (there.get("spec") or {}).get("holderIdentity") == self._me:
                await self._cluster.replace(LEASE, released(there, _now()))

    async def _attempt(self) -> bool:
        """Take or renew the lease. False: somebody else has it (then `_lease` is None) or the server did not answer."""
        try:
            return await self._take()
        except ClusterError as error:
            log.warning("lease not renewed", identity=self._me, error=str(error))
            return False

    async def _take(self) -> bool:
        try:
            lease = self._lease or await self._cluster.get(LEASE, self._namespace, self._name)
            if lease is not None:
                self._observer.see(lease, time.monotonic())
                if not may_take(lease, self._me, self._observer, time.monotonic()):
                    self._lease = None
                    return False
            await self._write(lease)
        except StaleError:
            return await self._take_as_it_is_now()
        return True

    async def _take_as_it_is_now(self) -> bool:
        """Somebody changed it. If it is still this candidate's, whose last renewal may have been written without an
        answer, it is renewed."""
        if self._lease is None:
            return False
        lease = await self._cluster.get(LEASE, self._namespace, self._name)
        if lease is None or lease["spec"].get("holderIdentity") != self._me:
            self._lease = None
            return False
        await self._write(lease)
        return True

    async def _write(self, lease: Manifest | None) -> None:
        wanted = held(lease, self._namespace, self._name, self._me, _now())
        write = self._cluster.create if lease is None else self._cluster.replace
        sent = time.monotonic()
        self._lease = await write(LEASE, wanted)
        self._renewed = sent


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
