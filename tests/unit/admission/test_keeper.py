"""The keeper killed at any call, again and again: whatever it left, calls succeed and the renewal is finished.

The cluster is a few dictionaries here, since what counts is every state in between; on the real one it is tested in
tests/cluster/test_admission_certificates.py.
"""

import asyncio
import base64
import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nova_operator.admission.certificates import Pair, bundle, read
from nova_operator.admission.keeper import RETRY, Keeper
from nova_operator.cluster import ClusterError, StaleError, UnavailableError
from nova_operator.kinds import MUTATING_WEBHOOKS, SECRET, VALIDATING_WEBHOOKS, Kind
from tests.unit.admission.test_certificates import proves

BORN = datetime(2030, 1, 1, tzinfo=UTC)
LIFE = 90 * 86_400.0
SETTLE = 60.0
NAMES = ("hooks.nova.svc",)


class KilledError(BaseException):
    """Not an Exception: nothing in the code under test may catch it."""


class Store:
    """Secret and configurations. The call number `deadly` kills, before or after its effect."""

    def __init__(self) -> None:
        hook = {"name": "a.nova.dev", "clientConfig": {"service": {"name": "hooks"}}}
        self.objects: dict[Kind, dict[str, Any]] = {
            SECRET: {"metadata": {"name": "hooks", "resourceVersion": "1"}},
            VALIDATING_WEBHOOKS: {"metadata": {"uid": "v"}, "webhooks": [copy.deepcopy(hook)]},
            MUTATING_WEBHOOKS: {"metadata": {"uid": "m"}, "webhooks": [copy.deepcopy(hook)]},
        }
        self.calls = 0
        self.deadly: int | None = None
        self.late = False

    def _pass(self, *, after: bool) -> None:
        if not after:
            self.calls += 1
        if self.calls == self.deadly and after is self.late:
            self.deadly = None
            raise KilledError

    async def get(self, kind: Kind, _namespace: str | None, _name: str) -> dict[str, Any] | None:
        self._pass(after=False)
        found = copy.deepcopy(self.objects.get(kind))
        self._pass(after=True)
        return found

    async def replace(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        self._pass(after=False)
        version = self.objects[kind]["metadata"]["resourceVersion"]
        if manifest["metadata"]["resourceVersion"] != version:
            raise StaleError("somebody else wrote")
        changed = copy.deepcopy(manifest)
        changed["metadata"]["resourceVersion"] = str(int(version) + 1)
        self.objects[kind] = changed
        self._pass(after=True)
        return changed

    async def apply(self, manifest: dict[str, Any], *, manager: str) -> dict[str, Any]:
        self._pass(after=False)
        assert manager == "nova-operator-certificates"
        for hook in manifest["webhooks"]:
            (mine,) = [
                one for kind in self.objects.values() for one in kind.get("webhooks", ()) if self._is(kind, manifest)
            ]
            mine["clientConfig"]["caBundle"] = hook["clientConfig"]["caBundle"]
        self._pass(after=True)
        return manifest

    @staticmethod
    def _is(one: dict[str, Any], manifest: dict[str, Any]) -> bool:
        return bool(one["metadata"].get("uid") == manifest["metadata"]["uid"])

    def current(self) -> Pair | None:
        return read(self.objects[SECRET]).current

    def bundles(self) -> list[bytes]:
        hooks = [hook for one in self.objects.values() for hook in one.get("webhooks", ())]
        return [base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in hooks]


def keeper(store: Store, now: datetime) -> Keeper:
    return Keeper(store, "nova", "hooks", "hooks", NAMES, lifetime=LIFE, wall=lambda: now)


def settled() -> Store:
    """A store with a certificate that everybody has heard of."""
    store = Store()
    asyncio.run(keeper(store, BORN).tend(0.0))
    return store


def everybody_is_trusted(store: Store, also: Pair | None) -> bool:
    """Whether every API server trusts the replicas that have the certificate of now, and those that have the one
    before still."""
    worn = [pair for pair in (store.current(), also) if pair is not None]
    return all(proves(told, pair) for told in store.bundles() for pair in worn)


def test_an_api_server_that_did_not_answer_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the first round no webhook is trusted, and pods start without the sidecar."""
    store, waits = Store(), []

    async def refuse(*_: Any) -> None:
        raise UnavailableError("no answer")

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        raise KilledError

    monkeypatch.setattr(store, "get", refuse)
    monkeypatch.setattr("nova_operator.admission.rounds.asyncio.sleep", sleep)
    with pytest.raises(KilledError):
        asyncio.run(keeper(store, BORN).run())
    assert waits == [RETRY]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("deadly", range(1, 13))
def test_a_renewal_survives_the_end_of_the_keeper_at_any_call(deadly: int, late: bool) -> None:
    store = settled()
    first = store.current()
    assert everybody_is_trusted(store, None)
    store.calls, store.deadly, store.late = 0, deadly, late
    now, elapsed = BORN + timedelta(days=61), 0.0
    one = keeper(store, now)
    for _ in range(16):
        try:
            asyncio.run(one.tend(elapsed))
        except KilledError:
            one = keeper(store, now)
        assert everybody_is_trusted(store, first), (deadly, late, elapsed)
        elapsed += SETTLE / 2
    assert store.current() != first
    assert read(store.objects[SECRET]).coming is None
    assert store.deadly is None
    assert set(store.bundles()) == {bundle(read(store.objects[SECRET]))}


def test_the_new_one_waits_until_everybody_has_heard_of_it_for_a_while() -> None:
    store = settled()
    first = store.current()
    one = keeper(store, BORN + timedelta(days=61))
    asyncio.run(one.tend(0.0))
    hooks = store.objects[MUTATING_WEBHOOKS]["webhooks"]
    hooks[0]["clientConfig"]["caBundle"] = ""  # somebody applied a manifest without it
    asyncio.run(one.tend(SETTLE - 1))
    asyncio.run(one.tend(SETTLE + 1))
    assert store.current() == first
    asyncio.run(one.tend(2 * SETTLE))
    assert store.current() != first


def test_without_the_secret_it_says_what_to_make() -> None:
    store = Store()
    del store.objects[SECRET]
    with pytest.raises(ClusterError, match="there is no Secret nova/hooks: make an empty one"):
        asyncio.run(keeper(store, BORN).tend(0.0))


def test_a_configuration_that_is_not_there_is_not_made() -> None:
    store = Store()
    del store.objects[MUTATING_WEBHOOKS]
    asyncio.run(keeper(store, BORN).tend(0.0))
    assert len(store.bundles()) == 1
    assert everybody_is_trusted(store, None)
