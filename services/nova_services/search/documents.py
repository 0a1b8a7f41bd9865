"""What events say, as the index takes it: without a clock, a loop or a connection.

An event that says nothing to search is no error, and neither is a field that this reader does not know: whoever writes
events adds to them. One that lacks what it must have can never be taken.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from nova_data.consumer.message import Message
from nova_data.errors import RejectedError

T = TypeVar("T")
Time = Annotated[datetime, Meta(tz=True)]
PUBLIC: Final = "VISIBILITY_PUBLIC"


class Post(msgspec.Struct, frozen=True, rename="camel"):
    """Of `post-created`."""

    post_id: UUID
    author_id: UUID
    text: str
    visibility: str
    created_at: Time


class GonePost(msgspec.Struct, frozen=True, rename="camel"):
    """Of `post-deleted`."""

    post_id: UUID


class Person(msgspec.Struct, frozen=True, rename="camel"):
    """Of `profile-changed`; `changed_at` is the message's time where the event says none."""

    user_id: UUID
    display_name: str
    biography: str = ""
    changed_at: Time | None = None


class Erased(msgspec.Struct, frozen=True, rename="camel"):
    """Of `user-erased`."""

    user_id: UUID


Change = Post | GonePost | Person | Erased
_KINDS: Final[dict[str, type[Change]]] = {
    "post-created": Post,
    "post-deleted": GonePost,
    "profile-changed": Person,
    "user-erased": Erased,
}
EVENTS: Final = tuple(_KINDS)
"""Those that change the index."""


def change(message: Message) -> Change | None:
    """What a message changes; None where that is nothing, as it is with a post that not everybody may see. Raises
    RejectedError naming the field, and nothing of what it says."""
    kind = _KINDS.get(message.event_type or "")
    if kind is None:
        return None
    found = _read(message.value, kind)
    if isinstance(found, Post) and found.visibility != PUBLIC:
        return None
    if isinstance(found, Person) and found.changed_at is None:
        return msgspec.structs.replace(found, changed_at=datetime.fromtimestamp(message.timestamp, UTC))
    return found


def _read(value: bytes | None, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(value or b"", type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RejectedError(f"{kind.__name__}: {error}") from None
