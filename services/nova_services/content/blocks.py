"""Who has blocked whom: the service users knows, and is asked by gRPC with a deadline.

When users does not answer, what then holds depends on what a mistake would cost:

* **Comments and follows are refused** (`UnavailableError`, 503 with Retry-After). Whoever was blocked must not reach
  who blocked them in the one minute in which nobody looks, and a comment can be written a minute later.
* **What everybody may read is read**: a public post is no secret, and a feed that is empty because of another service
  is an outage of two.
* **What only followers may read is left out**: a block ends that as well, and shown cannot be taken back.

For reads an answer holds for 10 s in this process, and identical questions under way are one, so a feed asks little. A
write asks anew: a block is in force for writes at once.
"""

import asyncio
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import grpc
from nova.users.v1 import users_pb2, users_pb2_grpc

from nova_data.cache.freshness import Freshness
from nova_data.cache.metrics import CacheMetrics
from nova_data.cache.read_through import ReadThrough
from nova_services.content.forms import Post
from nova_services.content.metrics import ContentMetrics
from nova_services.errors import UnavailableError
from nova_services.logs import get_logger

TIMEOUT: Final = 1.0
"""Seconds for one answer of users."""
KEPT: Final = Freshness(ttl=10.0, early=0.0)
Pair = tuple[UUID, UUID]


class Blocks:
    """See the module."""

    def __init__(
        self, users: "users_pb2_grpc.UsersServiceAsyncStub", metrics: ContentMetrics, cache: CacheMetrics | None = None
    ) -> None:
        self._users = users
        self._metrics = metrics
        self._kept: ReadThrough[Pair, bool] = ReadThrough("blocks", self._ask, KEPT, timeout=2 * TIMEOUT, metrics=cache)

    async def between(self, one: UUID, other: UUID) -> bool:
        """Whether either has blocked the other, now. Raises UnavailableError."""
        return one != other and await self._ask((one, other))

    async def visible(self, viewer: UUID, posts: Iterable[Post]) -> list[Post]:
        """Those that no block hides from the viewer."""
        posts = list(posts)
        authors = list({post.author_id for post in posts} - {viewer})
        answers = await asyncio.gather(*(self._lately(viewer, author) for author in authors))
        known: dict[UUID, bool | None] = {viewer: False, **dict(zip(authors, answers, strict=True))}
        return [post for post in posts if _shown(post, blocked=known[post.author_id])]

    async def _lately(self, viewer: UUID, author: UUID) -> bool | None:
        """What was said within 10 s; None where nobody knows."""
        try:
            return await self._kept.get((min(viewer, author), max(viewer, author)))
        except (UnavailableError, TimeoutError):
            return None

    async def _ask(self, pair: Pair) -> bool:
        asked = users_pb2.CheckBlockRequest(user_id=str(pair[0]), other_id=str(pair[1]))
        try:
            answer = await self._users.CheckBlock(asked, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            self._metrics.unknown_blocks()
            get_logger().warning("blocks unknown", upstream="users", grpc_status=error.code().value[0])
            raise UnavailableError("users") from error
        return bool(answer.blocked)


def _shown(post: Post, *, blocked: bool | None) -> bool:
    return post.is_public if blocked is None else not blocked
