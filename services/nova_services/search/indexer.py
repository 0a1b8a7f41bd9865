"""What search does when it hears of something, and how its index is made anew.

The consumer group has the index's generation in its name. So an index that was emptied is filled by a group that Kafka
does not know, which begins at the start of the topics, and whose keys nobody has seen. Members of the group before it
do no harm while they last: what they add is right as well (`index`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nova_data.consumer.message import Message
from nova_data.database import LOST
from nova_data.errors import PoolExhaustedError
from nova_services.consuming import Effect
from nova_services.logs import get_logger
from nova_services.search.documents import EVENTS, change
from nova_services.search.index import Index
from nova_services.search.metrics import SearchMetrics

TOPICS: Final = ("post", "profile", "user")
_PAUSE: Final = 1.0
"""Seconds between attempts to reach the database at the start."""


class Indexer:
    """See the module."""

    def __init__(self, index: Index, metrics: SearchMetrics) -> None:
        self._index = index
        self._metrics = metrics

    def effects(self) -> dict[str, Effect]:
        """For `consuming`."""
        return dict.fromkeys(EVENTS, self._take)

    async def group(self) -> str:
        """The consumer group of this generation, once there is a database that knows it."""
        while True:
            try:
                return f"search-{await self._index.generation()}"
            except (*LOST, PoolExhaustedError) as error:
                get_logger().warning("database awaited", error=type(error).__name__)
                await asyncio.sleep(_PAUSE)

    async def _take(self, connection: Any, message: Message) -> Callable[[], Awaitable[None]] | None:
        found = change(message)
        if found is None:
            return None
        await self._index.apply(connection, found, reference=message.idempotency_key)

        async def counted() -> None:
            self._metrics.indexed(message.event_type or "")

        return counted
