"""A message, wherever it comes from: stored, counted, and told to who reads."""

from nova_services.errors import ForbiddenError, NotFoundError
from nova_services.messaging.conversations import Conversations, Draft, Sent
from nova_services.messaging.hub import Hub
from nova_services.messaging.metrics import MessagingMetrics
from nova_services.messaging.permission import Permission
from nova_services.messaging.wakeups import Wakeups


class Sending:
    """What WebSockets, HTTP and gRPC send through. Raises what `Conversations.send` and `Permission` do."""

    def __init__(
        self,
        conversations: Conversations,
        permission: Permission,
        hub: Hub,
        wakeups: Wakeups | None,
        metrics: MessagingMetrics,
    ) -> None:
        self._conversations = conversations
        self._permission = permission
        self._hub = hub
        self._wakeups = wakeups
        self._metrics = metrics

    async def send(self, draft: Draft) -> Sent:
        """Send it. Readers here are woken at once, those of other processes by Redis."""
        try:
            await self._permission.require_sending(draft)
            sent = await self._conversations.send(draft)
        except (NotFoundError, ForbiddenError):
            self._metrics.sent("refused")
            raise
        self._metrics.sent("repeated" if sent.repeated else "stored")
        self._hub.wake(sent.readers)
        if self._wakeups is not None:
            self._wakeups.tell(sent.readers)
        return sent
