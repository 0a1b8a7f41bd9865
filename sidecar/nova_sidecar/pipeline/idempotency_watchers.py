"""What looks at the answers to requests with a key: what of them is kept, and in Shadow mode what would have been.

It is imported where the policy is on.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from nova_api.request_policies.idempotency import IdempotencyPolicy
from nova_sidecar.pipeline.idempotency_claims import Claim, Counts
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.policy.idempotency import (
    HostileError,
    Kept,
    Lease,
    Record,
    Remembered,
    Result,
    Spent,
    decode,
    encode,
    kept_fields,
    storable,
)
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.store.keyed import Keeper
from nova_sidecar.store.port import StoreError
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.idempotency_desk import IdempotencyDesk


class Recorder:
    """Watches a leader's answer, and tells what of it is kept. It wants it even when nobody else is there any more."""

    __slots__ = ("_claim", "_desk", "_exchange", "_fields", "_pieces", "_policy", "_size", "_status")

    def __init__(
        self, desk: "IdempotencyDesk", claim: Claim, exchange: ManagedExchange, policy: IdempotencyPolicy
    ) -> None:
        self._desk = desk
        self._claim = claim
        self._exchange = exchange
        self._policy = policy
        self._status = 0
        self._fields: bytes | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def client_gone(self, exchange: ManagedExchange) -> bool:
        """Its client has left: the app's answer is waited for, if it has the whole request."""
        if not exchange.detachable or (exchange.body is not None and not exchange.body.done):
            return False
        exchange.detach()
        return True

    def client_blocked(self, exchange: ManagedExchange, blocked: bool) -> None:
        """Its client reads too slowly, or does so no more: the app waits, as for every other."""
        upstream = exchange.upstream
        if upstream is None:
            return
        if blocked:
            upstream.pause_reading()
        else:
            upstream.resume_reading()

    def on_head(self, head: ResponseHead) -> None:
        """The answer begins."""
        self._status = head.status
        if storable(head.status):
            self._fields = kept_fields(head.forward)

    def on_body(self, data: bytes) -> None:
        """Keep it, as far as it is small enough."""
        self._size += len(data)
        if self._size <= self._policy.max_response_bytes:
            self._pieces.append(data)
        else:
            self._pieces = []

    def on_end(self, trailers: bytes) -> None:
        """It is whole."""
        asked = self._claim.asked
        assert asked is not None  # noqa: S101 - it leads
        remembered: Spent | Record | None = None
        if storable(self._status):
            if self._fields is None or self._size > self._policy.max_response_bytes:
                remembered = Spent(asked)
            else:
                remembered = Record(asked, self._status, self._fields, b"".join(self._pieces))
        self._desk.ended(self._claim, remembered)

    def on_lost(self) -> None:
        """There is none, or not all of it. An answer that began well says that the request was carried out."""
        asked = self._claim.asked
        assert asked is not None  # noqa: S101 - as above
        unknown = self._status == 0 and self._exchange.sent_at > 0 and self._policy.on_lost_answer == "Refuse"
        self._desk.ended(self._claim, Spent(asked) if unknown or storable(self._status) else None)


class Rehearsal:
    """Watches a request in Shadow mode. It is told apart by its length alone, since nothing waits for its content."""

    __slots__ = ("_fingerprint", "_keeper", "_name", "_over", "_seconds", "_status")

    def __init__(self, name: str, fingerprint: bytes, keeper: Keeper, seconds: float) -> None:
        self._name = f"shadow:{name}"
        self._fingerprint = fingerprint
        self._keeper = keeper
        self._seconds = seconds
        self._status = 0
        self._over = asyncio.Event()

    async def run(self, counts: Counts, shadow_rejected: dict[Reason, int]) -> None:
        """Count what Enforce would have done, and remember what it would have kept."""
        lease = encode(Lease(os.urandom(16), self._fingerprint))
        try:
            found = await self._keeper.hold(self._name, lease)
            if found:
                self._meet(decode(found), counts, shadow_rejected)
                return
            counts.results[Result.FIRST] += 1
            await self._over.wait()
            if storable(self._status):
                kept = await self._keeper.finish(self._name, lease, encode(Spent(self._fingerprint)), self._seconds)
                counts.kept[Kept.STORED if kept else Kept.OVERTAKEN] += 1
            else:
                counts.kept[Kept.FREED] += 1
                await self._keeper.free(self._name, lease)
        except (StoreError, HostileError):
            counts.results[Result.UNGUARDED] += 1

    def _meet(self, found: Remembered, counts: Counts, shadow_rejected: dict[Reason, int]) -> None:
        if found.fingerprint != self._fingerprint:
            counts.results[Result.MISMATCH] += 1
            shadow_rejected[Reason.IDEMPOTENCY_MISMATCH] += 1
        elif isinstance(found, Lease):
            counts.results[Result.CONFLICT] += 1
            shadow_rejected[Reason.IDEMPOTENCY_CONFLICT] += 1
        else:
            counts.results[Result.REPLAYED] += 1

    def on_head(self, head: ResponseHead) -> None:
        """The answer begins."""
        self._status = head.status

    def on_body(self, data: bytes) -> None:
        """Nothing is kept."""

    def on_end(self, trailers: bytes) -> None:
        """It is whole."""
        self._over.set()

    def on_lost(self) -> None:
        """There is none, or not all of it."""
        self._over.set()
