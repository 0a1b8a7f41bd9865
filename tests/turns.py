"""In which order files of tests run side by side: what waits and what computes at the same time.

Tests of the operator and of the data tools mostly wait: for the API server, for Kafka, for a process that was killed.
Those of parsers and policies do nothing but compute. One kind after the other leaves processors idle first and crowds
them then. So the first worker takes files that compute and the others those that wait, until one kind is used up; what
is left then is done by all. Each of the others has an API server, a PostgreSQL and a Kafka of its own, the first none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from xdist.workermanage import WorkerController

WAITING: Final = ("tests/loopback/services/", "tests/loopback/data/", "tests/cluster/", "tests/oracles/")
"""Folders whose tests wait, in the order in which they begin: files of many minutes early."""
SHORT: Final = ("tests/fuzz/", "tests/unit/")
"""Folders of quick files, which come last: then no worker is busy for long when the others are done."""


class Turns(LoadFileScheduling):
    """Gives each worker whole files, as `--dist loadfile` does, of the kind that is its own while there are some."""

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Note it; a worker that has little left to do gets what is first in the queue."""
        computes = node is self.nodes[0]
        following = next((file for file in self.workqueue if waits(file) is not computes), None)
        if following is not None:
            self.workqueue.move_to_end(following, last=False)
        super().mark_test_complete(node, item_index, duration)


def waits(file: str) -> bool:
    """Whether the tests of a file wait for most of their time."""
    return file.startswith(WAITING)


def ordered(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Items in the order in which their files shall begin. The first file is one that computes, and goes to the first
    worker; those that wait follow, and the rest with quick files last."""
    first = next((_file(item) for item in items if not waits(_file(item))), "")
    return sorted(items, key=lambda item: (_file(item) != first, _rank(_file(item))))


def _file(item: pytest.Item) -> str:
    return item.nodeid.split("::", 1)[0]


def _rank(file: str) -> int:
    """Smaller comes earlier; files of one rank stay in their order."""
    folders = (*WAITING, "", *SHORT)
    return next((rank for rank, folder in enumerate(folders) if folder and file.startswith(folder)), len(WAITING))
