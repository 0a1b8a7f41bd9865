"""The queries. Each is null where its service does not answer, with an error that says why, and the others have their
values."""

from typing import Any, Final
from uuid import UUID

import strawberry
from nova.messages.v1 import messages_pb2
from nova.notifications.v1 import notifications_pb2
from nova.posts.v1 import posts_pb2

from nova_services.graphql import answers, types
from nova_services.graphql.errors import Code, failure
from nova_services.graphql.types import (
    CommentPage,
    Info,
    Message,
    NotificationPage,
    Person,
    PersonPage,
    Post,
    PostPage,
)

FIRST: Final = 20
MOST: Final = 100
"""Of a page; the sidecar counts with `first` what a document costs."""


@strawberry.type(description="What can be asked for.")
class Query:
    """See the module."""

    @strawberry.field(description="Oneself; null as long as there is no profile.")
    async def me(self, info: Info) -> Person | None:
        """Of users."""
        return await info.context.people.load(info.context.calls.require_viewer())

    @strawberry.field(description="Somebody; null where there is nobody, or a block.")
    async def person(self, info: Info, id: UUID) -> Person | None:  # noqa: A002 - the argument's name in the schema
        """Of users."""
        return await info.context.people.load(id)

    @strawberry.field(description="A post; null where there is none, or not for oneself.")
    async def post(self, info: Info, id: UUID) -> Post | None:  # noqa: A002 - the argument's name in the schema
        """Of content."""
        return await info.context.posts.load(id)

    @strawberry.field(description="Posts of whom one follows, newest first.")
    async def feed(self, info: Info, first: int = FIRST, after: str = "") -> PostPage | None:
        """Of content."""
        calls = info.context.calls
        asked = posts_pb2.ListFeedRequest(user_id=str(calls.require_viewer()), page_size=_size(first), page_token=after)
        found = await calls.grpc("content", info.context.upstreams.posts.ListFeed, asked)
        return PostPage(items=[types.post(one) for one in found.posts], next=found.next_page_token or None)

    @strawberry.field(description="What somebody wrote, newest first.")
    async def posts(self, info: Info, author: UUID, first: int = FIRST, after: str = "") -> PostPage | None:
        """Of content."""
        url = f"{info.context.upstreams.content}/users/{author}/posts"
        found = await info.context.calls.http("content", "GET", url, kind=answers.Posts, query=_page(first, after))
        return types.posts_page(found)

    @strawberry.field(description="What was written under a post, oldest first.")
    async def comments(self, info: Info, post: UUID, first: int = FIRST, after: str = "") -> CommentPage | None:
        """Of content."""
        url = f"{info.context.upstreams.content}/posts/{post}/comments"
        found = await info.context.calls.http("content", "GET", url, kind=answers.Comments, query=_page(first, after))
        return CommentPage(items=[types.comment(one) for one in found.comments], next=found.next_page_token or None)

    @strawberry.field(description="Public posts with these words, the best first.")
    async def search_posts(self, info: Info, words: str, first: int = FIRST, after: str = "") -> PostPage | None:
        """Of search."""
        query = {"q": words, "kind": "posts", **_page(first, after)}
        url = f"{info.context.upstreams.search}/search"
        return types.posts_page(await info.context.calls.http("search", "GET", url, kind=answers.Posts, query=query))

    @strawberry.field(description="People with these words in their profiles, the best first.")
    async def search_people(self, info: Info, words: str, first: int = FIRST, after: str = "") -> PersonPage | None:
        """Found by search; what is shown of them is what users says now."""
        query = {"q": words, "kind": "people", **_page(first, after)}
        url = f"{info.context.upstreams.search}/search"
        found = await info.context.calls.http("search", "GET", url, kind=answers.Hits, query=query)
        people = await info.context.people.load_all(hit.user_id for hit in found.people)
        return PersonPage(items=[one for one in people if one is not None], next=found.next_page_token or None)

    @strawberry.field(description="Posts that one may like, the best first.")
    async def recommendations(self, info: Info, first: int = FIRST) -> list[Post] | None:
        """Recommended by recommendations; what they say, and whether one may see it, content knows."""
        info.context.calls.require_viewer()
        count, url = _size(first), f"{info.context.upstreams.recommendations}/recommendations"
        found = await info.context.calls.http("recommendations", "GET", url, kind=answers.Recommendations)
        posts = await info.context.posts.load_all(one.post_id for one in found.posts[:count])
        return [post for post in posts if post is not None]

    @strawberry.field(description="What one should hear of, newest first.")
    async def notifications(self, info: Info, first: int = FIRST, after: str = "") -> NotificationPage | None:
        """Of notification."""
        calls = info.context.calls
        asked = notifications_pb2.ListNotificationsRequest(
            user_id=str(calls.require_viewer()), page_size=_size(first), page_token=after
        )
        found = await calls.grpc("notification", info.context.upstreams.notifications.ListNotifications, asked)
        return NotificationPage(
            items=types.notifications(found.notifications), next=found.next_page_token or None, unread=found.unread
        )

    @strawberry.field(description="Messages of a conversation of one's own after a position, oldest first.")
    async def messages(
        self, info: Info, conversation: UUID, after: int = 0, first: int = FIRST
    ) -> list[Message] | None:
        """Of messaging."""
        calls = info.context.calls
        if after < 0:
            raise failure(Code.BAD_USER_INPUT, "after: expected a position from 0")
        asked = messages_pb2.ListMessagesRequest(
            conversation_id=str(conversation),
            reader_id=str(calls.require_viewer()),
            after_position=after,
            page_size=_size(first),
        )
        found = await calls.grpc("messaging", info.context.upstreams.messages.ListMessages, asked)
        return [types.message(one) for one in found.messages]


def _size(first: int) -> int:
    if not 1 <= first <= MOST:
        raise failure(Code.BAD_USER_INPUT, f"first: expected 1 to {MOST}")
    return first


def _page(first: int, after: str) -> dict[str, Any]:
    return {"pageSize": _size(first), "pageToken": after}
