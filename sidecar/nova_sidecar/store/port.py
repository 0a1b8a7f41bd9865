"""What policies may ask of a store. Keys are text, values bytes that are never empty, lifetimes seconds."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

LARGEST: Final = 8 << 20
"""Bytes of a value that is read at most; the store sends no more."""
LONGEST_HOLDER: Final = 1024
"""Bytes of who may hold a key."""


class StoreError(Exception):
    """No answer that could be used; the message says why, without credentials or values."""


class Store(Protocol):
    """One store. Every method raises StoreError, and may be called by many at once."""

    async def get(self, key: str) -> bytes | None:
        """The value of a key, None where there is none. One of more than `LARGEST` bytes is none that could be used."""
        ...

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Set a key for so long."""
        ...

    async def hold(self, key: str, value: bytes, seconds: float, instead_of: bytes = b"") -> bytes:
        """Who holds a key, for so long from now on: whoever does, or `value`, where nobody does or `instead_of` did.

        One step for all who ask at once: each gets the same answer. A value of more than `LONGEST_HOLDER` bytes holds
        nothing: no policy has put it there.
        """
        ...

    async def delete(self, key: str) -> None:
        """Forget a key, if there is one."""
        ...

    async def run(self, script: str, keys: tuple[str, ...], arguments: tuple[bytes | int | str, ...]) -> Any:
        """Run a script of the store's own (Redis: Lua) as a single step and return what it does: an int, bytes, None or
        a list of those. All keys must live in one place: in a Cluster, in one hash slot (``{tag}`` in their names)."""
        ...


class Backend(Store, Protocol):
    """A store as the guard has it."""

    def login(self, files: Mapping[str, bytes]) -> None:
        """Use these credentials from now on: `username`, `password` and `ca.crt`, each of which may be missing. Raises
        ValueError for what cannot be used."""
        ...

    async def listen(self, channel: str, heard: Callable[[bytes], None], joined: Callable[[], None]) -> None:
        """Give each message of a channel to `heard`, on a connection of its own, until that is lost, which raises
        StoreError; `joined` is called once messages come."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
