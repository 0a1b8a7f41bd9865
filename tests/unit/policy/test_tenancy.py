"""Whose a request is and how much a tenant may have under way; and, in virtual time, what that does for the others."""

import heapq
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nova_api.policies import BackpressurePolicy
from nova_api.request_policies.tenancy import TenancyPolicy, TenantQuota
from nova_api.request_policies.tenancy import Tenant as Known
from nova_api.units import Duration, Share
from nova_sidecar.policy.fair_queue import NOBODY, Flow
from nova_sidecar.policy.limiter import QUEUED, Limiter
from nova_sidecar.policy.rate_limit import Charge, RateLimiter, refusal
from nova_sidecar.policy.reasons import Reason, Reject
from nova_sidecar.policy.tenancy import Tenancy, Tenant

ACME = Known(name="acme", max_concurrency=2, weight=3)


def tenancy(**fields: Any) -> Tenancy:
    return Tenancy(TenancyPolicy(**({"mode": "Enforce", "tenants": (ACME,)} | fields)), 1)


def find(tenants: Tenancy, *names: bytes) -> Tenant:
    found = tenants.find(names)
    assert isinstance(found, Tenant)
    return found


def enters(tenants: Tenancy, *names: bytes, places: int = 4) -> bool:
    return isinstance(tenants.enter(find(tenants, *names), places), Tenant)


def test_a_named_tenant_has_its_own_quota() -> None:
    tenants = tenancy()
    assert [enters(tenants, b"acme") for _ in range(3)] == [True, True, False]
    tenants.leave(find(tenants, b"acme"))
    assert enters(tenants, b"acme")
    assert find(tenants, b"acme").flow.weight == 3


def test_others_have_the_default_one_each() -> None:
    tenants = tenancy(default=TenantQuota(max_share=Share(0.5)))
    assert [enters(tenants, b"a") for _ in range(3)] == [True, True, False]
    assert [enters(tenants, b"b") for _ in range(3)] == [True, True, False]
    assert [enters(tenants) for _ in range(3)] == [True, True, False]  # who names none is a tenant too


def test_or_they_share_it() -> None:
    tenants = tenancy(unknown="Shared", default=TenantQuota(max_concurrency=2))
    assert [enters(tenants, name) for name in (b"a", b"b", b"c")] == [True, True, False]
    assert enters(tenants)


def test_or_they_are_refused() -> None:
    tenants = tenancy(unknown="Refuse", missing="Refuse")
    for names in ((b"globex",), ()):
        assert tenants.find(names) == Reject(Reason.TENANT_UNKNOWN)
    assert enters(tenants, b"acme")
    assert tenants.snapshot()["tenants"]["other"]["refused"]["tenant_unknown"] == 2


def test_two_names_are_nobodys() -> None:
    assert tenancy().find((b"acme", b"globex")) == Reject(Reason.TENANT_UNKNOWN)


def test_everybody_may_have_one_request() -> None:
    tenants = tenancy(default=TenantQuota(max_share=Share(0.01)))
    assert [enters(tenants, b"a", places=1) for _ in range(2)] == [True, False]


def test_a_rehearsal_counts_and_lets_in() -> None:
    tenants = tenancy()
    for _ in range(4):
        assert isinstance(tenants.enter(find(tenants, b"acme"), 10, rehearse=True), Tenant)
    assert tenants.snapshot()["tenants"]["acme"] == {
        "inFlight": 4, "admitted": 2, "refused": {"rate_limited": 0, "tenant_limit": 2, "tenant_unknown": 0},
    }  # fmt: skip


def test_names_of_callers_are_nowhere_to_be_seen_and_leave_nothing_behind() -> None:
    tenants = tenancy()
    found = [find(tenants, b"secret-%d" % number) for number in range(5000)]
    for each in found:
        tenants.enter(each, 10)
    assert "secret" not in str(tenants.snapshot()) + repr(tenants) + repr(found[0])
    assert set(tenants.snapshot()["tenants"]) == {"acme", "other"}
    assert len(tenants) == 5000
    for each in found:
        tenants.leave(each)
    assert (len(tenants), tenants._others) == (0, {})


def test_a_long_name_is_kept_as_a_hash() -> None:
    tenants = tenancy()
    assert len(find(tenants, b"x" * 30_000).name) <= 128


