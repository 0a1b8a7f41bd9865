"""content over HTTP; who asks is whom the sidecar has read in the token.

    POST   /posts                  {"text", "visibility"}    201 the post
    GET    /posts/{id}                                       200; 404
    DELETE /posts/{id}                                       204; 404 where it is nobody's, or another one's
    GET    /users/{id}/posts       ?pageSize=&pageToken=     200 newest first
    GET    /feed                   ?pageSize=&pageToken=     200 posts of whom one follows, newest first
    POST   /posts/{id}/comments    {"text"}                  201 the comment; 403 where there is a block; 404
    GET    /posts/{id}/comments    ?pageSize=&pageToken=     200 oldest first; 404
    DELETE /comments/{id}                                    204; 404
    PUT    /follows/{id}                                     204, also again; 403 where there is a block
    DELETE /follows/{id}                                     204, also again
    GET    /healthz, /openapi.json

403 also where the account is closed, 503 with Retry-After while the database is away, or users where a block must be
known. The cookie `seen` says how much somebody has written: reads that bring it go to a replica that has it.
"""

from typing import Final
from uuid import UUID

from aiohttp import web

from nova_data.split.database import SplitDatabase
from nova_data.split.session import OwnWrites
from nova_services import bodies
from nova_services.backing import unavailable
from nova_services.blocks import Blocks
from nova_services.bodies import Place, answer, identifier
from nova_services.content.api import API
from nova_services.content.comments import OLDEST, Comments
from nova_services.content.follows import Follows
from nova_services.content.forms import Comments as CommentsPage
from nova_services.content.forms import NewComment, NewPost
from nova_services.content.metrics import ContentMetrics
from nova_services.content.posts import Posts
from nova_services.content.reading import SEEN, Reading
from nova_services.correlation import Handler
from nova_services.errors import ForbiddenError, InvalidError, NotFoundError
from nova_services.identity import viewer
from nova_services.openapi import publish
from nova_services.web import application

SEEN_SECONDS: Final = 60
"""By then every replica that serves has what was written."""


class Content:
    """The service; its database is open as long as it serves."""

    def __init__(self, database: SplitDatabase, blocks: Blocks, metrics: ContentMetrics) -> None:
        self._posts = Posts(database)
        self._comments = Comments(database)
        self._follows = Follows(database)
        self._blocks = blocks
        self._metrics = metrics
        self.reading = Reading(self._posts, blocks)

    def application(self) -> web.Application:
        """The web application."""
        made = application(
            web.post("/posts", self._write_post),
            web.get("/posts/{id}", self._read_post),
            web.delete("/posts/{id}", self._delete_post),
            web.get("/users/{id}/posts", self._read_posts),
            web.get("/feed", self._read_feed),
            web.post("/posts/{id}/comments", self._write_comment),
            web.get("/posts/{id}/comments", self._read_comments),
            web.delete("/comments/{id}", self._delete_comment),
            web.put("/follows/{id}", self._follow),
            web.delete("/follows/{id}", self._unfollow),
        )
        made.middlewares.extend((unavailable, own_writes))
        publish(made, API)
        return made

    # --- posts

    async def _write_post(self, request: web.Request) -> web.Response:
        author, given = viewer(request), await bodies.read(request, NewPost)
        made = await self._posts.create(author, given.text, given.visibility)
        self._metrics.posted(given.visibility)
        return answer(made, status=201)

    async def _read_post(self, request: web.Request) -> web.Response:
        return answer(await self.reading.post(identifier(request), viewer(request)))

    async def _delete_post(self, request: web.Request) -> web.Response:
        if not await self._posts.delete(identifier(request), viewer(request)):
            raise NotFoundError("there is no such post of yours")
        self._metrics.post_deleted()
        return web.Response(status=204)

    async def _read_posts(self, request: web.Request) -> web.Response:
        author, reader, page = identifier(request), viewer(request), bodies.page(request)
        return answer(await self.reading.of_a_user(author, reader, page))

    async def _read_feed(self, request: web.Request) -> web.Response:
        user, page = viewer(request), bodies.page(request)
        found = await self.reading.feed(user, page)
        self._metrics.read_feed(first=not page.token)
        return answer(found)

    # --- comments

    async def _write_comment(self, request: web.Request) -> web.Response:
        author, given = viewer(request), await bodies.read(request, NewComment)
        post = await self.reading.post(identifier(request), author)
        await self._require_no_block(author, post.author_id)
        made = await self._comments.create(post.post_id, author, given.text)
        if made is None:  # it was deleted meanwhile
            raise NotFoundError("there is no such post")
        self._metrics.comment("created")
        return answer(made, status=201)

    async def _read_comments(self, request: web.Request) -> web.Response:
        reader, page = viewer(request), bodies.page(request)
        post = await self.reading.post(identifier(request), reader)
        rows = await self._comments.of_a_post(post.post_id, page.after(Place) or OLDEST, page.size + 1)
        kept, following = page.cut(rows, lambda row: Place(row.created_at, row.comment_id))
        blocked = await self._blocks.lately(reader, [comment.author_id for comment in kept])
        return answer(CommentsPage([comment for comment in kept if not blocked[comment.author_id]], following))

    async def _delete_comment(self, request: web.Request) -> web.Response:
        if not await self._comments.delete(identifier(request), viewer(request)):
            raise NotFoundError("there is no such comment of yours")
        self._metrics.comment("deleted")
        return web.Response(status=204)

    # --- follows

    async def _follow(self, request: web.Request) -> web.Response:
        follower, followee = viewer(request), identifier(request)
        if follower == followee:
            raise InvalidError("id", "somebody else than yourself")
        await self._require_no_block(follower, followee)
        if await self._follows.add(follower, followee):
            self._metrics.follow("created")
        return web.Response(status=204)

    async def _unfollow(self, request: web.Request) -> web.Response:
        if await self._follows.remove(viewer(request), identifier(request)):
            self._metrics.follow("deleted")
        return web.Response(status=204)

    async def _require_no_block(self, one: UUID, other: UUID) -> None:
        """As it is at this moment. Without an answer the write is refused: whoever was blocked must not get through in
        the one minute in which nobody looks, and a comment can be written a minute later."""
        if await self._blocks.between(one, other):
            self._metrics.blocked()
            raise ForbiddenError("there is a block between you")


@web.middleware
async def own_writes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whoever writes reads it, by the cookie."""
    given = request.cookies.get(SEEN)
    with OwnWrites(given) as seen:
        response = await handler(request)
        if seen.token is not None and seen.token != given:
            response.set_cookie(SEEN, seen.token, max_age=SEEN_SECONDS, httponly=True, samesite="Lax")
        return response
