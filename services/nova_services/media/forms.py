"""What goes out over HTTP."""

from datetime import datetime
from uuid import UUID

import msgspec

from nova_services.media.records import Record


class Media(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of a file: `kind` is its media type, `size` in bytes, `sha256` of its content in hexadecimal."""

    media_id: UUID
    owner_id: UUID
    kind: str
    size: int
    sha256: str
    created_at: datetime


def media(record: Record) -> Media:
    """As it is answered."""
    return Media(record.media, record.owner, record.kind, record.size, record.sha256.hex(), record.created_at)
