"""Requests with a key at work: who leads, who waits, and what became of it.

    first ──▶ asks the store ──▶ leads ── answer ──▶ kept ──▶ whoever waits gets it
                 │                └── none worth keeping ──▶ the next one asks
    others ──▶ wait beside it     (here or in another pod: its lease is looked at now and then)

Rules:

* Of all requests here that have one key, one asks the store; what it hears is for all.
* A leader goes on without its client (`ManagedExchange.detach`): the one that comes again is most often its client.
* A leader's lease is renewed as long as its exchange lives, and freed as soon as it has failed.
* Nothing waits for the store longer than a call may take. Where it is lost, this pod's own memory stands in, or the
  request is refused, as the policy says. A value that Nova has not written is as good as a lost store, and removed.
* What a lost store was to get is kept here, and brought to it as soon as it answers.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Final

from nova_api.proxy import ProxyConfig
from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.idempotency_claims import Claim, Counts, Turn
from nova_sidecar.pipeline.idempotency_watchers import Recorder, Rehearsal
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.policy.idempotency import (
    LEASE,
    HostileError,
    Kept,
    Lease,
    Record,
    Result,
    Spent,
    decode,
    encode,
)
from nova_sidecar.policy.keyspace import key_prefix
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.store.keyed import Keeper, LocalKeeper, StoredKeeper
from nova_sidecar.store.port import StoreError
from nova_sidecar.telemetry.logs import get_logger

if TYPE_CHECKING:
    from nova_sidecar.pipeline.port import Shared

STAGE: Final = "idempotency"
MEMORY: Final = 8 * 1024 * 1024
"""Bytes that one sidecar remembers by itself."""
MOST_WAITING: Final = 4096
"""Requests that wait for another one's answer; further ones are refused."""
MOST_OWED: Final = 4096
FIRST_LOOK: Final = 0.03
LAST_LOOK: Final = 0.5
"""Seconds between two looks at another pod's lease, the first and the longest."""
SETTLE: Final = 1.0
"""Seconds between two tries to bring to the store what it has missed."""

_CONFLICT: Final = Reject(Reason.IDEMPOTENCY_CONFLICT, 1.0)
_SPENT_REJECT: Final = Reject(Reason.IDEMPOTENCY_CONFLICT)
_SPENT_WHY: Final = "the request with this Idempotency-Key has been carried out, and its answer cannot be repeated"
_MISMATCH: Final = Reject(Reason.IDEMPOTENCY_MISMATCH)
_STORE_LOST: Final = Reject(Reason.STORE_LOST, 1.0)


