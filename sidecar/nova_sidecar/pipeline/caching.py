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
from nova_sidecar.pipeline.asking import STAGE, STATUS, Asking, Change, Plan, comparable, seconds_left
from nova_sidecar.pipeline.cache_desk import MOST_REFRESHING, PATIENCE, CacheDesk, Outcome
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.managed import ManagedExchange
from nova_sidecar.pipeline.request_policies import RequestFilter
from nova_sidecar.pipeline.state import DONE
from nova_sidecar.policy.coalescing import Flight, Shared
from nova_sidecar.policy.freshness import Stored, Verdict, judge, stands_in
from nova_sidecar.policy.limiter import QUEUED, Queued
from nova_sidecar.policy.paths import Paths
from nova_sidecar.policy.reasons import Reject
from nova_sidecar.transport.absent import AbsentClient
from nova_sidecar.wire import storing
from nova_sidecar.wire.identity import shareable
from nova_sidecar.wire.keeping import Credentials, credentials
from nova_sidecar.wire.memo import Memo
from nova_sidecar.wire.response import ResponseHead

if TYPE_CHECKING:
    from nova_sidecar.pipeline.stats import PortStats

HTTP: Final = "http"
"""Class of requests that are no GraphQL."""

_GATEWAY_TIMEOUT: Final = b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n"


def counts_of(stats: "PortStats", kind: str) -> dict[Outcome, int]:
    """What is counted of a class of requests at a port."""
    by_class: dict[str, dict[Outcome, int]] = stats.policies.setdefault(STAGE, {})
    return by_class.setdefault(kind, dict.fromkeys(Outcome, 0))


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
            managed.watch(Change(self._desk, head))
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
            exchange.lines += STATUS % why

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
        if names and not comparable(names, exchange):  # stored before a reload that made one the sidecar's own word
            responses.forget(plan.resource)
            names = None
        variant = storing.variant(plan.resource, exchange.head, names or ())
        stored = responses.find(variant) if names is not None else None
        if plan.shadow:
            self._rehearse(exchange, plan, stored, now)
            return None
        if stored is not None and self.answered(exchange, plan, stored, now):
            return QUEUED
        if storing.only_if_cached(exchange.head):
            plan.counts[Outcome.MISS] += 1
            exchange.lines += STATUS % b"fwd=miss; fwd-status=504"
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

    def answered(self, exchange: ManagedExchange, plan: Plan, stored: Stored, now: float, note: bytes = b"") -> bool:
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
        self.give(exchange, stored, now, b"hit; ttl=%d%b" % (seconds_left(stored, now), note))
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
        head += STATUS % status
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
            exchange.lines += STATUS % (b"fwd=" + why)
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
            if stored is not None and self.answered(member, plan, stored, now, b"; collapsed"):
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
