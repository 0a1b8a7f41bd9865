"""Which event tells whom of what. No I/O and no clock.

    user-registered   welcome      the user
    user-followed     followed     who is followed now, by whom
    comment-created   commented    who wrote the post, by whom; not of one's own comments
    message-sent      messaged     each member that was away, by whom, in which conversation

A notification's id is made of the event's and the user's: the same event tells the same person the same thing, however
often it comes.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID, uuid5

import msgspec

Kind = Literal["KIND_WELCOME", "KIND_FOLLOWED", "KIND_COMMENTED", "KIND_MESSAGED"]
KINDS: Final[tuple[Kind, ...]] = ("KIND_WELCOME", "KIND_FOLLOWED", "KIND_COMMENTED", "KIND_MESSAGED")
_EVENTS: Final = UUID("4b1f6a0e-6f0e-4c39-8f6c-9f5c9f1d2a57")
"""The name space of ids (RFC 9562 section 5.5)."""


class Notice(NamedTuple):
    """What one person is told: by whom it was caused, and what it is about, where there is either."""

    user: UUID
    kind: Kind
    actor: UUID | None = None
    subject: UUID | None = None

    def identity(self, event: str) -> UUID:
        """Of the notification that this event makes."""
        return uuid5(_EVENTS, f"{event}/{self.user}")


class Registered(msgspec.Struct, frozen=True, rename="camel"):
    """Of user-registered."""

    user_id: UUID


class Followed(msgspec.Struct, frozen=True, rename="camel"):
    """Of user-followed."""

    follower_id: UUID
    followee_id: UUID


class Commented(msgspec.Struct, frozen=True, rename="camel"):
    """Of comment-created."""

    post_id: UUID
    post_author_id: UUID
    author_id: UUID


class Sent(msgspec.Struct, frozen=True, rename="camel"):
    """Of message-sent."""

    conversation_id: UUID
    sender_id: UUID
    away_ids: tuple[UUID, ...]


def _registered(event: Registered) -> list[Notice]:
    return [Notice(event.user_id, "KIND_WELCOME")]


def _followed(event: Followed) -> list[Notice]:
    return [Notice(event.followee_id, "KIND_FOLLOWED", event.follower_id)]


def _commented(event: Commented) -> list[Notice]:
    if event.author_id == event.post_author_id:
        return []
    return [Notice(event.post_author_id, "KIND_COMMENTED", event.author_id, event.post_id)]


def _sent(event: Sent) -> list[Notice]:
    away = dict.fromkeys(user for user in event.away_ids if user != event.sender_id)
    return [Notice(user, "KIND_MESSAGED", event.sender_id, event.conversation_id) for user in away]


_READERS: Final[Mapping[str, tuple[Any, Callable[[Any], list[Notice]]]]] = {
    "user-registered": (Registered, _registered),
    "user-followed": (Followed, _followed),
    "comment-created": (Commented, _commented),
    "message-sent": (Sent, _sent),
}
EVENTS: Final = tuple(_READERS)


def notices(event_type: str, payload: bytes | None) -> list[Notice]:
    """Whom an event tells of what. Raises ValueError, naming the field, for a payload that is not as it must be."""
    form, reader = _READERS[event_type]
    try:
        return reader(msgspec.json.decode(payload or b"", type=form))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def happened(timestamp: float) -> datetime:
    """When a message was written to its topic, in seconds since 1970."""
    return datetime.fromtimestamp(timestamp, UTC)