class IdempotencyDesk:
    """See the module."""

    __slots__ = (
        "_claims", "_clock", "_closed", "_local", "_loop", "_owed", "_policy", "_prefix", "_rng", "_settling",
        "_shared", "_tasks", "_turns", "_waiting",
    )  # fmt: skip

    def __init__(self, policy: IdempotencyPolicy, config: ProxyConfig, shared: "Shared") -> None:
        self._policy = policy
        self._shared = shared
        self._loop = shared.loop
        self._clock: Callable[[], float] = shared.clock
        self._rng: Random = shared.rng
        self._prefix = key_prefix(f"{config.namespace}/{config.service}", "idempotency")
        self._local = LocalKeeper(MEMORY, shared.clock)
        self._claims: dict[str, Claim] = {}
        self._turns: dict[Handled, Turn] = {}
        """Of exchanges that are not over."""
        self._waiting = 0
        self._closed = False
        self._owed: OrderedDict[str, bytes] = OrderedDict()  # lease by name; the values are in `_local`
        self._settling: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- as a desk

    def start(self) -> None:
        """Nothing to do: requests come by themselves."""

    def configure(self, config: ProxyConfig) -> None:
        """Take over a new policy; requests under way go on."""
        self._policy = config.idempotency

    async def close(self) -> None:
        """Who still waits is told to come again; what is being stored has a moment."""
        self._closed = True
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        for claim in list(self._claims.values()):
            if claim.renewal is not None:
                claim.renewal.cancel()
            for turn in self._take_waiting(claim):
                self._end(turn, Result.CONFLICT, _CONFLICT)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=SETTLE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        leading = sum(claim.leader is not None for claim in self._claims.values())
        records = self._local.records
        return {
            "mode": self._policy.mode,
            "leading": leading,
            "waiting": self._waiting,
            "local": len(records),
            "localBytes": records.size,
            "owed": len(self._owed),
        }

    # --- requests

    def enter(self, name: str, turn: Turn, now: float) -> None:
        """A request with a key, whose exchange is held: it goes on, is answered, or refused."""
        self._turns[turn.exchange] = turn
        claim = self._claims.get(name)
        if claim is not None:
            self._stay(claim, turn)
            return
        kept = self._local.records.get(name, now)
        if kept is not None and self._give(turn, kept):
            return
        claim = self._claims[name] = Claim(name, self._keeper(now))
        self._wait(claim, turn)  # however many there are: it waits for nobody
        self._begin(self._ask(claim))

    def _stay(self, claim: Claim, turn: Turn) -> None:
        """Let it wait, as long as it is known to wait for the same: while the store is asked nothing is known yet."""
        known = claim.asked is not None
        if known and claim.asked != turn.fingerprint:
            self._end(turn, Result.MISMATCH, _MISMATCH)
        elif (known and self._policy.wait <= 0) or self._waiting >= MOST_WAITING:
            self._end(turn, Result.CONFLICT, _CONFLICT)
        else:
            self._wait(claim, turn)
            if known and turn.timer is None:
                turn.timer = self._loop.call_later(float(self._policy.wait), self._late, claim, turn)

    def _wait(self, claim: Claim, turn: Turn) -> None:
        turn.claim = claim
        claim.waiting.append(turn)
        self._waiting += 1

    def left(self, exchange: Handled) -> None:
        """An exchange is over: its client may have left, or its time be up, while it waited."""
        turn = self._turns.pop(exchange, None)
        if turn is None or turn.claim is None:
            return
        claim, turn.claim = turn.claim, None
        if turn in claim.waiting:
            claim.waiting.remove(turn)
            self._waiting -= 1
            turn.end(Result.ENDED)

    def _late(self, claim: Claim, turn: Turn) -> None:
        turn.timer = None
        if turn in claim.waiting:
            claim.waiting.remove(turn)
            self._waiting -= 1
            self._end(turn, Result.CONFLICT, _CONFLICT)

    def _end(self, turn: Turn, result: Result, reject: Reject, why: str = "") -> None:
        if turn.end(result):
            turn.exchange.refuse(reject, why)

    def _give(self, turn: Turn, value: bytes) -> bool:
        """Answer with what was kept; False where that is no answer, but a lease, or nothing that can be read."""
        try:
            remembered = decode(value)
        except HostileError:
            return False
        if isinstance(remembered, Lease):
            return False
        self._hand_out(turn, remembered)
        return True

    def _hand_out(self, turn: Turn, remembered: Spent | Record) -> None:
        if remembered.fingerprint != turn.fingerprint:
            self._end(turn, Result.MISMATCH, _MISMATCH)
        elif isinstance(remembered, Spent):
            self._end(turn, Result.CONFLICT, _SPENT_REJECT, _SPENT_WHY)
        elif turn.end(Result.REPLAYED):
            turn.exchange.answer(remembered.status, remembered.head(), remembered.body, self._clock())

    def _take_waiting(self, claim: Claim) -> list[Turn]:
        turns, claim.waiting = claim.waiting, []
        self._waiting -= len(turns)
        return turns

    # --- asking

    async def _ask(self, claim: Claim) -> None:
        """Until somebody here leads, or everybody has an answer."""
        pause = FIRST_LOOK
        while self._choose(claim):
            try:
                found = await claim.keeper.hold(claim.name, claim.lease)
            except StoreError:
                if not self._without_store(claim):
                    return
                continue
            if not found:
                if self._lead(claim):
                    return
                await self._free(claim)
                continue
            try:
                remembered = decode(found)
            except HostileError as error:
                get_logger().warning("stored answer unreadable", error=str(error))
                if self._policy.on_store_loss == "Refuse":
                    self._without_store(claim)
                    return
                with suppress(StoreError):  # `hold` will say so again
                    await claim.keeper.free(claim.name, found)
                continue
            if not isinstance(remembered, Lease):
                del self._claims[claim.name]
                for turn in self._take_waiting(claim):
                    self._hand_out(turn, remembered)
                return
            self._meet(claim, remembered.fingerprint)
            await asyncio.sleep(pause * (0.5 + self._rng.random()))
            pause = min(pause * 2, LAST_LOOK)
        del self._claims[claim.name]

    def _choose(self, claim: Claim) -> bool:
        """Whom to ask for: the first who still waits. False where nobody does."""
        for turn in self._take_waiting(claim):
            if turn.exchange.waits:
                self._wait(claim, turn)
            else:
                turn.end(Result.ENDED)
        if not claim.waiting:
            return False
        claim.wanted = claim.waiting[0].fingerprint
        claim.lease = encode(Lease(claim.token, claim.wanted))
        return True

    def _meet(self, claim: Claim, asked: bytes) -> None:
        """Somebody elsewhere leads: who says something else, or will not wait, has an answer."""
        claim.asked = asked
        for turn in self._take_waiting(claim):
            self._stay(claim, turn)

    def _without_store(self, claim: Claim) -> bool:
        """The store is lost: go on with what is known here (True), or refuse."""
        if self._policy.on_store_loss == "Allow":
            claim.keeper = self._local
            return True
        del self._claims[claim.name]
        for turn in self._take_waiting(claim):
            self._end(turn, Result.STORE_LOST, _STORE_LOST)
        return False

    def _keeper(self, now: float) -> Keeper:
        store = self._shared.store
        if store is None or (self._policy.on_store_loss == "Allow" and not store.admits(now)):
            return self._local
        return StoredKeeper(store, self._prefix)

    # --- leading

    def _lead(self, claim: Claim) -> bool:
        """Let the request that the lease was taken for go on; False where it is gone meanwhile."""
        now = self._clock()
        leader: Turn | None = None
        turns = self._take_waiting(claim)
        for turn in turns:
            if turn.exchange.waits and turn.fingerprint == claim.wanted:
                leader = turn
                break
        claim.asked = None if leader is None else claim.wanted
        for turn in turns:
            if turn is not leader:
                self._stay(claim, turn)
        if leader is None:
            return False
        lost = self._shared.store is not None and claim.keeper is self._local
        leader.end(Result.UNGUARDED if lost else Result.FIRST)
        claim.leader = leader
        claim.renewal = self._loop.call_later(LEASE / 3, self._renew, claim)
        exchange = leader.exchange
        recorder = Recorder(self, claim, exchange, self._policy)
        exchange.watch(recorder)
        exchange.sharing = recorder
        exchange.go_on(STAGE, now)
        return True

    def _renew(self, claim: Claim) -> None:
        claim.renewal = self._loop.call_later(LEASE / 3, self._renew, claim)
        claim.renewing = self._begin(self._renewed(claim))

    async def _renewed(self, claim: Claim) -> None:
        with suppress(StoreError):  # counted where it happened; the next one comes before the lease ends
            await claim.keeper.renew(claim.name, claim.lease)

    async def _free(self, claim: Claim) -> None:
        with suppress(StoreError):  # as above; it ends by itself
            await claim.keeper.free(claim.name, claim.lease)

    def ended(self, claim: Claim, remembered: Spent | Record | None) -> None:
        """The leader's exchange is over. None: it left nothing that would be repeated."""
        if claim.renewal is not None:
            claim.renewal.cancel()
            claim.renewal = None
        leader, claim.leader, claim.asked = claim.leader, None, None
        assert leader is not None  # noqa: S101 - its exchange calls
        if remembered is None:
            leader.counts.kept[Kept.FREED] += 1
            self._begin(self._freed(claim))
            return
        del self._claims[claim.name]
        # known here until the store has it: who comes meanwhile need not find the lease there
        value = encode(remembered)
        self._local.records.put(claim.name, value, float(self._policy.keep_for), self._clock())
        for turn in self._take_waiting(claim):
            self._hand_out(turn, remembered)
        self._begin(self._keep(claim, value, leader.counts, spent=isinstance(remembered, Spent)))

    async def _freed(self, claim: Claim) -> None:
        if claim.renewing is not None and not claim.renewing.done():
            await asyncio.wait({claim.renewing})  # it would take the lease again that is given up here
        await self._free(claim)
        await self._ask(claim)

    async def _keep(self, claim: Claim, value: bytes, counts: Counts, *, spent: bool) -> None:
        stored = await self._bring(claim.name, claim.lease, value)
        if stored is None:
            counts.kept[Kept.LOCAL] += 1
            self._owe(claim.name, claim.lease)
        elif stored:
            counts.kept[Kept.SPENT if spent else Kept.STORED] += 1
        else:
            counts.kept[Kept.OVERTAKEN] += 1

    async def _bring(self, name: str, lease: bytes, value: bytes) -> bool | None:
        """Whether the store has taken it, or has somebody else's; None where it is lost, or there is none."""
        store = self._shared.store
        if store is None:
            return None
        try:
            stored = await StoredKeeper(store, self._prefix).finish(name, lease, value, float(self._policy.keep_for))
        except StoreError:
            return None
        self._local.records.drop(name)
        return stored

    # --- in Shadow mode

    def rehearse(self, name: str, exchange: ManagedExchange, fingerprint: bytes, counts: Counts) -> None:
        """Find out what would have become of a request, which goes on meanwhile."""
        rehearsal = Rehearsal(name, fingerprint, self._keeper(self._clock()), float(self._policy.keep_for))
        exchange.watch(rehearsal)
        self._begin(rehearsal.run(counts, exchange.port.stats.shadow_rejected))

    # --- what the store has missed

    def _owe(self, name: str, lease: bytes) -> None:
        if self._closed or self._shared.store is None:
            return
        self._owed[name] = lease
        if len(self._owed) > MOST_OWED:
            self._owed.popitem(last=False)
        if self._settling is None:
            self._settling = self._loop.call_later(SETTLE, self._settle)

    def _settle(self) -> None:
        self._settling = None
        self._begin(self._settled())

    async def _settled(self) -> None:
        while self._owed:
            name, lease = next(iter(self._owed.items()))
            value = self._local.records.get(name, self._clock())
            if value is not None and name not in self._claims:
                brought = await self._bring(name, lease, value)
                if brought is None:
                    break
            self._owed.pop(name, None)
        if self._owed and self._settling is None and not self._closed:
            self._settling = self._loop.call_later(SETTLE, self._settle)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def __repr__(self) -> str:
        return f"<IdempotencyDesk claims={len(self._claims)} waiting={self._waiting} {self._local.records!r}>"
