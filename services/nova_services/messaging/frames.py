"""What goes over a WebSocket of /chat: JSON objects as text, each with its `type`.

    client  {"type": "send", "conversationId", "clientId", "text"}
    server  {"type": "ready", "after"}                                  where the stream begins for this client
            {"type": "message", "after", "conversationId", "position", "senderId", "clientId", "text", "sentAt"}
            {"type": "sent", "clientId", "conversationId", "position", "sentAt"}
            {"type": "error", "error", "clientId", "retryAfter"}        of a frame, by its client id

`after` of a message is what a client that has it gives when it comes back: /chat?after=….
"""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from nova_services.messaging.conversations import Draft, Message

LONGEST_TEXT: Final = 4000
LARGEST: Final = 64 * 1024
"""Bytes of a client's frame: 4000 characters as JSON may write them, and the rest of it."""

Text = Annotated[str, Meta(min_length=1, max_length=LONGEST_TEXT, pattern=r"^[^\x00]*$")]
"""Of a message; PostgreSQL's text has no NUL."""


class Send(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", tag="send"):
    """A client sends a message; `clientId` is a UUID that it has made for it."""

    conversation_id: UUID
    client_id: UUID
    text: Text

    def draft(self, sender: UUID) -> Draft:
        """As a message of this user."""
        return Draft(self.conversation_id, sender, self.client_id, self.text)


class Ready(msgspec.Struct, frozen=True, rename="camel", tag="ready"):
    """The first frame of the server's."""

    after: int


class Told(msgspec.Struct, frozen=True, rename="camel", tag="message"):
    """A message of somebody's, perhaps of the reader's own."""

    after: int
    conversation_id: UUID
    position: int
    sender_id: UUID
    client_id: UUID
    text: str
    sent_at: datetime


class Stored(msgspec.Struct, frozen=True, rename="camel", tag="sent"):
    """A message of the client's is stored, and will not be lost."""

    client_id: UUID
    conversation_id: UUID
    position: int
    sent_at: datetime


class Failed(msgspec.Struct, frozen=True, rename="camel", tag="error", omit_defaults=True):
    """A frame that was not taken; with `retryAfter`, in seconds, it may be sent again as it is."""

    error: str
    client_id: UUID | None = None
    retry_after: int | None = None


_decoder: Final = msgspec.json.Decoder(Send)
_encoder: Final = msgspec.json.Encoder()
Frame = Ready | Told | Stored | Failed


def decode(data: str) -> Send:
    """Read a client's frame. Raises ValueError with field and rule."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def encode(frame: Frame) -> str:
    """Write a frame of the server's."""
    return _encoder.encode(frame).decode()


def told(place: int, message: Message) -> Told:
    """A message in a user's stream."""
    return Told(
        place,
        message.conversation,
        message.position,
        message.sender,
        message.client,
        message.text,
        message.sent_at,
    )


def stored(message: Message) -> Stored:
    """The answer to who sent it."""
    return Stored(message.client, message.conversation, message.position, message.sent_at)
