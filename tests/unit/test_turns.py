"""The order of files in a run side by side, and which worker gets which."""

from types import SimpleNamespace
from typing import Any

from tests.turns import Turns, ordered

QUICK = "tests/unit/test_pool.py"
SIDECAR = "tests/loopback/test_drain.py"
SERVICE = "tests/loopback/services/test_auth.py"
OPERATOR = "tests/cluster/test_crd.py"


class Worker:
    """Notes which tests it is sent, by their place in the collection."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def items_of(*files: str) -> list[Any]:
    return [SimpleNamespace(nodeid=f"{file}::test_{number}") for file in files for number in range(3)]


def test_what_waits_begins_early_and_what_is_quick_comes_last() -> None:
    items = ordered(items_of("tests/unit/test_first.py", QUICK, SIDECAR, OPERATOR, SERVICE))
    assert [item.nodeid.split("::")[0] for item in items[::3]] == [
        "tests/unit/test_first.py", SERVICE, OPERATOR, SIDECAR, QUICK,
    ]  # fmt: skip


def test_items_of_a_file_keep_their_order() -> None:
    items = items_of(QUICK, OPERATOR)
    assert ordered(list(reversed(items)))[:3] == list(reversed(items[:3]))


def test_the_first_worker_computes_and_the_other_waits_until_one_kind_is_used_up() -> None:
    names = [item.nodeid for item in ordered(items_of(QUICK, SIDECAR, SERVICE, OPERATOR))]
    options = SimpleNamespace(tx=["2*popen"], loadscopereorder=False)
    config: Any = SimpleNamespace(option=options, getvalue=lambda name: getattr(options, name))
    turns = Turns(config)
    workers: list[Any] = [Worker(), Worker()]
    for worker in workers:
        turns.add_node(worker)
    for worker in workers:
        turns.add_node_collection(worker, names)
    turns.schedule()
    computing, waiting = workers
    for number in range(3):
        turns.mark_test_complete(computing, computing.sent[number])
        turns.mark_test_complete(waiting, waiting.sent[number])
    assert [names[at].split("::")[0] for at in computing.sent[::3]] == [QUICK, SIDECAR]
    assert [names[at].split("::")[0] for at in waiting.sent[::3]] == [SERVICE, OPERATOR]
