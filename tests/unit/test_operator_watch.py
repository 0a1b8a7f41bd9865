"""A watch of the operator's own: where it begins, where it goes on from, and when it lists anew."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nova_operator import watch
from nova_operator.cluster import ClusterError, RefusedError, UnavailableError
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import SERVICE, Kind
from nova_operator.watch import GoneError, Watch

Script = list[list[bytes] | Exception]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "AGAIN", 0.0)
    monkeypatch.setattr(watch, "pauses", lambda: iter(lambda: 0.0, 1.0))


def line(change: str, version: int, name: str = "shop") -> bytes:
    metadata = {"name": name, "namespace": "ns", "resourceVersion": str(version)}
    return json.dumps({"type": change, "object": {"metadata": metadata}}).encode()


def error(code: int) -> bytes:
    status = {"kind": "Status", "code": code, "message": "too old", "metadata": {}}
    return json.dumps({"type": "ERROR", "object": status}).encode()


class Wire:
    """Answers each attempt to open the watch by a script: lines, after which it is closed, or an error. After the
    script the API server must not be watched any more."""

    def __init__(self, script: Script, lists: list[str | ClusterError] | None = None) -> None:
        self.since: list[str] = []
        self.taken: list[tuple[str, str]] = []
        self.listed = 0
        self._script = iter(script)
        self._lists = iter(lists or [])

    async def follow(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        opened: Callable[[], None],
        hear: Callable[[bytes], None],
    ) -> None:
        self.since.append(version)
        step = next(self._script, RefusedError("the script is over"))
        if isinstance(step, Exception):
            raise step
        opened()
        for one in step:
            hear(one)

    async def list_anew(self, kind: Kind, namespace: str | None) -> str:
        self.listed += 1
        answer = next(self._lists)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    def take(self, kind: Kind, change: str, manifest: Manifest) -> None:
        self.taken.append((change, manifest["metadata"]["resourceVersion"]))

    def run(self) -> Watch:
        """Until the script is over."""
        one = Watch(SERVICE, "ns", "5", self, take=self.take, list_anew=self.list_anew)

        async def run() -> None:
            with pytest.raises(RefusedError):
                await asyncio.wait_for(one.run(), 10)

        asyncio.run(run())
        return one


def test_a_closed_watch_goes_on_from_what_was_heard_last() -> None:
    wire = Wire([[line("ADDED", 6), line("MODIFIED", 7)], [line("DELETED", 8), line("BOOKMARK", 11)], []])
    one = wire.run()
    assert wire.since == ["5", "7", "11", "11"]
    assert wire.taken == [("ADDED", "6"), ("MODIFIED", "7"), ("DELETED", "8")]
    assert wire.listed == 0
    assert repr(one) == "<Watch services in ns from 11>"


def test_what_may_work_later_is_tried_again_from_there() -> None:
    wire = Wire([[line("ADDED", 6)], UnavailableError("503"), UnavailableError("silent"), [line("MODIFIED", 9)]])
    wire.run()
    assert wire.since == ["5", "6", "6", "6", "9"]


@pytest.mark.parametrize(
    "gone",
    [
        GoneError("410"),
        [error(410)],
        [error(500)],
        [b'{"type":"ADDED","object":{"metadata":{}}}'],
        [b'{"type":"ADDED","obj'],
        [b'{"type":"SOMETHING","object":{"metadata":{"resourceVersion":"9"}}}'],
    ],
    ids=["refused", "gone", "another error", "without version", "cut off", "unknown"],
)
def test_where_it_cannot_go_on_the_kind_is_listed_anew(gone: list[bytes] | Exception) -> None:
    wire = Wire([[line("ADDED", 6)], gone, [line("ADDED", 21)]], lists=["20"])
    wire.run()
    assert wire.since == ["5", "6", "20", "21"]
    assert wire.listed == 1


def test_a_list_that_fails_is_asked_for_until_it_comes() -> None:
    wire = Wire([GoneError("410"), []], lists=[UnavailableError("429"), UnavailableError("503"), "20"])
    wire.run()
    assert (wire.listed, wire.since) == (3, ["5", "20", "20"])


def test_it_counts_as_open_only_once_it_was() -> None:
    assert not Wire([UnavailableError("503")]).run().opened.is_set()
    assert Wire([UnavailableError("503"), []]).run().opened.is_set()


def test_the_pauses_grow_and_begin_anew_with_what_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    def pauses() -> Iterator[float]:
        yield from (1.0, 2.0, 3.0)

    monkeypatch.setattr(watch, "pauses", pauses)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    fault: Any = UnavailableError("503")
    patient = UnavailableError("429", retry_after=7.0)
    Wire([fault, fault, [line("ADDED", 6)], fault, patient]).run()
    assert slept == [1.0, 2.0, 0.0, 1.0, 7.0]
