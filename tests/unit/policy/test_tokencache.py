"""What is remembered of tokens, for how long, and what makes it forgotten."""

from nova_sidecar.policy.jws import Fault
from nova_sidecar.policy.jwt import Verdict
from nova_sidecar.policy.tokencache import LASTING, REFUSED_FOR, TokenCache
from tests.unit.policy.tokens import ISSUER, NOW


def cache(entries: int = 3, refused: int = 2, lifetime: float = 300) -> TokenCache:
    return TokenCache(entries=entries, refused_entries=refused, lifetime=lifetime)


def valid(until: float = NOW + 600, thumbprint: bytes = b"t1", issuer: str = ISSUER) -> Verdict:
    return Verdict(b"anna", {}, b"", until, "", issuer, thumbprint)


def test_a_token_is_remembered_for_its_lifetime() -> None:
    tokens, one = cache(), valid()
    tokens.keep(b"a", one, NOW)
    assert tokens.find(b"a", NOW + 299) is one
    assert tokens.find(b"b", NOW) is None
    assert tokens.find(b"a", NOW + 300) is None
    assert tokens.sizes == (0, 0)


def test_never_beyond_its_end() -> None:
    tokens = cache()
    tokens.keep(b"a", valid(until=NOW + 5), NOW)
    assert tokens.find(b"a", NOW + 4.9) is not None
    assert tokens.find(b"a", NOW + 5) is None


def test_one_that_lives_on_leeway_is_not_remembered() -> None:
    tokens = cache()
    tokens.keep(b"a", valid(until=NOW - 1), NOW)
    assert tokens.sizes == (0, 0)


def test_the_least_recently_used_leaves() -> None:
    tokens = cache(entries=2)
    for name in (b"a", b"b"):
        tokens.keep(name, valid(), NOW)
    tokens.find(b"a", NOW)
    tokens.keep(b"c", valid(), NOW)
    assert [tokens.find(name, NOW) is not None for name in (b"a", b"b", b"c")] == [True, False, True]


def test_refused_ones_push_out_none_of_the_others() -> None:
    tokens = cache(entries=2, refused=2)
    tokens.keep(b"a", valid(), NOW)
    for number in range(100):
        tokens.refuse(b"%d" % number, Fault.SIGNATURE, NOW)
    assert tokens.sizes == (1, 2)
    assert tokens.find(b"99", NOW + REFUSED_FOR - 1) is Fault.SIGNATURE
    assert tokens.find(b"99", NOW + REFUSED_FOR) is None


def test_what_may_change_is_not_remembered() -> None:
    tokens = cache()
    for fault in set(Fault) - LASTING:
        tokens.refuse(b"a", fault, NOW)
    assert tokens.sizes == (0, 0)
    assert {Fault.NOT_YET_VALID, Fault.KEY, Fault.KEYS_UNAVAILABLE, Fault.BUSY}.isdisjoint(LASTING)


def test_nothing_is_remembered_where_there_is_no_room() -> None:
    tokens = cache(entries=0, refused=0)
    tokens.keep(b"a", valid(), NOW)
    tokens.refuse(b"b", Fault.SIGNATURE, NOW)
    assert tokens.sizes == (0, 0)


def test_a_key_that_is_withdrawn_takes_its_tokens_with_it() -> None:
    tokens = cache(entries=9)
    tokens.keep(b"a", valid(thumbprint=b"t1"), NOW)
    tokens.keep(b"b", valid(thumbprint=b"t2"), NOW)
    tokens.keep(b"c", valid(thumbprint=b"t1", issuer="other"), NOW)
    tokens.refuse(b"d", Fault.SIGNATURE, NOW)
    tokens.withdraw(ISSUER, frozenset((b"t2",)))
    assert [tokens.find(name, NOW) is not None for name in (b"a", b"b", b"c", b"d")] == [False, True, True, False]


def test_all_of_it_is_forgotten() -> None:
    tokens = cache()
    tokens.keep(b"a", valid(), NOW)
    tokens.refuse(b"b", Fault.SIGNATURE, NOW)
    tokens.clear()
    assert tokens.sizes == (0, 0)
