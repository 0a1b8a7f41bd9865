"""Who has blocked whom: the service users knows, and others ask it by gRPC, with a deadline.

    blocks = Blocks(UsersServiceStub(channel), fresh=10.0, unknown=metrics.unknown_blocks, cache=CacheMetrics(registry))
    if await blocks.between(one, other): ...              # now; UnavailableError where users does not answer
    known = await blocks.lately(viewer, authors)          # within `fresh` seconds; None of whom nobody knows

What holds of those of whom nobody knows, each service says for itself: that depends on what a mistake would cost.

A page asks for all of its people in one turn of the loop. What is kept of a pair is served (`cache.read_through`), and
all that is missing goes in one question (`calls.batching`), together with what other pages of the same viewer miss.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from grpc import aio
from nova.users.v1.users_pb2 import CheckBlockRequest, CheckBlocksRequest

from nova_data.cache.freshness import Entry, Freshness
from nova_data.cache.memory import Memory
from nova_data.cache.metrics import CacheMetrics
from nova_data.cache.read_through import ENTRIES, ReadThrough
from nova_data.calls.batching import Batcher
from nova_services.errors import UnavailableError
from nova_services.logs import get_logger

if TYPE_CHECKING:
    from nova.users.v1.users_pb2_grpc import UsersServiceAsyncStub

T = TypeVar("T")
Pair = tuple[UUID, UUID]
"""Who asks, and of whom."""
TIMEOUT: Final = 1.0
"""Seconds for one answer of users."""
MOST: Final = 100
"""Others in one question, as the proto has it."""


class Blocks:
    """See the module. An answer holds for `fresh` seconds; while users does not answer the last one stands in for what
    it is until it is `stands_in` seconds old, 0 for never. `unknown` is called for each question without an answer."""

    def __init__(
        self,
        users: "UsersServiceAsyncStub",
        *,
        fresh: float,
        stands_in: float = 0.0,
        unknown: Callable[[], None],
        cache: CacheMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = users
        self._stands_in = stands_in
        self._unknown = unknown
        self._clock = clock
        self._last: Memory[Pair] = Memory(ENTRIES)
        self._questions: Batcher[Pair, bool] = Batcher(self._ask, window=0.0, most=MOST)
        self._kept: ReadThrough[Pair, bool] = ReadThrough(
            "blocks",
            self._load,
            Freshness(ttl=fresh, early=0.0),
            fallback=self._former if stands_in else None,
            timeout=2 * TIMEOUT,
            metrics=cache,
            clock=clock,
        )

    async def between(self, one: UUID, other: UUID) -> bool:
        """Whether either has blocked the other, now. Raises UnavailableError."""
        if one == other:
            return False
        asked = CheckBlockRequest(user_id=str(one), other_id=str(other))
        return (await self._answer(self._users.CheckBlock(asked, timeout=TIMEOUT))).blocked

    async def among(self, user: UUID, others: Collection[UUID]) -> set[UUID]:
        """With whom of the others, 100 at most, there is a block now. Raises UnavailableError."""
        wanted = [str(other) for other in others if other != user]
        if not wanted:
            return set()
        asked = CheckBlocksRequest(user_id=str(user), other_ids=wanted)
        answer = await self._answer(self._users.CheckBlocks(asked, timeout=TIMEOUT))
        return {UUID(blocked) for blocked in answer.blocked_ids}

    async def lately(self, user: UUID, others: Collection[UUID]) -> dict[UUID, bool | None]:
        """For each of the others what was said a moment ago, None where nobody knows; nobody has blocked themselves."""
        wanted = [other for other in dict.fromkeys(others) if other != user]
        answers = await asyncio.gather(*(self._known((user, other)) for other in wanted))
        return {user: False, **dict(zip(wanted, answers, strict=True))}

    # ---

    async def _known(self, pair: Pair) -> bool | None:
        try:
            return await self._kept.get(pair)
        except (UnavailableError, TimeoutError):
            return None

    async def _load(self, pair: Pair) -> bool:
        began = self._clock()
        blocked = await self._questions.load(pair)
        self._last.put(pair, Entry(blocked, began))
        return blocked

    async def _former(self, pair: Pair) -> bool:
        """What users said last, as long as that may stand in."""
        entry = self._last.get(pair)
        if entry is None or self._clock() - entry.loaded >= self._stands_in:
            raise UnavailableError("users")
        return bool(entry.value)

    async def _ask(self, pairs: Sequence[Pair]) -> dict[Pair, bool | Exception]:
        """One question for each who asks, as a rule one in all."""
        others: dict[UUID, list[UUID]] = {}
        for user, other in pairs:
            others.setdefault(user, []).append(other)
        said = dict(zip(others, await asyncio.gather(*(self._said(*one) for one in others.items())), strict=True))
        return {pair: _of(pair[1], said[pair[0]]) for pair in pairs}

    async def _said(self, user: UUID, others: Sequence[UUID]) -> set[UUID] | UnavailableError:
        try:
            return await self.among(user, others)
        except UnavailableError as error:
            return error

    async def _answer(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except aio.AioRpcError as error:
            self._unknown()
            get_logger().warning("blocks unknown", upstream="users", grpc_status=error.code().value[0])
            raise UnavailableError("users") from error

    def __repr__(self) -> str:
        return f"<Blocks kept={len(self._kept.memory)} {self._questions!r}>"


def _of(other: UUID, said: set[UUID] | UnavailableError) -> bool | Exception:
    return said if isinstance(said, UnavailableError) else other in said
