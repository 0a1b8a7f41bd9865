"""What becomes of an event, in the transaction in which it is noted that it came (`nova_services.consuming`)."""

from collections.abc import Mapping
from typing import Final

from nova_data.consumer.message import Message
from nova_data.errors import RejectedError
from nova_data.pool.database import Connection
from nova_services.closing import close
from nova_services.consuming import Afterwards, Effect, subject
from nova_services.erasing import Place, erase
from nova_services.notification import notices, notifications
from nova_services.notification.metrics import NotificationMetrics

TOPICS: Final = ("user", "follow", "comment", "message")
PLACES: Final = (Place("notifications", "user_id"), Place("notifications", "actor_id"))
"""What the person was told, and what others were told of the person."""


class Effects:
    """See the module."""

    def __init__(self, metrics: NotificationMetrics) -> None:
        self._metrics = metrics

    def table(self) -> Mapping[str, Effect]:
        """By type of event."""
        return {"user-erased": self._erase, **dict.fromkeys(notices.EVENTS, self._tell)}

    async def _tell(self, connection: Connection, message: Message) -> Afterwards | None:
        try:
            found = notices.notices(message.event_type or "", message.value)
        except ValueError as error:
            raise RejectedError(f"{message.event_type}: {error}") from None
        at = notices.happened(message.timestamp)
        added = await notifications.add(connection, message.idempotency_key, at, found)

        async def count() -> None:
            for notice in found:
                self._metrics.told(notice.kind, new=notice in added)

        return count

    async def _erase(self, connection: Connection, message: Message) -> None:
        user = subject(message)
        await close(connection, user)
        await erase(connection, user, PLACES, message.idempotency_key)
