"""What the header blocks of one connection meant the last time, so that the same block is one look-up.

A block means the same as long as the peer's header table has not changed since (`Decoder.generation`) and the port
reads heads the same way. Peers that put something of their own into the table with every call change it each time; for
them nothing is kept, and it costs two comparisons.
"""

from typing import Any, Final

from nova_sidecar.wire.http2.heads import RequestHead, RequestReader, ResponseHead, ResponseReader, Trailers

MOST: Final = 16
"""Blocks kept of each kind, the longest of them in bytes below: a connection costs little while it is idle."""
LONGEST: Final = 2048
LARGEST_MEANING: Final = 4096
"""Bytes that go on for a block which is kept."""


class KnownRequests:
    """Request heads by block, each with the block that goes on, as far as it is the same for all calls."""

    __slots__ = ("generation", "heads", "reader")

    def __init__(self) -> None:
        self.generation = 0
        self.reader: RequestReader | None = None
        self.heads: dict[bytes, tuple[RequestHead, bytes]] = {}

    def begin(self, generation: int, reader: RequestReader) -> None:
        """Forget everything: the table or the reader is another one."""
        self.generation = generation
        self.reader = reader
        if self.heads:
            self.heads.clear()

    def keep(self, block: bytes, found: tuple[RequestHead, bytes]) -> None:
        """Remember what a block meant that did not change the table."""
        _keep(self.heads, block, found, len(found[1]))


class KnownResponses:
    """Response heads and trailers by block."""

    __slots__ = ("generation", "heads", "reader", "trailers")

    def __init__(self) -> None:
        self.generation = 0
        self.reader: ResponseReader | None = None
        self.heads: dict[bytes, ResponseHead] = {}
        self.trailers: dict[bytes, Trailers] = {}

    def begin(self, generation: int, reader: ResponseReader) -> None:
        """Forget everything: the table or the reader is another one."""
        self.generation = generation
        self.reader = reader
        self.heads.clear()
        self.trailers.clear()

    def keep_head(self, block: bytes, found: ResponseHead) -> None:
        """Remember what a head's block meant that did not change the table."""
        _keep(self.heads, block, found, len(found.forward))

    def keep_trailers(self, block: bytes, found: Trailers) -> None:
        """The same for trailers."""
        _keep(self.trailers, block, found, len(found.forward))


def _keep(kind: dict[bytes, Any], block: bytes, found: Any, size: int) -> None:
    """`size`: bytes that go on; few bytes that name the table again and again become many."""
    if size > LARGEST_MEANING or len(block) > LONGEST:
        return
    if len(kind) >= MOST:
        kind.clear()
    kind[block] = found
