"""From an event of content to a row of the analytics. No I/O.

A row has the version of its event, and the store keeps the highest one of each key: an event that comes twice, or after
a later one, changes nothing. The version is the event's place in its partition, which grows for all events of one post,
or of one follower. A row that is gone says so, and nothing of whom it was.

Posts that not everybody may see are none of the analytics' business.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from nova_data.consumer.message import Message
from nova_data.errors import RejectedError

NOBODY: Final = UUID(int=0)


class PostRow(msgspec.Struct, frozen=True):
    """A row of `posts`; `created_at` in seconds since 1970."""

    post_id: UUID
    author_id: UUID
    created_at: int
    version: int
    gone: int


class FollowRow(msgspec.Struct, frozen=True):
    """A row of `follows`."""

    follower_id: UUID
    followee_id: UUID
    version: int
    gone: int


Row = PostRow | FollowRow
TABLES: Final[dict[type[Row], str]] = {PostRow: "posts", FollowRow: "follows"}


def row(message: Message) -> Row | None:
    """What an event says, None where it is of no interest. Raises RejectedError for one that is not what it must be."""
    read = _READERS.get(message.event_type or "")
    if read is None:
        return None
    try:
        return read(message.json(), message.offset + 1)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RejectedError(f"{message.event_type}: {type(error).__name__}") from None


def _post_created(said: dict[str, Any], version: int) -> Row | None:
    if said["visibility"] != "VISIBILITY_PUBLIC":
        return None
    created = int(datetime.fromisoformat(said["createdAt"]).timestamp())
    return PostRow(UUID(said["postId"]), UUID(said["authorId"]), created, version, 0)


def _post_deleted(said: dict[str, Any], version: int) -> Row:
    return PostRow(UUID(said["postId"]), NOBODY, 0, version, 1)


def _followed(said: dict[str, Any], version: int) -> Row:
    return FollowRow(UUID(said["followerId"]), UUID(said["followeeId"]), version, 0)


def _unfollowed(said: dict[str, Any], version: int) -> Row:
    return FollowRow(UUID(said["followerId"]), UUID(said["followeeId"]), version, 1)


_READERS: Final = {
    "post-created": _post_created,
    "post-deleted": _post_deleted,
    "user-followed": _followed,
    "user-unfollowed": _unfollowed,
}
