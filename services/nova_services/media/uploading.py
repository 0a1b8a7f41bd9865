"""A body that is looked at while it passes: how long it is, what it is, and its digest. It is nowhere as a whole.

    upload = Upload(request.content.iter_any(), "image/png")
    await shelf.put(name, upload.chunks())
    row = (upload.size, upload.sha256)

What is wrong with it ends the chunks with RefusedError, so that whoever takes them gives up what it has of it.
"""

import hashlib
from collections.abc import AsyncIterator
from typing import Final

from nova_services.bodies import BROKEN
from nova_services.media.kinds import ENOUGH, KINDS, kind

LARGEST: Final = 10 * 1024 * 1024
"""Bytes of a file."""


class RefusedError(Exception):
    """A body that is not kept, in words for the client; `status` is HTTP's."""

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        super().__init__(words)


class Upload:
    """See the module. `declared` is what the client calls it, `length` how many bytes it says there are. Raises
    RefusedError for a kind that is not kept, and for too many."""

    def __init__(
        self, body: AsyncIterator[bytes], declared: str, *, length: int | None = None, largest: int = LARGEST
    ) -> None:
        if length is not None and length > largest:
            raise _too_large(largest)
        if declared not in KINDS:
            raise RefusedError(415, f"content-type: expected one of {', '.join(KINDS)}")
        self._body = body
        self._declared = declared
        self._largest = largest
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> bytes:
        """Of what has passed."""
        return self._digest.digest()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body. Raises RefusedError where it is too long, empty, or another kind than it is called."""
        try:
            async for chunk in self._looked_at():
                yield chunk
        except BROKEN as error:
            raise RefusedError(400, "body: expected all of it, as its headers say") from error

    async def _looked_at(self) -> AsyncIterator[bytes]:
        head = b""
        async for chunk in self._body:
            self._count(chunk)
            if self.size < ENOUGH:
                head += chunk
                continue
            if self.size - len(chunk) < ENOUGH:
                chunk = head + chunk  # noqa: PLW2901 - what waited until it could be told what it is
                self._judge(chunk)
            yield chunk
        if self.size < ENOUGH:
            self._judge(head)

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self._largest:
            raise _too_large(self._largest)
        self._digest.update(chunk)

    def _judge(self, head: bytes) -> None:
        if kind(head) != self._declared:
            raise RefusedError(415, f"body: expected {self._declared}, as content-type says")

    def __repr__(self) -> str:
        return f"<Upload {self._declared} size={self.size}>"


def _too_large(largest: int) -> RefusedError:
    return RefusedError(413, f"body: expected at most {largest} bytes")
