"""The guard around a store: nobody waits longer than they said, and a store that fails is left alone."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nova_sidecar.store.guarded import MOST, Call, GuardedStore
from nova_sidecar.store.port import StoreError
from nova_sidecar.transport import secretfiles
from nova_sidecar.transport.secretfiles import SecretFiles
from tests.crowd import CROWD


class Slow:
    """A store that answers when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.running = self.most = 0
        self.broken = False
        self.closed = False
        self.logins: list[Mapping[str, bytes]] = []

    def login(self, files: Mapping[str, bytes]) -> None:
        self.logins.append(files)

    async def get(self, key: str) -> bytes | None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.broken:
                raise StoreError("broken")
            await self.gate.wait()
            return key.encode()
        finally:
            self.running -= 1

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        await self.get(key)

    async def hold(self, key: str, value: bytes, seconds: float, instead_of: bytes = b"") -> bytes:
        await self.get(key)
        return value

    async def close(self) -> None:
        self.closed = True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10 * CROWD):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def run(test: Callable[[Slow, Callable[..., GuardedStore]], Awaitable[None]]) -> None:
    async def go() -> None:
        backend = Slow()
        time = [0.0]

        def guarded(timeout: float = 0.05, directory: str = "") -> GuardedStore:
            store = GuardedStore(backend, timeout=timeout, directory=directory, rng=Random(1), clock=lambda: time[0])
            store.start()
            return store

        guarded.time = time  # type: ignore[attr-defined]  # the test moves it
        await test(backend, guarded)

    asyncio.run(go())


def test_a_late_answer_is_an_error_in_time_and_the_call_goes_on_to_its_end() -> None:
    async def test(backend: Slow, guarded: Callable[..., GuardedStore]) -> None:
        store = guarded()
        with pytest.raises(StoreError, match=r"no answer within 0\.05 s"):
            await store.get("a")
        assert backend.running == 1  # a connection that is being opened comes to be
        backend.gate.set()
        assert await store.get("b") == b"b"
        assert backend.running == 0
        assert (store.calls[Call.TIMEOUT], store.calls[Call.OK]) == (1, 1)
        await store.close()
        assert backend.closed

    run(test)


def test_there_are_never_more_calls_than_connections() -> None:
    async def test(backend: Slow, guarded: Callable[..., GuardedStore]) -> None:
        store = guarded(timeout=10.0)
        asked = [asyncio.ensure_future(store.get(str(number))) for number in range(5 * MOST)]
        await until(lambda: backend.running == MOST)
        backend.gate.set()
        assert await asyncio.gather(*asked) == [str(number).encode() for number in range(5 * MOST)]
        assert backend.most == MOST
        await store.close()

    run(test)


def test_after_failures_it_is_left_alone_and_then_tried_by_one() -> None:
    async def test(backend: Slow, guarded: Any) -> None:
        store = guarded()
        backend.gate.set()
        backend.broken = True
        for _ in range(3):
            with pytest.raises(StoreError, match="broken"):
                await store.get("a")
        with pytest.raises(StoreError, match="left alone"):
            await store.get("a")
        assert not store.admits(guarded.time[0])
        assert (store.calls[Call.FAILED], store.calls[Call.SKIPPED]) == (3, 2)
        backend.broken = False
        guarded.time[0] = 2.3
        assert store.admits(2.3)
        assert await store.get("a") == b"a"
        assert store.snapshot()["state"] == "closed"
        await store.close()

    run(test)


def test_a_probe_that_nobody_waits_for_any_more_is_not_the_last_one() -> None:
    async def test(backend: Slow, guarded: Any) -> None:
        store = guarded(timeout=10.0)
        backend.broken = True
        for _ in range(3):
            with pytest.raises(StoreError, match="broken"):
                await store.get("a")
        backend.broken = False
        guarded.time[0] = 2.3
        probe = asyncio.ensure_future(store.get("a"))
        await until(lambda: backend.running == 1)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        backend.gate.set()
        assert await store.get("b") == b"b"
        assert store.snapshot()["state"] == "closed"
        await store.close()

    run(test)


def test_many_sidecars_come_back_one_after_the_other() -> None:
    """A store that was restarted must not get all of its clients in one instant."""

    async def go() -> list[float]:
        now = 0.0
        stores = []
        for seed in range(100):
            backend = Slow()
            backend.broken = True
            stores.append(GuardedStore(backend, timeout=1, directory="", rng=Random(seed), clock=lambda: now))
        for store in stores:
            for _ in range(4):
                with pytest.raises(StoreError):
                    await store.get("a")
        back: dict[GuardedStore, float] = {}
        while len(back) < len(stores) and now < 5:
            now += 0.01
            back |= {store: now for store in stores if store not in back and store.admits(now)}
        return sorted(back.values())

    back = asyncio.run(go())
    assert len(back) == 100
    assert back[0] >= 1.0
    assert back[-1] <= 2.3
    assert back[90] - back[10] > 0.5
    assert max(back.count(at) for at in back) <= 10


def test_how_long_calls_took_is_counted_late_ones_with_their_timeout() -> None:
    async def test(backend: Slow, guarded: Any) -> None:
        store = guarded()
        with pytest.raises(StoreError):
            await store.get("late")
        backend.gate.set()
        guarded.time[0] = 0.2
        await store.get("soon")
        shown = store.snapshot()
        assert shown["took"][-1] == ("+Inf", 2)
        assert (shown["calls"]["timeout"], shown["calls"]["ok"]) == (1, 1)
        await store.close()

    run(test)


def test_closing_ends_what_does_not_end_by_itself() -> None:
    async def test(backend: Slow, guarded: Callable[..., GuardedStore]) -> None:
        store = guarded(timeout=30.0)
        asked = asyncio.ensure_future(store.hold("a", b"v", 1.0))
        await until(lambda: backend.running == 1)
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await asked
        assert backend.running == 0

    run(test)


def test_files_are_taken_over_when_they_change_and_bad_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secretfiles, "PERIOD", 0.01)
    taken: list[Mapping[str, bytes]] = []

    def take(files: Mapping[str, bytes]) -> None:
        if files.get("password") == b"bad":
            raise ValueError("expected another one")
        taken.append(files)

    async def go() -> None:
        files = SecretFiles(str(tmp_path), ("password", "ca.crt"), take)
        files.start()
        for content in (b"one", b"bad", b"three"):
            (tmp_path / "fresh").write_bytes(content)
            (tmp_path / "fresh").rename(tmp_path / "password")
            before = len(taken)
            if content != b"bad":
                await until(lambda before=before: len(taken) > before)  # type: ignore[misc]  # bound
            files.look()
        (tmp_path / "ca.crt").write_bytes(b"x" * (secretfiles.LARGEST + 1))
        files.look()
        files.close()

    asyncio.run(go())
    assert taken == [{}, {"password": b"one"}, {"password": b"three"}]
