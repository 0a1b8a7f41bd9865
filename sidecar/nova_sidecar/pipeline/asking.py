"""Requests that ask the app for the cache: what they bring is given to their client, kept, and given to those who wait.

See `caching`, which sends them. It is imported where the policy is on.
"""

from typing import TYPE_CHECKING, Final

from nova_sidecar.pipeline.cache_desk import CacheDesk, Outcome
from nova_sidecar.pipeline.fallback import COVERED
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.policy.coalescing import Flight
from nova_sidecar.policy.freshness import Stored, stands_in
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.wire import storing
from nova_sidecar.wire.keeping import Credentials
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.caching import CacheFilter
    from nova_sidecar.wire.request import RequestHead

STAGE: Final = "cache"
SPARE: Final = 1.0
"""Seconds for which an app that has failed is not asked again for the same, while a stale response stands in."""
STATUS: Final = b"cache-status: nova; %b\r\n"
"""What the cache did with a request (RFC 9211)."""
_FAILURES: Final = COVERED | {Reason.OVERLOADED, Reason.QUEUE_FULL, Reason.ACQUIRE_TIMEOUT}
"""Refusals in whose place a stale response may go out: the app failed, or cannot be asked now."""


class Plan:
    """What a request asks the cache for."""

    __slots__ = ("counts", "resource", "shadow", "target", "who")

    def __init__(
        self, resource: bytes, target: bytes, who: Credentials, counts: dict[Outcome, int], *, shadow: bool
    ) -> None:
        self.resource = resource
        self.target = target
        self.who = who
        self.counts = counts
        """Where it is counted."""
        self.shadow = shadow

    def storable(
        self, head: ResponseHead, allowed: storing.Allowances, delay: float, wall: float
    ) -> storing.Storable | None:
        """What to keep of a response, None where it must not be."""
        return storing.storable(head, self.who, allowed, delay=delay, wall=wall)

    def accepts(self, body: bytes) -> bool:
        """Whether a body may be kept."""
        return True


def comparable(names: tuple[bytes, ...], exchange: ManagedExchange) -> bool:
    """Whether requests can be compared by these fields. Those that are the sidecar's own word to the app, such as a
    verified claim, are in no request as it came."""
    guarded = exchange.port.guarded
    return not guarded or not any(name.replace(b"_", b"-") in guarded for name in names)


def seconds_left(stored: Stored, now: float) -> int:
    """Of its lifetime, whole ones; negative for one that is stale."""
    return int(stored.terms.lifetime - stored.age_at(now))


class Change:
    """Of an unsafe request: what it changes is forgotten when the app has accepted it."""

    __slots__ = ("_desk", "_head", "_places")

    def __init__(self, desk: CacheDesk, head: "RequestHead") -> None:
        self._desk = desk
        self._head = head
        self._places: list[bytes] = []

    def on_head(self, head: ResponseHead) -> None:
        """Accepted or not: it is an error from 400 on."""
        if 200 <= head.status < 400:
            self._places = storing.places(self._head, head)
            self._forget()

    def on_body(self, data: bytes) -> None:
        """Of no interest."""

    def on_end(self, trailers: bytes) -> None:
        """Once more: a response to another one's GET may have been under way."""
        self._forget()

    def on_lost(self) -> None:
        """The app may have done it all the same."""
        self._forget()

    def _forget(self) -> None:
        for place in self._places:
            self._desk.invalidate(place)


