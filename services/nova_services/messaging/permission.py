"""Who may write to whom: a block, whoever of the two has set it, keeps them from talking with each other alone.

users knows of blocks and is asked by gRPC (`nova_services.blocks`). How, depends on what a mistake would cost:

* **A conversation is begun by an answer of this moment**, one question for all members, and without an answer it is not
  begun (`UnavailableError`, 503 with Retry-After). It is begun once, and a minute later is as good.
* **A message goes by an answer of the last 5 s.** People write several in a row, and a question for each would be as
  many calls as messages. While users does not answer, the last answer stands in until it is a minute old, so that those
  who talk do not notice that users is started anew. After that messages wait with their senders, who are told to send
  them again, and none is lost. So who is blocked writes for 5 s more; 60 s where users goes away in that moment.
* **In a conversation of more than two** nobody is refused for a block: the others are talked to as well. It is only not
  begun by somebody with a block to one of its members.

A message that was stored before the block is answered as ever: it was sent, and its sender may not have heard so.
"""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from nova_data.cache.freshness import Freshness
from nova_data.cache.metrics import CacheMetrics
from nova_data.cache.read_through import ReadThrough
from nova_services.blocks import Blocks
from nova_services.errors import ForbiddenError, UnavailableError
from nova_services.messaging.conversations import Conversations, Draft
from nova_services.messaging.metrics import MessagingMetrics

FRESH: Final = 5.0
STANDS_IN: Final = 60.0
"""Seconds, see the module."""
_PARTNERS: Final = Freshness(ttl=60.0, negative_ttl=60.0, early=0.0)
"""Of whom one talks with: members do not change, but that one may leave for good, whom no block concerns any more."""


class Permission:
    """See the module. Raises what `Conversations` does, and UnavailableError where users must answer and does not."""

    def __init__(
        self,
        conversations: Conversations,
        blocks: Blocks,
        metrics: MessagingMetrics,
        cache: CacheMetrics | None = None,
    ) -> None:
        self._conversations = conversations
        self._blocks = blocks
        self._metrics = metrics
        self._partners: ReadThrough[tuple[UUID, UUID], UUID] = ReadThrough(
            "partners", lambda place: conversations.partner(*place), _PARTNERS, metrics=cache
        )

    async def require_beginning(self, user: UUID, members: Collection[UUID]) -> None:
        """The user may begin a conversation with these. Raises ForbiddenError."""
        if await self._blocks.among(user, members):
            self._metrics.blocked()
            raise ForbiddenError("there is a block between you and one of them")

    async def require_sending(self, draft: Draft) -> None:
        """The message may be sent, or was sent already. Raises ForbiddenError."""
        partner = await self._partners.get((draft.conversation, draft.sender))
        if partner is None:
            return
        blocked = (await self._blocks.lately(draft.sender, [partner]))[partner]
        if blocked is False or await self._conversations.has(draft):
            return
        if blocked is None:
            raise UnavailableError("users")
        self._metrics.blocked()
        raise ForbiddenError("there is a block between you")
