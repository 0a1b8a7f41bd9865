"""Signed texts: what a client may carry for us, read back, and cannot change or make.

    text "." base64url(HMAC-SHA256(key of the purpose, text), 128 bits)

HMAC-SHA256 is RFC 2104 with FIPS 180-4; 128 bits of it are its least advisable length (RFC 2104 section 5) and far
beyond guessing online. What is compared is compared in constant time.

Rules:

* No secret signs anything itself. A key is derived for each purpose, so that what was signed for one service, or for
  one use of it, is nothing to another, even where both share the Secret.
* Several secrets: the first one signs, each one verifies. To change a secret without a sign-out, add the new one as the
  second line, wait until every pod has it, move it to the first line, and drop the old one when what it has signed has
  expired.
* Nothing here expires: a text says itself how old it is, and its reader judges that by the clock it has.
"""

import hmac
from base64 import urlsafe_b64encode
from typing import Final

LEAST: Final = 32
"""Bytes that a secret has at least."""
MOST_SECRETS: Final = 8
_BYTES: Final = 16
_CHARACTERS: Final = 22
"""Of a signature: its bytes in base64 (RFC 4648 section 5) without padding."""


class SecretError(ValueError):
    """A secret that cannot be used; the message says why and has nothing of it."""


def read_secrets(content: bytes) -> tuple[bytes, ...]:
    """The secrets in a file: one a line where it is text, else all of it is one. Raises SecretError.

    A file of random bytes may have line feeds in it, so only printable ASCII is taken for lines.
    """
    if not content.strip():
        raise SecretError("expected a secret, the file is empty")
    if not all(32 <= byte < 127 or byte in b"\r\n\t" for byte in content):
        lines = [content]
    else:
        lines = [line.strip() for line in content.splitlines() if line.strip()]
    if len(lines) > MOST_SECRETS:
        raise SecretError(f"expected at most {MOST_SECRETS} lines, got {len(lines)}")
    for number, line in enumerate(lines, 1):
        if len(line) < LEAST:
            raise SecretError(f"expected at least {LEAST} bytes in line {number}, got {len(line)}")
    return tuple(lines)


def derive(secret: bytes, purpose: str) -> bytes:
    """The key of a secret for one purpose, 32 bytes."""
    return hmac.digest(secret, b"nova.dev/" + purpose.encode(), "sha256")


def mac(key: bytes, text: bytes, size: int = _BYTES) -> bytes:
    """The first `size` bytes of the keyed hash of a text, in base64url without padding."""
    return urlsafe_b64encode(hmac.digest(key, text, "sha256")[:size]).rstrip(b"=")


class Signer:
    """Signs and verifies texts of one purpose. `secrets`: the first one signs; there is at least one."""

    __slots__ = ("_keys",)

    def __init__(self, secrets: tuple[bytes, ...], purpose: str) -> None:
        self._keys = [derive(secret, purpose) for secret in secrets]

    def sign(self, text: bytes) -> bytes:
        """The text with its signature behind it."""
        return b"%b.%b" % (text, mac(self._keys[0], text))

    def verify(self, signed: bytes) -> bytes | None:
        """The text, where one of the secrets has signed it; None for everything else."""
        if signed[-_CHARACTERS - 1 : -_CHARACTERS] != b".":
            return None
        text, signature = signed[: -_CHARACTERS - 1], signed[-_CHARACTERS:]
        for key in self._keys:
            if hmac.compare_digest(mac(key, text), signature):
                return text
        return None

    def __repr__(self) -> str:
        return f"<Signer {len(self._keys)} keys>"
