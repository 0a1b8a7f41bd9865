"""The keys that sign tokens: a folder of PEM files, such as a mounted Secret, each named after the day it signs from.

    2026-11-01.pem   signs until the next one's day comes
    2026-12-01.pem   published already, so that every sidecar knows it before the first token that it signs

All of them are published; one is withdrawn by removing its file, and the tokens it has signed go with it. So a rotation
is a file that comes early and another that goes late, without a restart: the folder is looked at again at each use.
"""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from nova_services.logs import get_logger

ALGORITHM: Final = "ES256"
"""ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4): tokens stay short."""
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


class SigningKey(NamedTuple):
    """A key pair; its `kid` is the day that it signs from."""

    since: date
    pair: ECKey

    @property
    def kid(self) -> str:
        """As tokens name it."""
        return self.since.isoformat()


def signer(keys: Sequence[SigningKey], today: date) -> SigningKey:
    """The newest key whose day has come. Raises ValueError where none has."""
    ready = [key for key in keys if key.since <= today]
    if not ready:
        raise ValueError(f"keys: expected one whose day has come by {today}, got {len(keys)} later ones")
    return max(ready, key=lambda key: key.since)


def published(keys: Sequence[SigningKey]) -> dict[str, Any]:
    """The JWK set with the public halves (RFC 7517 section 5)."""
    return {"keys": [key.pair.as_dict(private=False) for key in keys]}


def read(folder: Path) -> tuple[SigningKey, ...]:
    """The keys in a folder, the oldest first. Raises ValueError naming the file, and no part of it."""
    found = tuple(_key(file) for file in sorted(folder.glob("*.pem")))
    if not found:
        raise ValueError(f"{folder}: expected files such as 2026-11-01.pem, got none")
    return found


def _key(file: Path) -> SigningKey:
    try:
        since = date.fromisoformat(file.stem) if _DAY.fullmatch(file.stem) else None
    except ValueError:
        since = None
    if since is None:
        raise ValueError(f"{file.name}: expected a day such as 2026-11-01.pem as its name")
    try:
        pair = ECKey.import_key(file.read_bytes(), {"kid": file.stem, "use": "sig", "alg": ALGORITHM})
    except (ValueError, TypeError, OSError, JoseError) as error:
        raise ValueError(f"{file.name}: expected a private key in PEM ({type(error).__name__})") from None
    if not pair.is_private or pair.curve_name != "P-256":
        raise ValueError(f"{file.name}: expected a private key on P-256")
    return SigningKey(since, pair)


class KeyFolder:
    """The keys of a folder as it is now. Raises ValueError where it cannot be read at the start; later the keys that
    there were go on, and a line says so once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = self._look()
        self._keys = read(folder)

    def keys(self) -> tuple[SigningKey, ...]:
        """The oldest first."""
        look = self._look()
        if look != self._seen:
            self._seen = look
            try:
                self._keys = read(self._folder)
            except ValueError as error:
                get_logger().error("keys not taken over", error=str(error))
        return self._keys

    def _look(self) -> list[tuple[str, int, int]]:
        """What changes when a file does."""
        found = []
        for file in sorted(self._folder.glob("*.pem")):
            try:
                state = file.stat()
            except FileNotFoundError:  # gone since it was listed
                continue
            found.append((file.name, state.st_mtime_ns, state.st_size))
        return found
