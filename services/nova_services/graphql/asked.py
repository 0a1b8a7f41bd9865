"""A request of GraphQL over HTTP, and the answer to it (graphql.github.io/graphql-over-http/draft)."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta


class PersistedQuery(msgspec.Struct, frozen=True, rename="camel"):
    """The document by its SHA-256, in hexadecimal digits."""

    sha256_hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    version: Annotated[int, Meta(ge=1, le=1)] = 1


class Extensions(msgspec.Struct, frozen=True, rename="camel"):
    """What is not part of the language; others than this one are passed over."""

    persisted_query: PersistedQuery | None = None


class Asked(msgspec.Struct, frozen=True, rename="camel"):
    """One operation; a document, or the hash of one, must be there."""

    query: str = ""
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: Extensions | None = None

    @property
    def digest(self) -> str:
        """The document's hash, empty where there is none."""
        persisted = self.extensions and self.extensions.persisted_query
        return persisted.sha256_hash if persisted else ""


class Place(msgspec.Struct, frozen=True):
    """In the document, from 1."""

    line: int
    column: int


class Trouble(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error of a field, or of the whole document."""

    message: str
    locations: list[Place] = []
    path: list[str | int] = []
    extensions: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Data, and errors of the fields that have none; without `data` nothing was run."""

    data: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    errors: list[Trouble] = []
