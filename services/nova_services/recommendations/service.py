"""recommendations over HTTP; who asks is whom the sidecar has read in the token.

    GET /recommendations      200 {"posts": [{"postId", "authorId", "createdAt"}], "source"}
    GET /healthz, /openapi.json

`source` is PRECOMPUTED where recommendations are ready, else BY_TIME: the feed of content, with which the page is full
whatever else is away. 503 with Retry-After where content does not answer either.
"""

from datetime import UTC
from typing import Any, Final
from uuid import UUID

import grpc
from aiohttp import web
from nova.posts.v1 import posts_pb2, posts_pb2_grpc

from nova_services.backing import unavailable
from nova_services.bodies import answer
from nova_services.errors import UnavailableError
from nova_services.identity import viewer
from nova_services.logs import get_logger
from nova_services.openapi import publish
from nova_services.recommendations.api import API
from nova_services.recommendations.api import Recommendations as Answer
from nova_services.recommendations.metrics import Reason, RecommendationsMetrics
from nova_services.recommendations.precompute import Precompute
from nova_services.recommendations.ranking import MOST, Recommended
from nova_services.recommendations.shelf import Shelf, ShelfAwayError
from nova_services.web import application

FEED_TIMEOUT: Final = 2.0
"""Seconds for content's answer."""


class Recommendations:
    """The service."""

    def __init__(
        self,
        shelf: Shelf,
        precompute: Precompute,
        posts: "posts_pb2_grpc.PostsServiceAsyncStub",
        metrics: RecommendationsMetrics,
    ) -> None:
        self._shelf = shelf
        self._precompute = precompute
        self._posts = posts
        self._metrics = metrics

    def application(self) -> web.Application:
        """The web application."""
        made = application(web.get("/recommendations", self._recommend))
        made.middlewares.append(unavailable)
        publish(made, API)
        return made

    async def _recommend(self, request: web.Request) -> web.Response:
        user = viewer(request)
        reason: Reason = "analytics" if self._precompute.analytics_away else "nothing"
        try:
            ready = await self._shelf.take(user)
        except ShelfAwayError:
            ready, reason = None, "redis"
        if ready:
            self._metrics.hit(len(ready))
            return answer(Answer(ready, "PRECOMPUTED"))
        if ready is None and reason != "redis":  # an empty list was computed: there is nobody to recommend yet
            self._precompute.ask(user)
        found = await self._by_time(user)
        self._metrics.fallback(reason)
        return answer(Answer(found, "BY_TIME"))

    async def _by_time(self, user: UUID) -> list[Recommended]:
        asked = posts_pb2.ListFeedRequest(user_id=str(user), page_size=MOST)
        try:
            feed = await self._posts.ListFeed(asked, timeout=FEED_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            self._metrics.unanswered()
            get_logger().warning("feed unavailable", upstream="content", grpc_status=error.code().value[0])
            raise UnavailableError("content") from error
        return list(map(_recommended, feed.posts))


def _recommended(post: Any) -> Recommended:
    return Recommended(UUID(post.post_id), UUID(post.author_id), post.created_at.ToDatetime(tzinfo=UTC))
