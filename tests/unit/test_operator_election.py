"""The async half of leader election, against a Lease in memory."""

import asyncio
import copy
from typing import Any

import pytest

from nova_operator.cluster import StaleError
from nova_operator.election import Election
from nova_operator.kinds import Kind
from nova_operator.lease import RENEW_DEADLINE


class Leases:
    """One Lease. `swallow` says that the next write is made and its answer never comes."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.swallow = False
        self.swallowed = asyncio.Event()
        self.lost = False
        """Whether the next write never gets there."""
        self.renewed = asyncio.Event()

    async def get(self, _kind: Kind, _namespace: str | None, _name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.lease)

    async def create(self, _kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        return self._store(manifest, 1)

    async def replace(self, _kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        assert self.lease is not None
        if self.lost:
            self.lost = False
            await asyncio.Event().wait()
        version = self.lease["metadata"]["resourceVersion"]
        if manifest["metadata"]["resourceVersion"] != version:
            raise StaleError("somebody else wrote")
        written = self._store(manifest, int(version) + 1)
        if self.swallow:
            self.swallow = False
            self.swallowed.set()
            await asyncio.Event().wait()
        self.renewed.set()
        return written

    def holder(self) -> Any:
        assert self.lease is not None
        return self.lease["spec"]["holderIdentity"]

    def _store(self, manifest: dict[str, Any], version: int) -> dict[str, Any]:
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(version)
        return copy.deepcopy(self.lease)


class Clock:
    """The clock of the election, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def cut_short(leases: Leases) -> Election:
    """A leader that is told to end between the write of a renewal and its answer."""
    election = Election(leases, "nova", "nova-operator", "a")  # type: ignore[arg-type]  # no other call is made
    await election.acquire()
    leases.swallow = True
    keeping = asyncio.create_task(election.keep())
    await leases.swallowed.wait()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    return election


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nova_operator.election.RETRY", 0.0)


def test_a_lease_is_given_back_when_a_renewal_was_cut_short() -> None:
    async def scenario() -> Any:
        leases = Leases()
        await (await cut_short(leases)).release()
        return leases.holder()

    assert asyncio.run(scenario()) == ""


@pytest.mark.parametrize("fate", ["lost", "swallow"])
def test_a_renewal_that_is_never_answered_leaves_time_for_another_one(
    monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    """Its connection led to an API server that is gone, perhaps after it had written; the others work."""
    monkeypatch.setattr("nova_operator.election.RENEW_DEADLINE", 3600.0)
    monkeypatch.setattr("nova_operator.election.ATTEMPT", 0.01)

    async def scenario() -> None:
        leases = Leases()
        election = Election(leases, "nova", "nova-operator", "a")  # type: ignore[arg-type]  # no other call is made
        await election.acquire()
        setattr(leases, fate, True)
        keeping = asyncio.create_task(election.keep())
        await asyncio.wait_for(leases.renewed.wait(), 10)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(scenario())


@pytest.mark.parametrize(("seconds", "writes"), [(RENEW_DEADLINE - 0.1, 1), (RENEW_DEADLINE, 2)])
def test_an_answer_that_comes_too_late_is_no_leadership(
    monkeypatch: pytest.MonkeyPatch, seconds: float, writes: int
) -> None:
    """The others count from the write, and may have taken the lease over by the time of the answer."""
    clock = Clock()
    monkeypatch.setattr("nova_operator.election.time", clock)
    monkeypatch.setattr("nova_operator.election.WAIT", 0.0)

    class Slow(Leases):
        async def create(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
            written = await super().create(kind, manifest)
            clock.now += seconds
            return written

    async def scenario() -> Any:
        leases = Slow()
        election = Election(leases, "nova", "nova-operator", "a")  # type: ignore[arg-type]  # no other call is made
        await election.acquire()
        assert leases.lease is not None
        return leases.lease["metadata"]["resourceVersion"]

    assert asyncio.run(scenario()) == str(writes)


def test_a_leader_that_begins_late_has_so_much_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("nova_operator.election.time", clock)

    async def scenario() -> int:
        leases = Leases()
        election = Election(leases, "nova", "nova-operator", "a")  # type: ignore[arg-type]  # no other call is made
        await election.acquire()
        clock.now += RENEW_DEADLINE
        await asyncio.wait_for(election.keep(), 10)
        assert leases.lease is not None
        return int(leases.lease["metadata"]["resourceVersion"])

    assert asyncio.run(scenario()) == 1


def test_a_lease_that_somebody_else_has_meanwhile_is_left_alone() -> None:
    async def scenario() -> Any:
        leases = Leases()
        election = await cut_short(leases)
        assert leases.lease is not None
        leases.lease["spec"]["holderIdentity"] = "b"
        await election.release()
        return leases.holder()

    assert asyncio.run(scenario()) == "b"
