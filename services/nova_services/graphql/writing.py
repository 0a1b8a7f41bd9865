"""The mutations. What was written is answered, so that a page need not ask for it."""

from uuid import UUID

import strawberry
from nova.messages.v1 import messages_pb2
from nova.notifications.v1 import notifications_pb2

from nova_services.graphql import answers, types
from nova_services.graphql.types import Comment, Info, Message, Person, Post, Visibility


@strawberry.type(description="What can be done.")
class Mutation:
    """See the module."""

    @strawberry.mutation(description="Write a post of 1 to 5000 characters.")
    async def create_post(self, info: Info, text: str, visibility: Visibility = Visibility.PUBLIC) -> Post | None:
        """By content."""
        calls = info.context.calls
        calls.require_viewer()
        body = {"text": text, "visibility": visibility.value}
        url = f"{info.context.upstreams.content}/posts"
        made = await calls.http("content", "POST", url, kind=answers.Post, body=body)
        return types.written(made)

    @strawberry.mutation(description="Delete a post of one's own; answers its id.")
    async def delete_post(self, info: Info, id: UUID) -> UUID | None:  # noqa: A002 - the argument's name in the schema
        """By content."""
        await _done(info, "DELETE", f"/posts/{id}")
        return id

    @strawberry.mutation(description="Write something under a post.")
    async def comment(self, info: Info, post: UUID, text: str) -> Comment | None:
        """By content."""
        calls = info.context.calls
        calls.require_viewer()
        url = f"{info.context.upstreams.content}/posts/{post}/comments"
        return types.comment(await calls.http("content", "POST", url, kind=answers.Comment, body={"text": text}))

    @strawberry.mutation(description="Follow somebody, whose posts are in the feed from then on. May be repeated.")
    async def follow(self, info: Info, person: UUID) -> Person | None:
        """By content."""
        await _done(info, "PUT", f"/follows/{person}")
        return await info.context.people.load(person)

    @strawberry.mutation(description="Follow somebody no more. May be repeated.")
    async def unfollow(self, info: Info, person: UUID) -> Person | None:
        """By content."""
        await _done(info, "DELETE", f"/follows/{person}")
        return await info.context.people.load(person)

    @strawberry.mutation(
        description="Send a message to a conversation of one's own. `clientId` is new for each message; with the same"
        " one it is sent once."
    )
    async def send_message(self, info: Info, conversation: UUID, text: str, client_id: UUID) -> Message | None:
        """By messaging."""
        asked = messages_pb2.SendMessageRequest(
            conversation_id=str(conversation),
            sender_id=str(info.context.calls.require_viewer()),
            text=text,
            client_id=str(client_id),
        )
        sent = await info.context.calls.grpc("messaging", info.context.upstreams.messages.SendMessage, asked)
        return types.message(sent.message)

    @strawberry.mutation(description="One has read a notification and all before it; answers how many are unread.")
    async def mark_read(self, info: Info, notification: UUID) -> int | None:
        """By notification."""
        asked = notifications_pb2.MarkReadRequest(
            user_id=str(info.context.calls.require_viewer()), notification_id=str(notification)
        )
        done = await info.context.calls.grpc("notification", info.context.upstreams.notifications.MarkRead, asked)
        return done.unread


async def _done(info: Info, method: str, path: str) -> None:
    """A request to content that answers nothing."""
    calls = info.context.calls
    calls.require_viewer()
    await calls.http("content", method, info.context.upstreams.content + path, kind=type(None))
