"""Whose request it is: cookies that are good, old, foreign, forged or many, and pods that come and go."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_sidecar.policy.affinity import MOST, YOUNG, Affinity, CookieForm, Decision, Reach, Result

KEY, OTHER = b"k" * 32, b"o" * 32
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
FORM = CookieForm("nova-session", 3600.0)
NOW = 1_800_000_000.0


def pod(address: str, *others: str, secrets: tuple[bytes, ...] = (KEY,), purpose: str = "market/shop") -> Affinity:
    """The sidecar of the pod at this address, which knows the others."""
    affinity = Affinity(FORM, purpose)
    affinity.rekey(secrets)
    affinity.here(address)
    affinity.replace((address, *others))
    return affinity


def cookie(affinity: Affinity, at: float = NOW, session: bytes = b"") -> bytes:
    """The Cookie field of a client to whom this pod has given one."""
    line = affinity.issue(session, at)
    return line.removeprefix(b"set-cookie: ").partition(b";")[0]


def decide(affinity: Affinity, header: bytes | None, *, received: bool = False, at: float = NOW) -> Decision:
    return affinity.decide(header, received, at)


# --- the common case


def test_a_client_without_a_cookie_gets_one_that_names_this_pod() -> None:
    here = pod(A, B)
    assert decide(here, None) == (Result.NEW, "", True, None)
    assert decide(here, b"theme=dark; lang=en") == (Result.NEW, "", True, None)
    assert decide(here, cookie(here)) == (Result.LOCAL, "", False, None)


def test_a_client_of_another_pod_is_handed_over_by_every_pod() -> None:
    a, b, c = pod(A, B, C), pod(B, A, C), pod(C, A, B)
    for sender in (b, c):
        decision = decide(sender, cookie(a))
        assert (decision.result, decision.address, decision.issue) == (Result.HANDED_OVER, A, False)


def test_the_cookie_has_no_address_in_it_and_says_how_it_is_kept() -> None:
    form = CookieForm("nova-session", 3600.0, "Path=/app; HttpOnly; SameSite=None; Secure")
    affinity = Affinity(form, "market/shop")
    affinity.rekey((KEY,))
    affinity.here(A)
    name, _, rest = affinity.issue(b"", NOW).decode().partition("=")
    value, _, attributes = rest.partition("; ")
    assert name == "set-cookie: nova-session"
    assert A not in value
    assert attributes == "Max-Age=3600; Path=/app; HttpOnly; SameSite=None; Secure\r\n"


def test_it_is_found_between_others_and_not_in_them() -> None:
    a, b = pod(A, B), pod(B, A)
    ours = cookie(a)
    value = ours.partition(b"=")[2]
    for header in (b"a=b; " + ours, ours + b"; a=b", b"a=b;" + ours + b";c=d", b"a=b, " + ours):
        assert decide(b, header).result is Result.HANDED_OVER, header
    for header in (b"xnova-session=" + value, b"nova-session2=" + value, b"a=nova-session=" + value):
        assert decide(b, header).result is Result.NEW, header


# --- time


def test_it_is_renewed_when_half_of_its_time_is_over_by_the_pod_that_it_names() -> None:
    a, b = pod(A, B), pod(B, A)
    header = cookie(a)
    assert not decide(a, header, at=NOW + 1799).issue
    assert decide(a, header, at=NOW + 1801)[:3] == (Result.LOCAL, "", True)
    assert decide(a, header, received=True, at=NOW + 1801)[:3] == (Result.RECEIVED, "", True)
    assert decide(b, header, at=NOW + 1801)[:3] == (Result.HANDED_OVER, A, False)


def test_what_is_over_is_not_replayed() -> None:
    a, b = pod(A, B), pod(B, A)
    header = cookie(a)
    assert decide(b, header).result is Result.HANDED_OVER  # it is remembered, and judged again all the same
    for here in (a, b):
        assert decide(here, header, at=NOW + 3601) == (Result.EXPIRED, "", True, None)


# --- pods that come and go


def test_the_clients_of_a_pod_that_is_gone_are_taken_over() -> None:
    a, b = pod(A, B), pod(B, A)
    header = cookie(a)
    assert decide(b, header).address == A
    b.replace((B, C))
    decision = decide(b, header)
    assert (decision.result, decision.issue) == (Result.REISSUED, True)


def test_a_pod_too_new_for_the_name_server_keeps_its_clients() -> None:
    new, b = pod(C, A, B), pod(B, A)
    header = cookie(new)
    assert decide(b, header) == (Result.UNSURE, "", False, None)
    assert decide(b, header, at=NOW + YOUNG + 1).result is Result.REISSUED
    b.replace((A, B, C))
    assert decide(b, header).address == C


def test_a_cookie_from_a_clock_that_was_ahead_does_not_stay_young_until_then() -> None:
    b, header = pod(B, C), cookie(pod(A, B, C), NOW + 3000)
    assert decide(b, header, at=NOW + 3000 - YOUNG / 2).result is Result.UNSURE
    assert decide(b, header).result is Result.REISSUED


def test_while_no_sibling_is_known_nobody_loses_a_session() -> None:
    a = pod(A, B)
    b = Affinity(FORM, "market/shop")
    b.rekey((KEY,))
    b.here(B)
    assert decide(b, cookie(a, NOW - 1000)).result is Result.UNSURE
    assert decide(b, cookie(b)).result is Result.LOCAL
    assert decide(b, None).issue


def test_a_reload_keeps_what_is_known_of_the_pods() -> None:
    a, before = pod(A, B), pod(B, A)
    after = Affinity(FORM, "market/shop", before)
    after.rekey((KEY,))
    assert decide(after, cookie(a)).address == A
    assert decide(after, cookie(before)).result is Result.LOCAL
    assert (after.siblings, after.own) == (1, before.own)


def test_of_several_addresses_the_one_that_siblings_know_is_the_name() -> None:
    a = Affinity(FORM, "market/shop")
    a.rekey((KEY,))
    assert a.own is None
    assert a.issue(b"", NOW) == b""
    a.here("fd00::1")
    a.here(A)
    a.replace((A, B))
    assert decide(pod(B, A), cookie(a)).address == A
    assert decide(a, cookie(pod("fd00::1", A))).result is Result.LOCAL
    for number in range(100):
        a.here(f"10.1.0.{number}")
    assert decide(a, cookie(pod("10.1.0.99", A))).result is not Result.LOCAL  # bounded


# --- one hop


def test_nothing_is_handed_over_twice_wherever_its_cookie_points() -> None:
    a, b = pod(A, B), pod(B, A)
    for header in (None, cookie(a), cookie(pod(C, A)), b"nova-session=forged", cookie(a, NOW - 9999)):
        decision = decide(b, header, received=True)
        assert (decision.result, decision.address, decision.issue) == (Result.RECEIVED, "", False)


# --- hostile


@pytest.mark.parametrize(
    "value",
    [b"", b"v1", b"v1...", b"v1.a.b.c.d", b"." * 100, b"v1." + b"A" * 5000, b"\xff\xfe", b'"v1.a..1.x"', b"null"],
)
def test_what_nobody_signed_is_a_new_client(value: bytes) -> None:
    decision = decide(pod(A, B), b"nova-session=" + value)
    assert decision == (Result.INVALID, "", True, None)


@given(st.binary(max_size=512))
def test_any_bytes_are_decided_upon(header: bytes) -> None:
    for text in (header, b"nova-session=" + header):
        assert decide(pod(A, B), text).result in (Result.NEW, Result.INVALID)


@given(st.integers(0, 90))
def test_a_cookie_that_was_cut_is_no_cookie(length: int) -> None:
    a, b = pod(A, B), pod(B, A)
    whole = cookie(a)
    cut = whole[: len(b"nova-session=") + length]
    if cut != whole:
        assert decide(b, cut).result is Result.INVALID


def test_another_services_cookie_means_nothing_even_with_the_same_secret() -> None:
    for purpose in ("market/cart", "dev/shop"):
        assert decide(pod(A, B), cookie(pod(B, purpose=purpose))).result is Result.INVALID


def test_the_name_of_a_pod_is_another_one_in_another_service() -> None:
    assert pod(A).own != pod(A, purpose="market/cart").own


def test_among_several_the_first_valid_one_counts_and_a_crowd_is_not_looked_at() -> None:
    a, b = pod(A, B), pod(B, A)
    forged = b"nova-session=forged; "
    assert decide(b, forged + cookie(a)).address == A
    assert decide(b, cookie(a) + b"; " + cookie(b)).address == A
    assert decide(b, forged * MOST + cookie(a)).result is Result.INVALID


def test_a_client_that_invents_fields_costs_a_bounded_memory() -> None:
    a, b = pod(A, B), pod(B, A)
    ours = cookie(a)
    for number in range(3000):
        assert decide(b, b"n=%d; %b" % (number, ours)).address == A
    assert len(b._read_before) <= 1024
    assert decide(b, b"pad=" + b"x" * 4000 + b"; " + ours).address == A
    assert all(len(header) <= 1024 for header in b._read_before)


# --- keys


def test_a_key_is_changed_in_three_steps_and_no_session_is_lost() -> None:
    steps = [(KEY,), (KEY, OTHER), (OTHER, KEY), (OTHER,)]
    for before, after in pairwise(steps):
        for sender, receiver in ((before, after), (after, before)):  # whoever of the two has the files first
            a, b = pod(A, B, secrets=sender), pod(B, A, secrets=receiver)
            assert decide(b, cookie(a)).address == A, (sender, receiver)
            assert decide(pod(A, B, secrets=receiver), cookie(a)).result is Result.LOCAL
    assert decide(pod(B, A, secrets=(OTHER,)), cookie(pod(A, B))).result is Result.INVALID


def test_what_was_read_with_a_former_key_is_forgotten() -> None:
    a, b = pod(A, B), pod(B, A)
    header = cookie(a)
    assert decide(b, header).address == A
    b.rekey((OTHER,))
    assert decide(b, header).result is Result.INVALID


def test_without_a_key_there_are_no_cookies() -> None:
    bare = Affinity(FORM, "market/shop")
    bare.here(A)
    assert bare.issue(b"", NOW) == b""
    assert decide(bare, cookie(pod(B, A))).result is Result.UNSURE


# --- sessions in a store


def test_where_a_store_knows_better_than_the_cookie_the_cookie_is_renewed() -> None:
    a, b = pod(A, B), pod(B, A)
    decision = decide(b, cookie(a, session=b"s"))
    named = decision.cookie
    assert named is not None
    assert named.session == b"s"
    own, others = b.own, a.own
    assert own is not None
    assert others is not None
    assert b.route(named, own, False, NOW)[:3] == (Result.LOCAL, "", True)
    assert b.route(named, others, False, NOW).address == A
    assert (b.lives(own), b.lives(others), b.lives(b"nobody")) == (True, True, False)


# --- reaching a sibling


def test_a_sibling_that_fails_is_left_alone_and_then_tried_by_one() -> None:
    reach = Reach()
    assert reach.may_try(0.0)
    reach.failed(0.0)
    assert [reach.may_try(at) for at in (0.0, 0.9, 1.0, 1.1)] == [False, False, True, False]
    reach.failed(2.0)
    assert [reach.may_try(at) for at in (3.0, 3.9, 4.0)] == [False, False, True]
    for _ in range(20):
        reach.failed(10.0)
    assert [reach.may_try(at) for at in (39.0, 40.0)] == [False, True]
    reach.reached()
    assert [reach.may_try(at) for at in (40.0, 40.0)] == [True, True]
