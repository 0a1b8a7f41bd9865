"""What requests hear that wait for a store's answer about their session, where the store gives none."""

import asyncio
from random import Random

from nova_sidecar.pipeline.stored import StoredSessions
from nova_sidecar.policy.affinity import Affinity, Cookie, CookieForm
from nova_sidecar.store.guarded import GuardedStore
from nova_sidecar.store.redis_store import RedisBackend

COOKIE = Cookie(b"pod", b"session", 0)


class Faulty(RedisBackend):
    """A store with a fault of ours in it."""

    async def get(self, key: str) -> bytes | None:
        raise LookupError(key)


def answers(backend: RedisBackend) -> list[bytes]:
    """What two requests hear that ask for the session at the same time."""
    heard: list[bytes] = []

    async def go() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        store = GuardedStore(backend, timeout=1.0, directory="", rng=Random(1), clock=loop.time)
        store.start()
        sessions = StoredSessions(store, Affinity(CookieForm("c", 60.0), "a/b"), prefix="x:", lifetime=60.0)
        for _ in range(2):
            sessions.ask(COOKIE, leaving=False, now=0.0, then=heard.append)
        await sessions.finish()
        await store.close()

    asyncio.run(go())
    return heard


def test_a_cluster_that_cannot_be_reached_holds_up_no_request() -> None:
    assert answers(RedisBackend("redis+cluster://127.0.0.1:1", 2)) == [b"pod", b"pod"]


def test_a_fault_of_the_store_holds_up_no_request() -> None:
    assert answers(Faulty("redis://127.0.0.1:1", 2)) == [b"pod", b"pod"]