def test_who_leaves_twice_is_found_out() -> None:
    tenants = tenancy()
    with pytest.raises(RuntimeError, match="without an admission"):
        tenants.leave(find(tenants, b"acme"))


def test_a_reload_keeps_who_is_there() -> None:
    tenants = tenancy()
    held = [tenants.enter(find(tenants, name), 10) for name in (b"acme", b"acme", b"globex")]
    tenants.configure(TenancyPolicy(mode="Enforce", tenants=(Known(name="globex", max_concurrency=1),)), 1)
    assert not enters(tenants, b"globex")
    shown = tenants.snapshot()["tenants"]
    assert {name: each["inFlight"] for name, each in shown.items()} == {"acme": 0, "globex": 1, "other": 2}
    for each in held:
        assert isinstance(each, Tenant)
        tenants.leave(each)
    assert len(tenants) == 0
    assert {each["inFlight"] for each in tenants.snapshot()["tenants"].values()} == {0}


class TenancyMachine(RuleBasedStateMachine):
    """The model: a list of who is under way, whatever is reloaded meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = TenancyPolicy(mode="Enforce", tenants=(ACME,))
        self.tenancy = Tenancy(self.policy, 1)
        self.under_way: list[tuple[bytes, Tenant]] = []

    def most(self, name: bytes, places: int) -> float:
        named = {tenant.name.encode(): tenant for tenant in self.policy.tenants}
        quota = named.get(name, self.policy.default)
        share = quota.max_share * places if quota.max_share is not None else places * 100
        return max(1, min(quota.max_concurrency or 100, share))

    @rule(name=st.sampled_from([b"acme", b"a", b"b"]), places=st.integers(1, 12))
    def arrive(self, name: bytes, places: int) -> None:
        held = sum(other == name for other, _ in self.under_way)
        answer = self.tenancy.enter(find(self.tenancy, name), places)
        assert isinstance(answer, Tenant) == (held + 1 <= self.most(name, places))
        if isinstance(answer, Tenant):
            self.under_way.append((name, answer))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        _, tenant = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.tenancy.leave(tenant)

    @rule(
        names=st.sets(st.sampled_from(["acme", "a", "b"])),
        quota=st.integers(1, 4),
        share=st.sampled_from([0.1, 0.5, 1.0]),
    )
    def configure(self, names: set[str], quota: int, share: float) -> None:
        known = tuple(Known(name=name, max_concurrency=quota) for name in sorted(names))
        self.policy = TenancyPolicy(mode="Enforce", tenants=known, default=TenantQuota(max_share=Share(share)))
        self.tenancy.configure(self.policy, 1)

    @invariant()
    def only_who_is_under_way_is_counted(self) -> None:
        assert len(self.tenancy) == len({name for name, _ in self.under_way})
        shown = self.tenancy.snapshot()["tenants"].values()
        assert sum(each["inFlight"] for each in shown) == len(self.under_way)


TestTenancyMachine = TenancyMachine.TestCase
TestTenancyMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# --- what it does for the others: an app with so many places, in virtual time


class Simulation:
    """Two tenants call an app that takes `service` seconds and has `places` workers, each with the load it is given.

    `fair`: tenants take turns where they wait; `quotas`: each has a rate, and requests under way at most.
    """

    def __init__(self, *, places: int = 10, service: float = 0.05, threshold: float = 1.0) -> None:
        self.places = places
        self.service = service
        self.policy = BackpressurePolicy(
            max_concurrency=places, threshold=threshold, max_queue=512, acquire_timeout=Duration(60)
        )

    def run(
        self, loads: dict[bytes, float], tenants: tuple[Known, ...], *, fair: bool = True, seconds: float = 60.0
    ) -> dict[bytes, list[float]]:
        """Latencies by tenant of what was admitted; `loads` are calls a second, at random instants."""
        limiter: Limiter[int] = Limiter(self.policy)
        tenancy = Tenancy(TenancyPolicy(mode="Enforce", tenants=tenants), 1)
        rates = RateLimiter("shop", 100)
        events: list[tuple[float, int, str, int]] = []
        numbers = count()
        for name, load in loads.items():
            for at in arrivals(load, seconds, seed=len(name)):
                heapq.heappush(events, (at, next(numbers), name.decode(), -1))
        latencies: dict[bytes, list[float]] = {name: [] for name in loads}
        calls: dict[int, tuple[bytes, float, Tenant]] = {}
        rng = Random(7)

        def serve(number: int, now: float) -> None:
            heapq.heappush(events, (now + rng.uniform(0.8, 1.2) * self.service, next(numbers), "", number))

        while events:
            now, number, name, done = heapq.heappop(events)
            if done >= 0:
                tenant_name, began, tenant = calls.pop(done)
                latencies[tenant_name].append(now - began)
                tenancy.leave(tenant)
                waiter = limiter.release(now)
                if waiter is not None:
                    serve(waiter, now)
                continue
            found = find(tenancy, name.encode())
            if found.limit is not None:
                charge = [Charge(found.limit, found.name)]
                if refusal(rates.check(charge, int(now * 1e9))) is not None:
                    continue
            entered = tenancy.enter(found, limiter.limit)
            if isinstance(entered, Reject):
                continue
            calls[number] = (name.encode(), now, entered)
            answer = limiter.admit_as(1, now)
            if answer is QUEUED:
                flow: Flow = entered.flow if fair else NOBODY
                answer = limiter.enqueue(number, now, now + 60, flow=flow)
            elif answer is None:
                serve(number, now)
            if isinstance(answer, Reject):
                tenancy.leave(calls.pop(number)[2])
        return latencies


def arrivals(load: float, seconds: float, seed: int) -> Iterator[float]:
    """Instants of calls that come independently of each other."""
    rng = Random(seed)
    now = rng.expovariate(load)
    while now < seconds:
        yield now
        now += rng.expovariate(load)


def p99(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.99)]


QUIET, NOISY = b"quiet", b"noisier"
RATES = (Known(name="quiet", rate=60, burst=60), Known(name="noisier", rate=60, burst=5))
"""An app of ten places and 50 ms does 200 calls a second; each tenant may ask for 60."""
PLACES = (Known(name="quiet", max_concurrency=4), Known(name="noisier", max_concurrency=4))
"""Together no more than ten places at a threshold of 0.85; more would be no promise, and admission refuses it."""


@pytest.mark.parametrize("tenants", [RATES, PLACES], ids=["rate", "concurrency"])
@pytest.mark.parametrize("threshold", [1.0, 0.85])
def test_ten_times_its_quota_moves_another_tenants_p99_by_a_tenth_at_most(
    tenants: tuple[Known, ...], threshold: float
) -> None:
    simulation = Simulation(threshold=threshold)
    usual = simulation.run({QUIET: 50, NOISY: 60}, tenants)
    flooded = simulation.run({QUIET: 50, NOISY: 600}, tenants)
    assert len(flooded[QUIET]) > 0.99 * len(usual[QUIET])
    assert p99(flooded[QUIET]) <= 1.1 * p99(usual[QUIET])


def test_without_quotas_it_would_move_it_far_more() -> None:
    simulation = Simulation()
    free = (Known(name="quiet"), Known(name="noisier"))
    usual = simulation.run({QUIET: 50, NOISY: 60}, free)
    flooded = simulation.run({QUIET: 50, NOISY: 600}, free, fair=False)
    assert p99(flooded[QUIET]) > 5 * p99(usual[QUIET])


def test_turns_alone_bound_it_to_one_service_time() -> None:
    """Nobody has a quota; who waits takes turns, so the quiet one waits for a place that comes free and no longer."""
    simulation = Simulation()
    free = (Known(name="quiet"), Known(name="noisier"))
    flooded = simulation.run({QUIET: 50, NOISY: 600}, free)
    assert p99(flooded[QUIET]) <= 2 * simulation.service * 1.2
    assert p99(flooded[NOISY]) > 5 * p99(flooded[QUIET])


def test_weights_divide_a_full_app() -> None:
    simulation = Simulation()
    both = (Known(name="quiet", weight=3), Known(name="noisier", weight=1))
    found = simulation.run({QUIET: 400, NOISY: 400}, both)
    assert len(found[QUIET]) / len(found[NOISY]) == pytest.approx(3, rel=0.15)
