"""Which sessions have been here before, so that reconnects can be told from new visitors.

A session's name may be a secret or say who somebody is, so none is kept: only a keyed hash (BLAKE2, RFC 7693), with a
key that ends with the process. Sixty-four bits of it are enough to count by. The last ones are remembered, and their
number is bounded, so that a client who invents names only costs others their memory of reconnects.
"""

from hashlib import blake2b
from typing import Final

REMEMBERED: Final = 32_768
"""Sessions that are remembered; about 4 MB when all of it is used, nothing before."""


class Sessions:
    """Remembers the sessions seen last. `key`: 16 to 64 random bytes."""

    __slots__ = ("_key", "_limit", "_seen")

    def __init__(self, key: bytes, limit: int = REMEMBERED) -> None:
        self._key = key
        self._limit = limit
        self._seen: dict[bytes, None] = {}

    def seen(self, session: bytes) -> bool:
        """Whether this one was here before; from now on it was."""
        name = blake2b(session, digest_size=8, key=self._key).digest()
        known = self._seen.pop(name, self) is None
        self._seen[name] = None  # again at the end: the one seen longest ago is forgotten first
        if len(self._seen) > self._limit:
            del self._seen[next(iter(self._seen))]
        return known

    def __repr__(self) -> str:
        return f"<Sessions {len(self._seen)}>"
