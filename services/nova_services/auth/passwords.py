"""Passwords: Argon2id with RFC 9106's second recommended option (section 4: 64 MiB, three passes, four lanes).

An address that nobody has takes as long as a wrong password: it is checked against a hash of nothing in particular, so
time does not tell who has an account. Few are checked at once, since each takes 64 MiB; the rest wait their turn, and
the sidecar's backpressure bounds how many wait.
"""

import asyncio
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

AT_ONCE: Final = 2
SHORTEST: Final = 12
LONGEST: Final = 256
"""Characters of a password; the upper bound only keeps requests small."""


class Passwords:
    """Hashes and checks, in threads: the loop goes on."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def hash(self, password: str) -> str:
        """With its salt and parameters, as text."""
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, kept: str | None) -> bool:
        """Whether it is the password of this hash; None is nobody's, takes as long, and never matches."""
        async with self._turn:
            right = await asyncio.to_thread(self._verify, password, kept or self._nobodys)
        return right and kept is not None

    def _verify(self, password: str, kept: str) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False
