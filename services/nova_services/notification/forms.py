"""What goes out over HTTP."""

from datetime import datetime
from uuid import UUID

import msgspec

from nova_services.notification import notifications
from nova_services.notification.notices import Kind


class Notification(msgspec.Struct, frozen=True, rename="camel"):
    """What somebody should hear of: caused by whom, and about what, where there is either."""

    notification_id: UUID
    kind: Kind
    actor_id: UUID | None
    subject_id: UUID | None
    created_at: datetime
    read: bool


class Notifications(msgspec.Struct, frozen=True, rename="camel"):
    """A page of notifications, the newest first, and how many of all are unread; the token leads to the next page and
    is empty at the end."""

    notifications: list[Notification]
    next_page_token: str
    unread: int


class Unread(msgspec.Struct, frozen=True, rename="camel"):
    """How many of all are unread."""

    unread: int


def notification(found: notifications.Notification) -> Notification:
    """As it is answered."""
    return Notification(found.identity, found.kind, found.actor, found.subject, found.created_at, found.read)
