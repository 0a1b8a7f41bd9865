"""Sessions whose pod stands in a store: the cookie names a session, and the store says whose it is.

What that is for: all sidecars agree on one new pod when a session's pod is gone, however many of its requests come at
once; and a client that keeps an old cookie, or has it on several devices, still finds its session.

Rules:

* A session is written when its client comes back with the cookie, not when it gets one: who keeps no cookies, as most
  robots do, costs the store nothing.
* What the store said is good for `FRESH` seconds here; asking again is also what keeps the session in the store. Who
  asks for the same session meanwhile waits for the same answer.
* Without an answer the cookie's own pod counts: as with Cookie affinity, which needs no store.
* A pod that leaves takes on no session.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

from nova_sidecar.pipeline.affinity import AffinityExchange, AffinityFilter
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.state import QUEUED as WAITS
from nova_sidecar.policy.affinity import MARK, Affinity, Cookie, Decision, Result
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.reasons import Reject
from nova_sidecar.store.guarded import GuardedStore
from nova_sidecar.store.port import StoreError

if TYPE_CHECKING:
    from nova_sidecar.pipeline.sessions import SessionDesk
    from nova_sidecar.pipeline.stats import PortStats

FRESH: Final = 5.0
"""Seconds for which an answer of the store is good."""
REMEMBERED: Final = 8192
"""Sessions whose pod is known here without asking; about 2 MB when all of it is used."""


class StoredSessions:
    """What the store said of sessions, and who waits for what it will say. `prefix` stands before each key."""

    __slots__ = ("_affinity", "_asking", "_known", "_lifetime", "_prefix", "_tasks", "store")

    def __init__(self, store: GuardedStore, affinity: Affinity, *, prefix: str, lifetime: float) -> None:
        self.store = store
        self._affinity = affinity
        self._prefix = prefix
        self._lifetime = lifetime
        self._known: dict[bytes, tuple[bytes, float]] = {}
        self._asking: dict[bytes, list[Callable[[bytes], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, session: bytes, now: float) -> bytes | None:
        """The pod of a session, where the store said so of late."""
        found = self._known.get(session)
        return found[0] if found is not None and now < found[1] else None

    def ask(self, cookie: Cookie, *, leaving: bool, now: float, then: Callable[[bytes], None]) -> None:
        """Call `then` with the pod of the cookie's session, once, later."""
        waiting = self._asking.get(cookie.session)
        if waiting is not None:
            waiting.append(then)
            return
        self._asking[cookie.session] = [then]
        self._begin(self._ask(cookie, leaving=leaving, now=now))

    def move(self, session: bytes, before: bytes, now: float) -> None:
        """The session of a pod that could not be reached is this pod's from now on, unless another one was faster."""
        own = self._affinity.own
        if own is not None and self.store.admits(now):
            self._know(session, own, now)
            self._begin(self._move(session, before, own, now))

    async def finish(self) -> None:
        """Wait for what is under way; no longer than a call may take."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, cookie: Cookie, *, leaving: bool, now: float) -> None:
        pod = cookie.pod
        try:
            pod = await self._holder(cookie, leaving=leaving)
            self._know(cookie.session, pod, now)
        except StoreError:
            pass  # counted and logged where it happened
        finally:  # whatever went wrong, requests go on
            for then in self._asking.pop(cookie.session):
                then(pod)

    async def _holder(self, cookie: Cookie, *, leaving: bool) -> bytes:
        own, lives, key = self._affinity.own, self._affinity.lives, self._key(cookie.session)
        if own is None or leaving:
            return await self.store.get(key) or cookie.pod
        wanted = cookie.pod if lives(cookie.pod) else own
        holder = await self.store.hold(key, wanted, self._lifetime)
        if self._affinity.gone(cookie, holder, time.time()):
            holder = await self.store.hold(key, own, self._lifetime, instead_of=holder)
        return holder

    async def _move(self, session: bytes, before: bytes, own: bytes, now: float) -> None:
        try:
            self._know(session, await self.store.hold(self._key(session), own, self._lifetime, instead_of=before), now)
        except StoreError:
            self._known.pop(session, None)

    def _know(self, session: bytes, pod: bytes, now: float) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[session] = (pod, now + FRESH)

    def _key(self, session: bytes) -> str:
        return f"{self._prefix}{session.decode('ascii')}"

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __repr__(self) -> str:
        return f"<StoredSessions known={len(self._known)} asking={len(self._asking)}>"


class StoredAffinityFilter(AffinityFilter):
    """Whose request it is, where a store says whose a session is."""

    __slots__ = ("_sessions",)

    def __init__(self, port: int, desk: "SessionDesk", stats: "PortStats", sessions: StoredSessions) -> None:
        super().__init__(port, desk, stats)
        self._sessions = sessions

    def on_request(self, handled: Handled, now: float) -> Reject | Queued | None:
        """As without a store, where its answer is known; else ask, and let the request go on with the answer."""
        exchange = cast(AffinityExchange, handled)  # ports with this filter make no others
        captured, wall = exchange.head.captured, self._wall()
        received, affinity = MARK in captured, self._desk.affinity
        cookie = affinity.recall(captured.get(b"cookie"), received, wall)
        if isinstance(cookie, Decision):
            return self.carry_out(exchange, cookie, now)
        if received:  # whoever has handed it over has asked; the cookie may be of before the session moved here
            return self.carry_out(exchange, affinity.route(cookie, affinity.own or b"", True, wall), now)
        pod = self._sessions.known(cookie.session, now)
        exchange.pod = cookie.pod if pod is None else pod
        decision = affinity.route(cookie, exchange.pod, False, wall)
        if (pod is None or decision.result is Result.REISSUED) and self._sessions.store.admits(now):
            self._ask(exchange, cookie, now)
            return QUEUED
        return self.carry_out(exchange, decision, now)

    def _ask(self, exchange: AffinityExchange, cookie: Cookie, now: float) -> None:
        exchange.wait_until(exchange.deadline_at)

        def then(pod: bytes) -> None:
            if exchange.state is WAITS:
                at = exchange.port.clock()
                exchange.pod = pod
                decision = self._desk.affinity.route(cookie, pod, False, self._wall())
                if self.carry_out(exchange, decision, at) is None:
                    exchange.go_on("affinity", at)

        self._sessions.ask(cookie, leaving=exchange.port.leaving, now=now, then=then)
