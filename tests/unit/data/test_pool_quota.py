import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_data.pool.quota import CALM, MEMORY, REMEMBERED, TenantQuota

PLACES = 20


def taken(quota: TenantQuota, name: str, *, now: float = 0.0, places: int = PLACES) -> int:
    """How many one tenant gets that asks for all of them."""
    return sum(quota.enter(name, places=places, now=now) for _ in range(places))


def test_one_tenant_cannot_have_all() -> None:
    quota = TenantQuota(0.5)
    assert taken(quota, "greedy") == 10
    assert quota.refused == 10
    assert quota.enter("other", places=PLACES, now=0.0)
    assert repr(quota) == "<TenantQuota tenants=2 total=11 refused=10>"


def test_a_share_of_one_leaves_the_equal_part_alone() -> None:
    quota = TenantQuota(1.0)
    assert taken(quota, "only") == PLACES
    quota = TenantQuota(1.0)
    assert quota.enter("other", places=PLACES, now=0.0)
    assert taken(quota, "first") == 10  # of 20 for two


def test_everybody_may_have_one() -> None:
    quota = TenantQuota(0.01)
    assert all(quota.enter(f"tenant {number}", places=3, now=0.0) for number in range(50))
    assert not quota.enter("tenant 7", places=3, now=0.0)


@given(
    places=st.integers(4, 30),
    steps=st.lists(st.tuples(st.sampled_from("nnnnnv"), st.booleans()), max_size=300),
)
def test_one_tenant_that_asks_for_everything_is_not_felt_by_another(places: int, steps: list[tuple[str, bool]]) -> None:
    """Whatever the noisy one does, the other one is never refused, and finds a place, up to its half of them."""
    quota, held = TenantQuota(0.5), {"n": 0, "v": 0}
    for name, back in steps:
        if back and held[name]:
            quota.leave(name)
            held[name] -= 1
            continue
        entered = quota.enter(name, places=places, now=0.0)
        if name == "v" and held["v"] + 1 <= places // 2:
            assert entered
            assert quota.total <= places
        held[name] += entered


def test_who_was_turned_away_gets_what_others_give_back() -> None:
    quota = TenantQuota(0.5)
    assert (taken(quota, "a"), taken(quota, "b")) == (10, 10)
    assert quota.enter("c", places=PLACES, now=0.0)
    quota.turned_away("c", 0.0)  # the pool is full
    quota.leave("a")
    assert not quota.enter("a", places=PLACES, now=0.1)  # it has 9 of 20, and three are there
    assert quota.enter("c", places=PLACES, now=0.2)


def test_who_was_turned_away_is_forgotten_after_a_while() -> None:
    quota = TenantQuota(0.5)
    taken(quota, "a")
    taken(quota, "b")
    quota.enter("c", places=PLACES, now=0.0)
    quota.turned_away("c", 0.0)
    quota.leave("a")
    assert quota.enter("a", places=PLACES, now=MEMORY + 0.1)
    assert len(quota) == 2


def test_names_that_callers_invent_are_bounded() -> None:
    quota = TenantQuota()
    for number in range(3 * REMEMBERED):
        quota.enter(str(number), places=1, now=0.0)
        quota.turned_away(str(number), 0.0)
    assert len(quota) <= REMEMBERED + 1


def test_leaving_without_an_admission_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="without an admission"):
        TenantQuota().leave("a")


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan")])
def test_a_share_is_above_0_and_at_most_1(share: float) -> None:
    with pytest.raises(ValueError, match="share: expected"):
        TenantQuota(share)


@given(
    places=st.integers(1, 30),
    share=st.floats(0.05, 1),
    steps=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["enter", "leave", "away"])), max_size=200),
)
def test_no_further_one_beyond_the_bound_or_the_equal_part(
    places: int, share: float, steps: list[tuple[str, str]]
) -> None:
    quota, held = TenantQuota(share), dict.fromkeys("abcd", 0)
    for name, step in steps:
        if step == "enter":
            let_in = quota.enter(name, places=places, now=0.0)
            assert let_in or held[name]
            held[name] += let_in
            if let_in and held[name] > 1:
                assert held[name] <= share * places
                assert sum(held.values()) <= CALM * places or held[name] <= places / sum(map(bool, held.values()))
        elif held[name]:
            held[name] -= 1
            quota.leave(name) if step == "leave" else quota.turned_away(name, 0.0)
        assert quota.total == sum(held.values())


@settings(max_examples=40)
@given(
    places=st.integers(4, 20),
    tenants=st.integers(2, 4),
    order=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60),
)
def test_tenants_that_want_all_end_up_with_an_equal_part_each(
    places: int, tenants: int, order: list[tuple[int, bool]]
) -> None:
    """Whoever asks in whatever order, and gives back in whatever order: once all connections have changed hands,
    nobody who goes on asking has less than its part, rounded down."""
    quota, held, now = TenantQuota(1.0), [0] * tenants, 0.0

    def ask(tenant: int) -> None:
        if quota.enter(str(tenant), places=places, now=now):
            if quota.total > places:
                quota.turned_away(str(tenant), now)
            else:
                held[tenant] += 1

    for each, back in order:
        tenant = each % tenants
        if back and held[tenant]:
            quota.leave(str(tenant))
            held[tenant] -= 1
        ask(tenant)
    for _ in range(places):  # from here on all ask all the time, and everybody gives back one after the other
        for tenant in range(tenants):
            if held[tenant] > places // tenants:
                quota.leave(str(tenant))
                held[tenant] -= 1
            for other in range(tenants):
                ask(other)
    assert min(held) >= places // tenants
