"""The types of the schema, and how they are made of what services answer.

What people have written says who they are by an id alone. Their names are loaded for all that stand on a page together
(`Context.people`): one call, however many there are. So are posts of which another service has said the ids alone.
"""

import enum
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp
from nova.messages.v1 import messages_pb2
from nova.notifications.v1 import notifications_pb2
from nova.posts.v1 import posts_pb2
from nova.users.v1 import users_pb2

from nova_data.calls.batching import Batcher
from nova_services.graphql import answers
from nova_services.graphql.calls import Calls
from nova_services.graphql.upstreams import Upstreams


class Context:
    """What the fields of one request share."""

    def __init__(self, upstreams: Upstreams, calls: Calls) -> None:
        self.upstreams = upstreams
        self.calls = calls
        self.people: Batcher[UUID, Person | None] = Batcher(self._load_people, missing=None, remember=True)
        """Loads of profiles: those within 10 ms are one call, and each is made once."""
        self.posts: Batcher[UUID, Post | None] = Batcher(self._load_posts, missing=None, remember=True)
        """The same of posts."""

    async def _load_people(self, users: Sequence[UUID]) -> "dict[UUID, Person | Exception]":
        asked = users_pb2.BatchGetProfilesRequest(user_ids=map(str, users), viewer_id=str(self.calls.viewer or ""))
        found = await self.calls.grpc("users", self.upstreams.users.BatchGetProfiles, asked)
        return {UUID(profile.user_id): person(profile) for profile in found.profiles}

    async def _load_posts(self, posts: Sequence[UUID]) -> "dict[UUID, Post | Exception]":
        asked = posts_pb2.BatchGetPostsRequest(post_ids=map(str, posts), viewer_id=str(self.calls.viewer or ""))
        found = await self.calls.grpc("content", self.upstreams.posts.BatchGetPosts, asked)
        return {UUID(one.post_id): post(one) for one in found.posts}


Info = strawberry.Info[Context, None]


@strawberry.enum(description="Who may see a post: everybody, or who follows its author.")
class Visibility(enum.Enum):
    """By the name that it has between services."""

    PUBLIC = "VISIBILITY_PUBLIC"
    FOLLOWERS = "VISIBILITY_FOLLOWERS"


@strawberry.enum(description="What a notification tells of; OTHER is what this schema does not know yet.")
class NotificationKind(enum.Enum):
    """By the number that it has in the protos."""

    OTHER = 0
    WELCOME = 1
    FOLLOWED = 2
    COMMENTED = 3
    MESSAGED = 4


@strawberry.type(description="What others see of somebody.")
class Person:
    """Of a profile."""

    id: UUID
    display_name: str
    biography: str
    created_at: datetime


@strawberry.type(description="What somebody wrote.")
class Post:
    """Of content."""

    id: UUID
    author_id: UUID
    text: str
    visibility: Visibility
    created_at: datetime

    @strawberry.field(description="Null where there is a block, or the profile is gone.")
    async def author(self, info: Info) -> Person | None:
        """Loaded with those of the other posts."""
        return await info.context.people.load(self.author_id)


@strawberry.type(description="What somebody wrote under a post.")
class Comment:
    """Of content."""

    id: UUID
    author_id: UUID
    text: str
    created_at: datetime

    @strawberry.field(description="Null where there is a block, or the profile is gone.")
    async def author(self, info: Info) -> Person | None:
        """Loaded with those of the other comments."""
        return await info.context.people.load(self.author_id)


@strawberry.type(description="One message of a conversation.")
class Message:
    """Of messaging."""

    position: int
    conversation_id: UUID
    sender_id: UUID
    text: str
    sent_at: datetime

    @strawberry.field(description="Null where there is a block, or the profile is gone.")
    async def sender(self, info: Info) -> Person | None:
        """Loaded with those of the other messages."""
        return await info.context.people.load(self.sender_id)


@strawberry.type(description="What one should hear of.")
class Notification:
    """Of notification."""

    id: UUID
    kind: NotificationKind
    actor_id: UUID | None
    subject_id: UUID | None
    created_at: datetime
    read: bool

    @strawberry.field(description="Who caused it; null where nobody did.")
    async def actor(self, info: Info) -> Person | None:
        """Loaded with those of the other notifications."""
        return None if self.actor_id is None else await info.context.people.load(self.actor_id)


@strawberry.type(description="A page of posts.")
class PostPage:
    """With where it goes on."""

    items: list[Post]
    next: str | None = strawberry.field(description="For `after`; null at the end.")


@strawberry.type(description="A page of comments.")
class CommentPage:
    """With where it goes on."""

    items: list[Comment]
    next: str | None = strawberry.field(description="For `after`; null at the end.")


@strawberry.type(description="A page of people.")
class PersonPage:
    """With where it goes on."""

    items: list[Person]
    next: str | None = strawberry.field(description="For `after`; null at the end.")


@strawberry.type(description="A page of notifications.")
class NotificationPage:
    """With where it goes on."""

    items: list[Notification]
    next: str | None = strawberry.field(description="For `after`; null at the end.")
    unread: int = strawberry.field(description="Of all of them.")


# --- of what services answer


def person(profile: users_pb2.Profile) -> Person:
    """Of users."""
    return Person(
        id=UUID(profile.user_id),
        display_name=profile.display_name,
        biography=profile.biography,
        created_at=_time(profile.created_at),
    )


def post(found: posts_pb2.Post) -> Post:
    """Of content, by gRPC."""
    return Post(
        id=UUID(found.post_id),
        author_id=UUID(found.author_id),
        text=found.text,
        visibility=Visibility(posts_pb2.Visibility.Name(found.visibility)),
        created_at=_time(found.created_at),
    )


def written(found: answers.Post) -> Post:
    """Of content and search, by HTTP."""
    return Post(
        id=found.post_id,
        author_id=found.author_id,
        text=found.text,
        visibility=Visibility(found.visibility),
        created_at=found.created_at,
    )


def posts_page(found: answers.Posts) -> PostPage:
    """A page of these."""
    return PostPage(items=[written(one) for one in found.posts], next=found.next_page_token or None)


def comment(found: answers.Comment) -> Comment:
    """Of content."""
    return Comment(id=found.comment_id, author_id=found.author_id, text=found.text, created_at=found.created_at)


def message(found: messages_pb2.Message) -> Message:
    """Of messaging."""
    return Message(
        position=found.position,
        conversation_id=UUID(found.conversation_id),
        sender_id=UUID(found.sender_id),
        text=found.text,
        sent_at=_time(found.sent_at),
    )


def notifications(found: Iterable[notifications_pb2.Notification]) -> list[Notification]:
    """Of notification."""
    return [
        Notification(
            id=UUID(one.notification_id),
            kind=_kind(one.kind),
            actor_id=UUID(one.actor_id) if one.actor_id else None,
            subject_id=UUID(one.subject_id) if one.subject_id else None,
            created_at=_time(one.created_at),
            read=one.read,
        )
        for one in found
    ]


def _kind(number: int) -> NotificationKind:
    try:
        return NotificationKind(number)
    except ValueError:
        return NotificationKind.OTHER


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)