class Asking:
    """One request that asks the app: it may take the response for its client's, and keeps it."""

    __slots__ = (
        "_conditional", "_exchange", "_filter", "_flight", "_generation", "_held", "_kept", "_pieces", "_plan",
        "_since", "_status", "_stored", "_tier", "_trace", "behind", "counted",
    )  # fmt: skip

    def __init__(
        self, of: "CacheFilter", exchange: ManagedExchange, plan: Plan, stored: Stored | None,
        flight: Flight[ManagedExchange] | None,
    ) -> None:  # fmt: skip
        self._filter = of
        self._exchange = exchange
        self._plan = plan
        self._stored = stored
        self._flight = flight
        self._trace = exchange.trace
        self._conditional = False
        self._kept: storing.Storable | None = None
        self._status = 0
        self._pieces: list[bytes] = []
        self._held = 0
        self.counted = False
        """Whether what became of the request has been counted."""
        self._tier = of.desk.tier
        self._generation = self._tier.generation(plan.target) if self._tier is not None else b""
        self._since = of.desk.responses.changes
        """What had changed when the app, or Redis, was asked: see `CachedResponses.unchanged`."""
        self.behind = False
        """Whether it is a request of nobody's."""

    def begin(self, why: bytes) -> None:
        """It goes to the app for its client."""
        self._exchange.lines += STATUS % (b"fwd=" + why)
        self.prepare()

    def _count(self, outcome: Outcome) -> None:
        if not self.counted and not self.behind:
            self.counted = True
            self._plan.counts[outcome] += 1

    def prepare(self) -> None:
        """Put what the app is asked into the request, and look at its response."""
        exchange, stored = self._exchange, self._stored
        self._since = self._filter.desk.responses.changes
        if stored is not None and stored.asks_with:
            self._conditional = True
            exchange.trace += storing.validation(stored)
        elif not self.behind:
            exchange.trace += storing.conditions(exchange.head)
        if stored is not None:
            exchange.screen = self
        exchange.watch(self)

    def found(self, stored: Stored | None, names: tuple[bytes, ...]) -> None:
        """What Redis has; called once, in the loop."""
        exchange, desk = self._exchange, self._filter.desk
        if self._tier is not None:
            self._generation = self._tier.generation(self._plan.target)
        if stored is not None and not comparable(names, exchange):
            stored = None
        if stored is not None and desk.responses.unchanged(stored.target, self._since):
            desk.keep(self._plan.resource, names, stored)
        if not exchange.waits:
            self._over(failed=True)
            return
        now = desk.clock()
        if stored is not None and self._filter.answered(exchange, self._plan, stored, now, b'; detail="redis"'):
            self._over(failed=False)
            return
        self._stored = stored
        self.begin(b"stale" if stored is not None else b"uri-miss")
        exchange.go_on(STAGE, now)

    # --- between the app and the client

    def takes_response(self, head: ResponseHead) -> bool:
        """See `Screen`: 304 to our question, and errors in whose place the stored response may go out."""
        stored = self._stored
        if stored is None:
            return False
        now = self._filter.desk.clock()
        if head.status == 304 and self._conditional:
            self._take_304(head, stored, now)
            return True
        if head.status >= 500 and not self.behind and stands_in(stored, now):
            self._stand_in(stored, now, head)
            return True
        return False

    def takes_refusal(self, reject: Reject) -> bool:
        """See `Screen`."""
        stored, now = self._stored, self._filter.desk.clock()
        if stored is None or self.behind or reject.reason not in _FAILURES or not stands_in(stored, now):
            return False
        self._stand_in(stored, now, None)
        return True

    def _stand_in(self, stored: Stored, now: float, instead: ResponseHead | None) -> None:
        self._exchange.screen = None
        stored.spare_until = now + SPARE
        self._count(Outcome.STALE_ERROR)
        self._exchange.lines = self._without_status()
        self._over(failed=False)
        self._filter.give(self._exchange, stored, now, b"hit; ttl=%d; fwd=stale" % seconds_left(stored, now), instead)

    def _take_304(self, head: ResponseHead, stored: Stored, now: float) -> None:
        exchange, desk = self._exchange, self._filter.desk
        exchange.screen = None
        if not storing.confirms(stored, head):
            desk.responses.drop(stored.key)
            self._conditional = False
            exchange.trace = self._trace
            exchange.ask_again(head, now)
            return
        merged = storing.renewed(stored, head)
        what = self._storable(merged, now - exchange.sent_at)
        if what is None:  # it holds for this once, and must not be kept any longer
            desk.responses.drop(stored.key)
            fresh = Stored(
                stored.key, stored.target, stored.status, stored.head, stored.body, at=now, age=0.0,
                terms=stored.terms, etag=stored.etag, modified=stored.modified,
            )  # fmt: skip
        else:
            fresh = self._entry(what, stored.body, stored.status, now)
            self._put(what, fresh, now)
        self._count(Outcome.REVALIDATED)
        exchange.lines = self._without_status()
        self._over(failed=False)
        self._filter.give(exchange, fresh, now, b"fwd=stale; fwd-status=304", head)

    def _without_status(self) -> bytes:
        """The client's lines without ours, which says something else now."""
        lines = self._exchange.lines
        at = lines.rfind(b"cache-status: nova; fwd=")
        return lines if at < 0 else lines[:at] + lines[lines.index(b"\r\n", at) + 2 :]

    # --- the response

    def on_head(self, head: ResponseHead) -> None:
        """Whether it is one to keep."""
        desk, exchange = self._filter.desk, self._exchange
        self._count(Outcome.MISS)
        now = desk.clock()
        self._kept = self._storable(head, max(0.0, now - exchange.sent_at))
        if self._kept is not None and desk.responses.full:
            self._kept = None
            self._over(failed=True)
        elif self._kept is None:
            self._stored_no_more(head)
            if self._flight is not None and head.status < 500 and head.status not in (304, 429):
                desk.flights.remember(self._flight.key, now)
                self._release()
            else:
                self._over(failed=True)
        else:
            self._status = head.status

    def _storable(self, head: ResponseHead, delay: float) -> storing.Storable | None:
        desk = self._filter.desk
        what = self._plan.storable(head, desk.allowed, delay, desk.wall())
        return what if what is not None and comparable(what.vary, self._exchange) else None

    def _stored_no_more(self, head: ResponseHead) -> None:
        """A response that replaces what is stored, and must not be kept, takes it away."""
        if self._stored is not None and 200 <= head.status < 500 and head.status != 304:
            self._filter.desk.responses.drop(self._stored.key)

    def on_body(self, data: bytes) -> None:
        """Collect it, within bounds."""
        if self._kept is None:
            return
        desk = self._filter.desk
        self._held += len(data)
        desk.responses.held += len(data)
        self._pieces.append(data)
        if self._held > desk.allowed.largest:
            self._let_go()
            if self._flight is not None:
                desk.flights.remember(self._flight.key, desk.clock())
            self._release()

    def on_end(self, trailers: bytes) -> None:
        """It is whole: keep it, and let those who wait look."""
        kept, pieces = self._kept, self._pieces
        self._let_go()
        desk, outdated = self._filter.desk, False
        if kept is not None:
            body = b"".join(pieces)
            now = desk.clock()
            if not trailers and self._plan.accepts(body):
                outdated = not self._put(kept, self._entry(kept, body, self._status, now), now)
            elif self._flight is not None and trailers:
                desk.flights.remember(self._flight.key, now)
        self._over(failed=outdated)

    def on_lost(self) -> None:
        """There is none, or it broke off."""
        self._count(Outcome.MISS)
        self._let_go()
        self._over(failed=True)

    def _let_go(self) -> None:
        self._kept = None
        self._pieces = []
        self._filter.desk.responses.held -= self._held
        self._held = 0

    def _entry(self, what: storing.Storable, body: bytes, status: int, now: float) -> Stored:
        variant = storing.variant(self._plan.resource, self._exchange.head, what.vary)
        return Stored(
            variant, self._plan.target, status, what.head, body, at=now, age=what.age, terms=what.terms,
            etag=what.etag, modified=what.modified,
        )  # fmt: skip

    def _put(self, what: storing.Storable, stored: Stored, now: float) -> bool:
        """Keep it here and in Redis; False where what it shows has changed since the app was asked."""
        desk = self._filter.desk
        if not desk.responses.unchanged(stored.target, self._since):
            return False
        desk.keep(self._plan.resource, what.vary, stored)
        tier = self._tier
        if tier is not None and tier is desk.tier and not desk.shadow:
            tier.put(self._plan.resource, what.vary, stored, self._generation, now)
        return True

    # --- those who wait

    def _release(self) -> None:
        """Nothing will be stored for them: all go on."""
        flight, self._flight = self._flight, None
        if flight is not None and self._exchange in flight.leaders:
            self._filter.wake(self._filter.desk.flights.close(flight), flight)

    def _over(self, *, failed: bool) -> None:
        """They look for what has been stored, or one of them asks in its place."""
        if self.behind and self._stored is not None:
            self._stored.refreshing = False
            self._filter.desk.refreshing -= 1
            self.behind = False
        if not failed:
            self._release()
            return
        flight, self._flight = self._flight, None
        if flight is None or self._exchange not in flight.leaders:
            return
        flights, now = self._filter.desk.flights, self._filter.desk.clock()
        gone = self._exchange.reason is Reason.CLIENT_CLOSED
        went = flights.left(flight, self._exchange, now) if gone else flights.failed(flight, self._exchange, now)
        self._filter.wake(went, flight)
