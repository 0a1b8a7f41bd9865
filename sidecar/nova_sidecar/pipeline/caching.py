"""The cache at work: what is looked up, who asks the app, and what becomes of its response.

    request ── fresh ───▶ answered
       ├────── stale, within stale-while-revalidate ──▶ answered; a request of nobody's asks the app
       ├────── stale ───▶ the app is asked whether it still holds ── 304 ──▶ answered
       ├────── nothing ─▶ Redis, then the app; requests like it wait for what it brings
       └────── no request for a cache ──▶ the app

Rules:

* One request at a time asks the app for a response that is not there; see `policy.coalescing`, whose flights these are.
  Who waits is answered from what was stored, or goes on by itself where nothing was.
* Only a response that came whole is kept: its end must have been announced (a length, or the last chunk) and reached.
* What an unsafe request changes is forgotten once the app has accepted it (RFC 9111 section 4.4), and a response that
  was under way meanwhile is not kept.
* What differs by a field that the sidecar writes itself, such as one with a claim, is not kept: requests cannot be
  compared by it.
* Each port has its own responses: apps behind two ports may answer the same target differently.
* Every answer of a covered target says in Cache-Status what the cache did (RFC 9211).

It is imported where the policy is on.
"""

from typing import TYPE_CHECKING, Final, cast

from nova_api.request_policies.cache import CachePolicy
from nova_sidecar.pipeline.cache_desk import MOST_REFRESHING, PATIENCE, CacheDesk, Outcome
from nova_sidecar.pipeline.fallback import COVERED
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.pipeline.state import DONE
from nova_sidecar.policy.coalescing import Flight, Shared
from nova_sidecar.policy.freshness import Stored, Verdict, judge, stands_in
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.paths import Paths
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.transport.absent import AbsentClient
from nova_sidecar.wire import storing
from nova_sidecar.wire.identity import shareable
from nova_sidecar.wire.keeping import Credentials, credentials
from nova_sidecar.wire.memo import Memo
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.stats import PortStats
    from nova_sidecar.wire.request import RequestHead

STAGE: Final = "cache"
HTTP: Final = "http"
"""Class of requests that are no GraphQL."""
SPARE: Final = 1.0
"""Seconds for which an app that has failed is not asked again for the same, while a stale response stands in."""

_STATUS: Final = b"cache-status: nova; %b\r\n"
_FAILURES: Final = COVERED | {Reason.OVERLOADED, Reason.QUEUE_FULL, Reason.ACQUIRE_TIMEOUT}
"""Refusals in whose place a stale response may go out: the app failed, or cannot be asked now."""
_GATEWAY_TIMEOUT: Final = b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n"


def counts_of(stats: "PortStats", kind: str) -> dict[Outcome, int]:
    """What is counted of a class of requests at a port."""
    by_class: dict[str, dict[Outcome, int]] = stats.policies.setdefault(STAGE, {})
    return by_class.setdefault(kind, dict.fromkeys(Outcome, 0))


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


