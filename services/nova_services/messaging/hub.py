"""The WebSockets of this process, by user. No I/O: it knows who is behind, and gives them a sign."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol
from uuid import UUID


class Reader(Protocol):
    """Somebody who reads a user's stream."""

    user: UUID

    @property
    def place(self) -> int:
        """How far it has read."""

    def wake(self) -> None:
        """There is something to read, or may be."""


class Hub:
    """See the module. A user has any number of WebSockets, each with a place of its own."""

    def __init__(self) -> None:
        self._readers: dict[UUID, set[Reader]] = {}

    def join(self, reader: Reader) -> None:
        """A WebSocket is open."""
        self._readers.setdefault(reader.user, set()).add(reader)

    def leave(self, reader: Reader) -> None:
        """It is not any more."""
        others = self._readers.get(reader.user, set())
        others.discard(reader)
        if not others:
            self._readers.pop(reader.user, None)

    def users(self) -> list[UUID]:
        """Whose WebSockets are here."""
        return list(self._readers)

    def readers(self) -> Iterator[Reader]:
        """All WebSockets, as they are now."""
        for some in tuple(self._readers.values()):
            yield from tuple(some)

    def wake(self, users: Iterable[UUID]) -> None:
        """These have something to read; those who are not here are passed over."""
        for user in users:
            for reader in self._readers.get(user, ()):
                reader.wake()

    def compare(self, ends: Mapping[UUID, int]) -> int:
        """Wake who has read less than there is; how many they are."""
        behind = [one for user, end in ends.items() for one in self._readers.get(user, ()) if one.place < end]
        for reader in behind:
            reader.wake()
        return len(behind)

    def __len__(self) -> int:
        return sum(map(len, self._readers.values()))

    def __repr__(self) -> str:
        return f"<Hub users={len(self._readers)} readers={len(self)}>"
