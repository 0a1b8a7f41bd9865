"""What goes in and out over HTTP."""

from datetime import datetime
from uuid import UUID

import msgspec

from nova_services.media.records import Record, Visibility


class Choice(msgspec.Struct, frozen=True, rename="camel"):
    """Parameters of an upload."""

    visibility: Visibility = "VISIBILITY_PRIVATE"


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What an owner may change of a file."""

    visibility: Visibility


class Media(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of a file: `kind` is its media type, `size` in bytes, `sha256` of its content in hexadecimal. A
    private one is its owner's alone, a public one is there for everybody who is logged in."""

    media_id: UUID
    owner_id: UUID
    kind: str
    size: int
    sha256: str
    visibility: Visibility
    created_at: datetime


def media(record: Record) -> Media:
    """As it is answered."""
    return Media(
        record.media,
        record.owner,
        record.kind,
        record.size,
        record.sha256.hex(),
        record.visibility,
        record.created_at,
    )