class CacheFilter(RequestFilter):
    """One per port and configuration; the desk is the policy's, and so are the flights."""

    __slots__ = ("_desk", "_paths", "_plans", "_shadow", "_token", "counts", "headers", "port")

    replaces = storing.CONDITIONS

    def __init__(self, policy: CachePolicy, desk: CacheDesk, stats: "PortStats", token: bytes = b"") -> None:
        """`token` names the field, in lower case, in which tokens come; b"" where nobody looks at tokens."""
        self._desk = desk
        self._token = token
        self.port = stats.name.encode()
        """Whose responses they are."""
        self._shadow = policy.mode == "Shadow"
        self.counts = counts_of(stats, HTTP)
        self._paths = Paths(policy.paths)
        self.headers = tuple(sorted(name.encode() for name in policy.key_headers))
        """Fields that every response depends on."""
        self._plans: Memo[bytes, tuple[Plan | None]] = Memo()

    def on_request(self, exchange: Handled, now: float) -> Reject | Queued | None:
        """Answer it, let it wait, or let it pass and look at its response."""
        managed = cast(ManagedExchange, exchange)  # ports for HTTP/1.1 make no others where a filter is on
        head = managed.head
        if head.path not in self._paths:
            managed.trace += storing.conditions(head)
            return None
        if storing.unsafe(head):
            managed.trace += storing.conditions(head)
            managed.watch(_Change(self._desk, head))
            return None
        plan = self._plan(managed)
        if plan is None:
            managed.trace += storing.conditions(head)
            self.bypass(managed, b"fwd=request", self.counts)
            return None
        return self.serve(managed, plan, now)

    def bypass(self, exchange: ManagedExchange, why: bytes, counts: dict[Outcome, int]) -> None:
        """Let it pass; nothing of it is looked at."""
        counts[Outcome.BYPASS] += 1
        if not self._shadow:
            exchange.lines += _STATUS % why

    def _plan(self, exchange: ManagedExchange) -> Plan | None:
        head = exchange.head
        if not shareable(head):  # not all of that is in `forward`, by which plans are remembered
            return None
        if self.headers or exchange.facts.tenant:
            return self._make_plan(exchange)
        found = self._plans.get(head.forward)
        if found is None:
            found = (self._make_plan(exchange),)
            self._plans.offer(head.forward, found)
        plan = found[0]
        if plan is not None and plan.who is Credentials.NONE and self.told(exchange):
            return Plan(plan.resource, plan.target, Credentials.AUTHORIZATION, self.counts, shadow=self._shadow)
        return plan

    def _make_plan(self, exchange: ManagedExchange) -> Plan | None:
        head = exchange.head
        resource = storing.asked(head, self.headers, exchange.facts.tenant)
        if resource is None or storing.forbids_storing(head):
            return None
        who = credentials(head.forward)
        if who is Credentials.NONE and self.told(exchange):
            who = Credentials.AUTHORIZATION
        target = head.forward.split(b" ", 2)[1]
        return Plan(self.port + b"\n" + resource, target, who, self.counts, shadow=self._shadow)

    def told(self, exchange: ManagedExchange) -> bool:
        """Whether somebody has told who asks, in a way that the fields which go on need not show: by a token, verified
        or not, whether it names a subject or not, or by a field that is no longer there."""
        facts, captured = exchange.facts, exchange.head.captured
        return bool(facts.subject or facts.claims) or b"authorization" in captured or self._token in captured

    # --- looking up

    def serve(self, exchange: ManagedExchange, plan: Plan, now: float) -> Queued | None:
        """Answer from what is stored here, or find out otherwise."""
        responses = self._desk.responses
        names = responses.names(plan.resource)
        if names and not _comparable(names, exchange):  # stored before a reload that made one the sidecar's own word
            responses.forget(plan.resource)
            names = None
        variant = storing.variant(plan.resource, exchange.head, names or ())
        stored = responses.find(variant) if names is not None else None
        if plan.shadow:
            self._rehearse(exchange, plan, stored, now)
            return None
        if stored is not None and self._answered(exchange, plan, stored, now):
            return QUEUED
        if storing.only_if_cached(exchange.head):
            plan.counts[Outcome.MISS] += 1
            exchange.lines += _STATUS % b"fwd=miss; fwd-status=504"
            exchange.answer(504, _GATEWAY_TIMEOUT, b"", now)
            return QUEUED
        return self._ask(exchange, plan, stored, variant, now, why=b"vary-miss" if names else b"uri-miss")

    def _rehearse(self, exchange: ManagedExchange, plan: Plan, stored: Stored | None, now: float) -> None:
        """Shadow: count and store, and change nothing."""
        would = stored is not None and judge(stored, storing.wish(exchange.head), now) is not Verdict.REVALIDATE
        plan.counts[Outcome.WOULD_HIT if would else Outcome.MISS] += 1
        exchange.trace += storing.conditions(exchange.head)
        if not would and not exchange.head_only:
            asking = Asking(self, exchange, plan, None, None)
            asking.counted = True
            exchange.watch(asking)

    def _answered(self, exchange: ManagedExchange, plan: Plan, stored: Stored, now: float, note: bytes = b"") -> bool:
        """Whether what is stored may be used as it is; then it has been."""
        verdict = judge(stored, storing.wish(exchange.head), now)
        if verdict is Verdict.REVALIDATE:
            if now >= stored.spare_until or not stands_in(stored, now):
                return False
            plan.counts[Outcome.STALE_ERROR] += 1
        else:
            plan.counts[Outcome.HIT if verdict is Verdict.FRESH else Outcome.STALE] += 1
        if verdict is Verdict.REFRESH:
            self._refresh(exchange, plan, stored, now)
        self.give(exchange, stored, now, b"hit; ttl=%d%b" % (_ttl(stored, now), note))
        return True

    def give(
        self, exchange: ManagedExchange, stored: Stored, now: float, status: bytes, instead: ResponseHead | None = None
    ) -> None:
        """Answer with a stored response, or with 304 where the client has it; `instead` of one that has come."""
        code, body = stored.status, stored.body
        if storing.holds(stored, exchange.head):
            code, body = 304, b""
            head = storing.not_modified(stored, now)
        else:
            head = storing.whole(stored, now)
        head += _STATUS % status
        if instead is not None:
            exchange.replace(instead, code, head, body, now)
        else:
            exchange.answer(code, head, body, now)

    # --- asking the app

    def _ask(
        self, exchange: ManagedExchange, plan: Plan, stored: Stored | None, variant: bytes, now: float, *, why: bytes
    ) -> Queued | None:
        """Alone, for others as well, or wait for one that asks already."""
        desk = self._desk
        if exchange.head_only:  # its response has no body to keep
            plan.counts[Outcome.MISS] += 1
            exchange.trace += storing.conditions(exchange.head)
            exchange.lines += _STATUS % (b"fwd=" + why)
            return None
        flight, how = desk.flights.enter(variant, exchange, now)
        if how is Shared.FOLLOWED and flight is not None:
            desk.waiting[exchange] = (plan, flight)
            exchange.hold(now)
            if flight not in desk.timed:
                desk.timed.add(flight)
                desk.loop.call_later(PATIENCE, self._look, flight)
            return QUEUED
        asking = Asking(self, exchange, plan, stored, flight)
        if flight is not None and stored is None and desk.tier is not None and desk.tier.admits(now):
            exchange.hold(now)
            desk.tier.find(plan.resource, plan.target, exchange.head, asking.found)
            return QUEUED
        asking.begin(b"stale" if stored is not None else why)
        return None

    def _refresh(self, exchange: ManagedExchange, plan: Plan, stored: Stored, now: float) -> None:
        """Ask the app behind the client's back, by a request of nobody's. It takes a place as any other does."""
        desk = self._desk
        if stored.refreshing or exchange.head.is_head or exchange.body is not None:
            return
        if desk.refreshing >= MOST_REFRESHING:
            return
        stored.refreshing = True
        desk.refreshing += 1
        port = exchange.port
        absent = AbsentClient(port, exchange.downstream.wheel)
        twin = type(exchange)(port, absent, exchange.head, now)
        absent.exchange = twin
        port.stats.in_flight += 1
        twin.chain = exchange.chain  # the port's may have no cache by now
        twin.correlation = exchange.correlation
        twin.facts = exchange.facts
        twin.trace = exchange.trace
        twin.deadline_at = now + port.attempt_budget
        asking = Asking(self, twin, plan, stored, None)
        asking.behind = True
        asking.prepare()
        port.loop.call_soon(_go, twin)

    def _look(self, flight: Flight[ManagedExchange]) -> None:
        """Who asked is slow: one more of those who wait asks as well."""
        desk, now = self._desk, self._desk.clock()
        promoted = desk.flights.next_due(flight, now)
        if promoted is not None:
            self.wake([promoted], flight)
        if flight.followers:
            desk.loop.call_later(max(0.001, flight.due - now), self._look, flight)
        else:
            desk.timed.discard(flight)

    def on_complete(self, exchange: Handled, now: float) -> None:
        """Whoever waited, and is over, counts no more."""
        waiting = self._desk.waiting.pop(cast(ManagedExchange, exchange), None)
        if waiting is not None:
            self._desk.flights.abandon(waiting[1], cast(ManagedExchange, exchange))

    def wake(self, members: list[ManagedExchange], flight: Flight[ManagedExchange]) -> None:
        """Those who waited look once more, and ask the app where there is nothing; in the next turn of the loop."""
        for member in members:
            self._desk.loop.call_soon(self._woken, member, flight if member in flight.leaders else None)

    def _woken(self, member: ManagedExchange, flight: Flight[ManagedExchange] | None) -> None:
        waiting = self._desk.waiting.pop(member, None)
        if waiting is None or not member.waits:
            return
        now, plan = self._desk.clock(), waiting[0]
        names = self._desk.responses.names(plan.resource)
        stored = None
        if names is not None:
            stored = self._desk.responses.find(storing.variant(plan.resource, member.head, names))
            if stored is not None and self._answered(member, plan, stored, now, b"; collapsed"):
                return
        Asking(self, member, plan, stored, flight).begin(b"stale" if stored is not None else b"uri-miss")
        member.go_on(STAGE, now)

    @property
    def desk(self) -> CacheDesk:
        """Where responses are kept."""
        return self._desk


