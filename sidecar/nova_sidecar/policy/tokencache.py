"""What is remembered of tokens: valid ones until they expire, refused ones for a while, each kind in its own room.

Tokens are known by their SHA-256: a memory dump of the sidecar has none, equal lengths of keys bound what it costs, and
nobody finds out by timing how much of a guess is right. The least recently used leave; a flood of made-up tokens pushes
out refused ones only.

What was verified with a key is forgotten when that key is withdrawn, and everything when the configuration changes, so
that a revocation applies to what is remembered too.
"""

from typing import Final

from nova_sidecar.policy.jws import Fault
from nova_sidecar.policy.jwt import Verdict

REFUSED_FOR: Final = 60.0
"""Seconds for which a refusal is remembered."""
LASTING: Final = frozenset(
    (Fault.MALFORMED, Fault.ALGORITHM, Fault.ISSUER, Fault.SIGNATURE, Fault.EXPIRED, Fault.AUDIENCE, Fault.CLAIM,
     Fault.FORBIDDEN, Fault.REVOKED)
)  # fmt: skip
"""What is wrong with a token for as long as keys and configuration are what they are."""


class TokenCache:
    """See the module. Times are seconds since the epoch."""

    __slots__ = ("_entries", "_lifetime", "_refused", "_refused_entries", "_valid")

    def __init__(self, *, entries: int, refused_entries: int, lifetime: float) -> None:
        self._entries = entries
        self._refused_entries = refused_entries
        self._lifetime = lifetime
        self._valid: dict[bytes, tuple[Verdict, float]] = {}
        self._refused: dict[bytes, tuple[Fault, float]] = {}

    def find(self, digest: bytes, now: float) -> Verdict | Fault | None:
        """What is remembered of a token; None where nothing is."""
        found = self._valid.pop(digest, None)
        if found is not None:
            if now < found[1]:
                self._valid[digest] = found  # the last one now
                return found[0]
            return None
        refused = self._refused.get(digest)
        if refused is not None:
            if now < refused[1]:
                return refused[0]
            del self._refused[digest]
        return None

    def keep(self, digest: bytes, verdict: Verdict, now: float) -> None:
        """Remember a valid token: until it expires, and no longer than the lifetime."""
        until = min(verdict.until, now + self._lifetime)
        if until <= now or not self._entries:
            return
        self._valid.pop(digest, None)
        while len(self._valid) >= self._entries:
            del self._valid[next(iter(self._valid))]
        self._valid[digest] = (verdict, until)

    def refuse(self, digest: bytes, fault: Fault, now: float) -> None:
        """Remember a refused one, where it stays refused."""
        if fault not in LASTING or not self._refused_entries:
            return
        while len(self._refused) >= self._refused_entries:
            del self._refused[next(iter(self._refused))]
        self._refused[digest] = (fault, now + REFUSED_FOR)

    def withdraw(self, issuer: str, thumbprints: frozenset[bytes]) -> None:
        """An issuer's keys are these now: forget what others have signed for it, and whom it refused."""
        gone = [
            digest
            for digest, (verdict, _) in self._valid.items()
            if verdict.issuer == issuer and verdict.thumbprint not in thumbprints
        ]
        for digest in gone:
            del self._valid[digest]
        self._refused.clear()

    def clear(self) -> None:
        """Forget all of it."""
        self._valid.clear()
        self._refused.clear()

    @property
    def sizes(self) -> tuple[int, int]:
        """Valid and refused tokens that are remembered."""
        return len(self._valid), len(self._refused)

    def __repr__(self) -> str:
        return f"<TokenCache valid={len(self._valid)} refused={len(self._refused)}>"
