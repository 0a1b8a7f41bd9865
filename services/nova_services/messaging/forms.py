"""What goes in and out over HTTP."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from nova_services.messaging import conversations
from nova_services.messaging.conversations import MOST_MEMBERS, Draft
from nova_services.messaging.frames import Text


class NewConversation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Who is to talk with the one who asks."""

    members: Annotated[list[UUID], Meta(min_length=1, max_length=MOST_MEMBERS)]


class NewMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A message that is to be sent; `clientId` is a UUID that the sender has made for it."""

    client_id: UUID
    text: Text

    def draft(self, conversation: UUID, sender: UUID) -> Draft:
        """As a message of this user."""
        return Draft(conversation, sender, self.client_id, self.text)


class Conversation(msgspec.Struct, frozen=True, rename="camel"):
    """Who talks, and how much was said."""

    conversation_id: UUID
    members: Sequence[UUID]
    created_at: datetime
    last_position: int


class Conversations(msgspec.Struct, frozen=True, rename="camel"):
    """A page of conversations, the newest first; the token leads to the next one and is empty at the end."""

    conversations: list[Conversation]
    next_page_token: str


class Message(msgspec.Struct, frozen=True, rename="camel"):
    """A message; `position` is its place in the conversation, from 1."""

    conversation_id: UUID
    position: int
    sender_id: UUID
    client_id: UUID
    text: str
    sent_at: datetime


class Messages(msgspec.Struct, frozen=True, rename="camel"):
    """A page of messages, the oldest first; the token leads to the next one and is empty at the end."""

    messages: list[Message]
    next_page_token: str


class After(msgspec.Struct, frozen=True, rename="camel"):
    """Which part of a conversation."""

    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """The last position that one has."""
    page_size: Annotated[int, Meta(ge=1, le=100)] = 20
    page_token: Annotated[str, Meta(max_length=256)] = ""


def conversation(found: conversations.Conversation) -> Conversation:
    """As it is answered."""
    return Conversation(*found)


def message(found: conversations.Message) -> Message:
    """As it is answered."""
    return Message(*found)