def _go(twin: ManagedExchange) -> None:
    if twin.state is not DONE:
        twin.go_on(STAGE, twin.port.clock())


def _comparable(names: tuple[bytes, ...], exchange: ManagedExchange) -> bool:
    """Whether requests can be compared by these fields. Those that are the sidecar's own word to the app, such as a
    verified claim, are in no request as it came."""
    guarded = exchange.port.guarded
    return not guarded or not any(name.replace(b"_", b"-") in guarded for name in names)


def _ttl(stored: Stored, now: float) -> int:
    return int(stored.terms.lifetime - stored.age_at(now))


class _Change:
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
        self, of: CacheFilter, exchange: ManagedExchange, plan: Plan, stored: Stored | None,
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
        self._exchange.lines += _STATUS % (b"fwd=" + why)
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
        if stored is not None and not _comparable(names, exchange):
            stored = None
        if stored is not None and desk.responses.unchanged(stored.target, self._since):
            desk.keep(self._plan.resource, names, stored)
        if not exchange.waits:
            self._over(failed=True)
            return
        now = desk.clock()
        if stored is not None and self._filter._answered(exchange, self._plan, stored, now, b'; detail="redis"'):
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
        self._filter.give(self._exchange, stored, now, b"hit; ttl=%d; fwd=stale" % _ttl(stored, now), instead)

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
        return what if what is not None and _comparable(what.vary, self._exchange) else None

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
