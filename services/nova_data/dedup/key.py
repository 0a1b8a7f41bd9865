"""What a store keeps of an idempotency key: 16 bytes, whatever the key is.

A digest is short, has the same length for all, and tells nobody a customer's number that somebody put into a key. The
scope goes into it: two consumers of one event have an effect each. Two of n keys share a digest with a probability of
n² / 2^129: 3e-23 for the 144 million keys of a day at 100 000 a minute (the birthday bound; BLAKE2, RFC 7693).
"""

import re
from hashlib import blake2b
from typing import Final

LONGEST: Final = 512
"""Characters of a key."""
_SCOPE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def digest(scope: str, key: str) -> bytes:
    """16 bytes of a key within a scope. Raises ValueError for an empty key or one of more than 512 characters."""
    if not 1 <= len(key) <= LONGEST:
        raise ValueError(f"idempotency key: expected 1 to {LONGEST} characters, got {len(key)}")
    return blake2b(f"{scope}\0{key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def checked_scope(scope: str) -> str:
    """The scope, if it is one. Raises ValueError."""
    if not _SCOPE.fullmatch(scope):
        raise ValueError(
            "scope: expected 1 to 64 lower-case letters, digits, dots, hyphens and underscores,"
            f" a letter or digit first, got {scope[:80]!r}"
        )
    return scope
