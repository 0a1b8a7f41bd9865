"""Looks into PostgreSQL for whom nobody told: two questions every few seconds for all WebSockets of the process.

It is what makes Redis a convenience. It also says who is here, so that others are notified and these are not, and has
those go whose login has ended.
"""

import asyncio
import itertools
from typing import Final

from nova_services.backing import lasting
from nova_services.logs import get_logger
from nova_services.messaging.conversations import AWAY_AFTER, Conversations
from nova_services.messaging.hub import Hub
from nova_services.messaging.metrics import MessagingMetrics
from nova_services.messaging.sessions import Sessions

LOOK_EVERY: Final = 2.0
"""Seconds: the longest that a message waits for a reader whom no wake-up reached."""
_HERE_EVERY: Final = AWAY_AFTER / 3


async def watch(
    conversations: Conversations,
    sessions: Sessions,
    hub: Hub,
    metrics: MessagingMetrics,
    *,
    every: float = LOOK_EVERY,
) -> None:
    """Look every so many seconds, until it is cancelled."""
    lost = False
    each = max(1, round(_HERE_EVERY / every))
    for turn in itertools.count(1):
        await asyncio.sleep(every)
        if not (users := hub.users()):
            continue
        try:
            metrics.found.inc(hub.compare(await conversations.ends(users)))
            hub.dismiss(*await sessions.over(users, hub.sessions()))
            if turn % each == 0:
                await conversations.here(users)
            lost = False
        except Exception as error:
            if lasting(error) is None:
                raise
            if not lost:
                get_logger().warning("streams not looked at", error=type(error).__name__)
            lost = True
