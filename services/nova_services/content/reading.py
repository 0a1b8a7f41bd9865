"""What somebody may see of what is there: the same rules for HTTP and gRPC.

* A post of `VISIBILITY_FOLLOWERS` is seen by its author and by who follows the author.
* A block between author and viewer hides posts; what holds while users is away is in `blocks`.
* What is hidden is answered like what is not there.

Single posts are loaded by `Batcher`: a page of other services that shows fifty posts asks fifty times at once, which is
one query. What is loaded does not depend on who asks; whether it may be seen is decided after that, for each.
"""

from uuid import UUID

from nova_data.calls.batching import Batcher
from nova_services.bodies import Page, Place
from nova_services.content.blocks import Blocks
from nova_services.content.forms import Post
from nova_services.content.forms import Posts as PostsPage
from nova_services.content.posts import NEWEST, Posts
from nova_services.errors import NotFoundError


class Reading:
    """See the module. Raises what `Posts` does."""

    def __init__(self, posts: Posts, blocks: Blocks) -> None:
        self._posts = posts
        self._blocks = blocks
        self._loads: Batcher[UUID, Post | None] = Batcher(posts.find, missing=None)

    async def post(self, post: UUID, viewer: UUID | None, *, batched: bool = False) -> Post:
        """A post that the viewer may see, None for nobody in particular. Raises NotFoundError.

        `batched` waits a moment for others who ask; reads of one's own writes are those of whoever asked first, so it
        is for calls of services, which have none.
        """
        found = await self._loads.load(post) if batched else (await self._posts.find([post])).get(post)
        if found is None or not await self._may_see(found, viewer):
            raise NotFoundError("there is no such post")
        return found

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
        return PostsPage(await self._blocks.visible(viewer, kept), following)

    async def _may_see(self, post: Post, viewer: UUID | None) -> bool:
        if viewer is None or viewer == post.author_id:
            return viewer is not None or post.is_public
        if not post.is_public and not await self._posts.follows(viewer, post.author_id):
            return False
        return bool(await self._blocks.visible(viewer, [post]))
