"""Who gets new recommendations, and when.

Every `every` seconds a round: for all who asked within a day, who asked last first, each followed by the pause that the
pace says. Beside the rounds, whoever asks and finds nothing is computed for at once, behind the answer, so the second
time there is something. A claim in Redis keeps replicas, and a round and a request, from doing the same.

When the analytics or Redis are away a round ends, and the next one begins half a minute later.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from nova_data.errors import CallTimeoutError, DownstreamError
from nova_services.logs import get_logger
from nova_services.recommendations.metrics import RecommendationsMetrics
from nova_services.recommendations.pace import Pace
from nova_services.recommendations.port import AnalyticsError, AnalyticsUnavailableError
from nova_services.recommendations.ranking import ranked
from nova_services.recommendations.shelf import Shelf
from nova_services.recommendations.warehouse import Warehouse

EVERY: Final = 1200.0
"""Seconds: so recommendations of who asks now and then are always ready, which they are for 1800."""
AGAIN: Final = 30.0
BEHIND: Final = 4
"""Users who are computed for behind their answers, at most; more would be the load that this service is to avoid."""
CLAIM: Final = 30.0
"""Seconds in which nobody else computes for the same user, at most; half of `every` where that is less."""
TIDY_EVERY: Final = 86400.0


class Precompute:
    """See the module. `every` in seconds, above 0; `clock` gives seconds, `now` those since 1970."""

    def __init__(
        self,
        warehouse: Warehouse,
        shelf: Shelf,
        metrics: RecommendationsMetrics,
        *,
        pace: Pace,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._warehouse = warehouse
        self._shelf = shelf
        self._metrics = metrics
        self._pace = pace
        self._every = every
        self._clock = clock
        self._now = now
        self._behind: set[asyncio.Task[None]] = set()
        self._tidied = clock()
        self.analytics_away = True
        """Whether they were so when they were asked last; nobody has asked yet."""

    async def run(self) -> None:
        """Rounds until it is cancelled."""
        try:
            while True:
                began = self._clock()
                pause = self._every if await self._round() else AGAIN
                await asyncio.sleep(max(0.0, began + pause - self._clock()))
        finally:
            for task in self._behind:
                task.cancel()

    def ask(self, user: UUID) -> None:
        """Compute for a user who found nothing, behind the answer, unless many are computed for already."""
        if len(self._behind) < BEHIND:
            task = asyncio.get_running_loop().create_task(self._one_behind(user))
            self._behind.add(task)
            task.add_done_callback(self._behind.discard)

    async def _one_behind(self, user: UUID) -> None:
        try:
            await self.compute(user)
        except (DownstreamError, CallTimeoutError, AnalyticsError) as error:
            get_logger().warning("recommendations not computed", error=type(error).__name__)

    async def _round(self) -> bool:
        """Whether it came to its end."""
        try:
            users = await self._shelf.who_asked()
            self._metrics.round(len(users))
            for user in users:
                cost = await self.compute(user)
                hour = datetime.fromtimestamp(self._now(), UTC).hour
                await asyncio.sleep(self._pace.pause(cost, hour))
            if self._clock() - self._tidied >= TIDY_EVERY:
                await self._warehouse.tidy()
                self._tidied = self._clock()
        except (DownstreamError, CallTimeoutError, AnalyticsError) as error:
            get_logger().warning("round of recommendations ended", error=type(error).__name__)
            return False
        return True

    async def compute(self, user: UUID) -> float:
        """Make the recommendations of a user ready; what it cost, in seconds, 0 where somebody else does it. Raises
        what the warehouse and the shelf do."""
        if not await self._shelf.claim(user, min(CLAIM, self._every / 2)):
            return 0.0
        began = self._clock()
        try:
            authors = await self._warehouse.authors(user)
            candidates = await self._warehouse.posts(authors, self._now())
        except (AnalyticsUnavailableError, AnalyticsError, CallTimeoutError):
            self.analytics_away = True
            self._metrics.failed()
            raise
        self.analytics_away = False
        ready = ranked(candidates, authors, self._now())
        cost = self._clock() - began
        self._metrics.computed(cost)
        await self._shelf.put(user, ready)
        return cost
