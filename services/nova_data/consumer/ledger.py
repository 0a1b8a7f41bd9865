"""Which offsets of a partition are done: the books of what may be committed, without a clock or a broker.

Messages of different keys are handled side by side and end in any order, but a group commits one number per partition:
everything before it is done. So the number is that of the first message that is not. What is done beyond it is done
again after a crash, which deduplication takes care of; what is not done is never passed over.

Offsets grow, and need not be consecutive: compaction and transactions leave gaps.
"""

from collections import deque


class Ledger:
    """The books of one partition, from its assignment to its revocation."""

    __slots__ = ("_done", "_last", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._last = -1

    def take(self, offset: int) -> bool:
        """A message came; False where it was taken before."""
        if offset <= self._last:
            return False
        self._last = offset
        self._open.append(offset)
        return True

    def finish(self, offset: int) -> None:
        """It is done, whatever came of it. Raises KeyError for one that is not in hand."""
        if not self._open or offset < self._open[0] or offset > self._last or offset in self._done:
            raise KeyError(offset)
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._done.discard(self._open.popleft())

    @property
    def position(self) -> int | None:
        """What may be committed: the first offset that is not done. None before the first message."""
        if self._open:
            return self._open[0]
        return self._last + 1 if self._last >= 0 else None

    @property
    def in_hand(self) -> int:
        """Messages that were taken and are not done."""
        return len(self._open) - len(self._done)

    def __repr__(self) -> str:
        return f"<Ledger position={self.position} in_hand={self.in_hand}>"
