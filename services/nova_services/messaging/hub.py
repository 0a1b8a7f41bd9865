"""The WebSockets of this process, by user. No I/O: it knows who is behind and who may stay, and gives them a sign.

A user has a few of them, and with one too many the oldest goes, not the newest: whose network has gone comes back while
the WebSockets of before are still taken for open, and must not be kept out by them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol
from uuid import UUID

from nova_services.messaging.staying import MOST, Closed


class Reader(Protocol):
    """Somebody who reads a user's stream."""

    user: UUID
    session: UUID | None
    """The login, where it is known."""

    @property
    def place(self) -> int:
        """How far it has read."""

    def wake(self) -> None:
        """There is something to read, or may be."""

    def end(self, why: Closed) -> None:
        """It must go."""


class Hub:
    """See the module. Each WebSocket has a place of its own; `most` is how many a user may have, from 1."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._readers: dict[UUID, dict[Reader, None]] = {}
        """Of each user, the oldest first."""

    def join(self, reader: Reader) -> None:
        """A WebSocket is open; where the user has too many with it, the oldest must go."""
        readers = self._readers.setdefault(reader.user, {})
        readers[reader] = None
        if len(readers) > self._most:
            oldest = next(iter(readers))
            del readers[oldest]  # it is closing: the next one too many is another one's turn
            oldest.end("crowded")

    def leave(self, reader: Reader) -> None:
        """It is not any more."""
        others = self._readers.get(reader.user, {})
        others.pop(reader, None)
        if not others:
            self._readers.pop(reader.user, None)

    def users(self) -> list[UUID]:
        """Whose WebSockets are here."""
        return list(self._readers)

    def sessions(self) -> list[UUID]:
        """Whose logins these are, as far as they are known."""
        return list({one.session for one in self.readers() if one.session is not None})

    def dismiss(self, users: Collection[UUID], sessions: Collection[UUID]) -> None:
        """Who is of one of these users, or came with one of these logins, must go."""
        for one in self.readers():
            if one.user in users or one.session in sessions:
                one.end("logged_out")

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
