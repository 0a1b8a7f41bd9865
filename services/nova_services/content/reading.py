"""What somebody may see of what is there: the same rules for HTTP and gRPC.

* A post of `VISIBILITY_FOLLOWERS` is seen by its author and by who follows the author.
* A block between author and viewer hides posts (`nova_services.blocks`). An answer holds for 10 s, and a page is one
  question for all of its authors.
* What is hidden is answered like what is not there.

While users does not answer, what everybody may read is read: a public post is no secret, and a feed that is empty
because of another service is an outage of two. What only followers may read is left out: a block ends that as well, and
shown cannot be taken back.

Single posts are loaded by `Batcher`: a page of other services that shows fifty posts asks fifty times at once, which is
one query. What is loaded does not depend on who asks; whether it may be seen is decided after that, for each.
"""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from nova_data.calls.batching import Batcher
from nova_services.blocks import Blocks
from nova_services.bodies import Page, Place
from nova_services.content.forms import Post
from nova_services.content.forms import Posts as PostsPage
from nova_services.content.posts import NEWEST, Posts
from nova_services.errors import NotFoundError

SEEN: Final = "seen"
"""The cookie, and the metadata, that say how much somebody has written."""


class Reading:
    """See the module. Raises what `Posts` does."""

    def __init__(self, posts: Posts, blocks: Blocks) -> None:
        self._posts = posts
        self._blocks = blocks
        self._loads: Batcher[UUID, Post | None] = Batcher(posts.find, missing=None)

    async def post(self, post: UUID, viewer: UUID | None, *, batched: bool = False) -> Post:
        """A post that the viewer may see, None for nobody in particular. Raises NotFoundError.

        `batched` waits a moment for others who ask; reads of one's own writes are those of whoever asked first, so it
        is for who has none.
        """
        found = await self._loads.load(post) if batched else (await self._posts.find([post])).get(post)
        if found is None or not await self._seen([found], viewer):
            raise NotFoundError("there is no such post")
        return found

    async def some(self, posts: Sequence[UUID], viewer: UUID | None) -> list[Post]:
        """Those of many that the viewer may see, in any order; None for nobody in particular."""
        return await self._seen((await self._posts.find(posts)).values(), viewer)

    async def of_a_user(self, author: UUID, viewer: UUID, page: Page) -> PostsPage:
        """Somebody's posts. Raises InvalidError for a token that is none."""
        rows = await self._posts.of_a_user(author, viewer, page.after(Place) or NEWEST, page.size + 1)
        return await self._page(page, rows, viewer)

    async def feed(self, user: UUID, page: Page) -> PostsPage:
        """Posts of whom the user follows. Raises InvalidError for a token that is none."""
        rows = await self._posts.feed(user, page.after(Place) or NEWEST, page.size + 1)
        return await self._page(page, rows, user)

    async def _page(self, page: Page, rows: list[Post], viewer: UUID) -> PostsPage:
        """A page has fewer posts than asked for where some are hidden; its token says whether it is the last one."""
        kept, following = page.cut(rows, lambda post: Place(post.created_at, post.post_id))
        return PostsPage(await self._not_blocked(kept, viewer), following)

    async def _seen(self, posts: Collection[Post], viewer: UUID | None) -> list[Post]:
        if viewer is None:
            return [post for post in posts if post.is_public]
        close = {post.author_id for post in posts if not post.is_public} - {viewer}
        known = await self._posts.followed(viewer, close) | {viewer} if close else {viewer}
        return await self._not_blocked([post for post in posts if post.is_public or post.author_id in known], viewer)

    async def _not_blocked(self, posts: Sequence[Post], viewer: UUID) -> list[Post]:
        known = await self._blocks.lately(viewer, [post.author_id for post in posts])
        return [post for post in posts if _is_shown(post, blocked=known[post.author_id])]


def _is_shown(post: Post, *, blocked: bool | None) -> bool:
    return post.is_public if blocked is None else not blocked
