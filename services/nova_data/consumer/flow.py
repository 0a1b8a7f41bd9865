"""Which partitions are to be paused, without a clock or a broker.

A consumer that takes whatever comes keeps it in memory when its handlers are slow, and is ended by the kernel. One that
stops asking is put out of its group. So it goes on asking, and pauses what it cannot take now (KafkaConsumer.pause): a
partition that has its share in hand is paused until it has half of it. A partition behind a slow key does not stop the
others. While what handlers need is away, a partition has one message in hand and no more: with one of them it is tried
whether it is back.

https://kafka.apache.org/documentation/#consumerapi
"""

from collections.abc import Iterable
from math import ceil


class Intake:
    """What is in hand of one partition. The reader counts what it takes, the event loop what it has finished."""

    __slots__ = ("committed", "finished", "gone", "paused", "position", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.finished = 0
        self.position: int | None = None
        """What may be committed."""
        self.committed: int | None = None
        """What was asked to be."""
        self.paused = False
        self.gone = False
        """Nothing of it is to be begun any more."""

    @property
    def in_hand(self) -> int:
        """Messages that were taken and are not finished."""
        return self.taken - self.finished

    def __repr__(self) -> str:
        state = "gone" if self.gone else "paused" if self.paused else "flowing"
        return f"<Intake {state} in_hand={self.in_hand} position={self.position}>"


class Flow:
    """Shares `bound` messages in hand evenly among partitions, at least one each."""

    __slots__ = ("bound", "halted")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.halted = False
        """There is an outage."""

    def share(self, partitions: int) -> int:
        """Messages that one of so many partitions may have in hand."""
        return 1 if self.halted else max(1, self.bound // max(1, partitions))

    def full(self, intake: Intake, partitions: int) -> bool:
        """Whether nothing more of it is wanted now."""
        return intake.in_hand >= self.share(partitions)

    def turns(self, intakes: Iterable[Intake]) -> tuple[list[Intake], list[Intake]]:
        """Those to be paused and those to be resumed; afterwards they are counted as such."""
        known = list(intakes)
        low = ceil(self.share(len(known)) / 2)
        pause = [one for one in known if not one.paused and self.full(one, len(known))]
        resume = [one for one in known if one.paused and one.in_hand < low]
        for one in pause:
            one.paused = True
        for one in resume:
            one.paused = False
        return pause, resume

    def __repr__(self) -> str:
        return f"<Flow {'halted' if self.halted else 'open'} bound={self.bound}>"
