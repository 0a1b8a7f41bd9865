"""The certificate through its life, with the clock handed in: at every step any old part fits any new one."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from nova_operator.admission.certificates import SKEW, Pair, Stored, bundle, expiry, make, read, step, write

NAMES = ("nova-webhooks.nova-system.svc", "127.0.0.1")
LIFE = timedelta(days=90)
BORN = datetime(2030, 1, 1, tzinfo=UTC)


def fresh(now: datetime = BORN) -> Stored:
    return step(Stored(), NAMES, now, LIFE, settled=False)


def proves(authorities: bytes, pair: Pair) -> bool:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    for authority in x509.load_pem_x509_certificates(authorities):
        try:
            certificate.verify_directly_issued_by(authority)
        except ValueError:
            continue
        except Exception:  # an authority with another key: InvalidSignature
            continue
        return True
    return False


def test_nothing_stored_gives_a_certificate_that_its_authority_proves() -> None:
    stored = fresh()
    assert stored.current is not None
    assert proves(bundle(stored), stored.current)
    certificate = x509.load_pem_x509_certificate(stored.current.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAMES[0]]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [NAMES[1]]


def test_a_client_that_takes_nothing_but_what_rfc_5280_allows_takes_it() -> None:
    current = fresh().current
    assert current is not None
    certificate, authority = map(x509.load_pem_x509_certificate, (current.certificate, current.authority))
    trusting = PolicyBuilder().store(Store([authority])).time(BORN)
    assert trusting.build_server_verifier(x509.DNSName(NAMES[0])).verify(certificate, []) == [certificate, authority]


def test_it_is_valid_for_a_clock_that_is_a_day_behind() -> None:
    current = fresh().current
    assert current is not None
    for pem in (current.certificate, current.authority):
        assert x509.load_pem_x509_certificate(pem).not_valid_before_utc <= BORN - timedelta(hours=23)


def test_nothing_happens_while_two_thirds_of_its_life_are_ahead() -> None:
    stored = fresh()
    assert step(stored, NAMES, BORN + timedelta(days=59), LIFE, settled=True) == stored


def test_a_renewal_goes_through_states_in_which_everything_fits() -> None:
    first = fresh()
    late = BORN + timedelta(days=61)
    staged = step(first, NAMES, late, LIFE, settled=True)
    assert staged.current == first.current
    assert staged.coming is not None
    assert staged.current is not None
    assert step(staged, NAMES, late, LIFE, settled=False) == staged  # API servers may not have heard of it yet

    promoted = step(staged, NAMES, late, LIFE, settled=True)
    assert promoted.current == staged.coming
    for authorities in (bundle(staged), bundle(promoted)):
        assert proves(authorities, staged.current)
        assert proves(authorities, staged.coming)
    assert not proves(bundle(first), staged.coming)

    over = BORN + LIFE + SKEW + timedelta(seconds=1)
    ended = step(promoted, NAMES, over, LIFE, settled=True)
    assert ended.previous == b""
    assert not proves(bundle(ended), staged.current)


def test_one_that_has_expired_is_replaced_at_once_by_the_coming_one_if_there_is_one() -> None:
    first = fresh()
    over = BORN + LIFE
    replaced = step(first, NAMES, over, LIFE, settled=False)
    assert replaced.current is not None
    assert expiry(replaced.current.certificate) == over + LIFE

    staged = Stored(first.current, make(NAMES, BORN + timedelta(days=80), LIFE))
    assert step(staged, NAMES, over, LIFE, settled=False).current == staged.coming


@pytest.mark.parametrize(
    "broken",
    [
        Stored(make(("elsewhere.svc",), BORN, LIFE)),  # the chart was renamed
        Stored(make(NAMES, BORN + timedelta(days=3), LIFE)),  # made by a leader whose clock was ahead
        Stored(
            Pair(make(NAMES, BORN, LIFE).certificate, make(NAMES, BORN, LIFE).key, make(NAMES, BORN, LIFE).authority)
        ),
        Stored(Pair(make(NAMES, BORN, LIFE).certificate, b"no key", make(NAMES, BORN, LIFE).authority)),
        Stored(msgspec.structs.replace(make(NAMES, BORN, LIFE), authority=make(NAMES, BORN, LIFE).authority)),
        Stored(msgspec.structs.replace(make(NAMES, BORN, LIFE), authority=b"")),
    ],
    ids=["other names", "not yet valid", "another key", "no key", "another authority", "no authority"],
)
def test_one_that_no_call_could_use_is_replaced_at_once(broken: Stored) -> None:
    mended = step(broken, NAMES, BORN, LIFE, settled=False)
    assert mended.current is not None
    assert mended.current != broken.current
    assert step(mended, NAMES, BORN, LIFE, settled=False) == mended


def test_a_coming_one_that_could_not_be_used_is_dropped() -> None:
    first = fresh()
    staged = Stored(first.current, make(("elsewhere.svc",), BORN, LIFE))
    assert step(staged, NAMES, BORN + timedelta(days=1), LIFE, settled=True) == first


def test_the_secret_gives_back_what_was_written_and_takes_rubbish_for_nothing() -> None:
    stored = Stored(make(NAMES, BORN, LIFE), make(NAMES, BORN, LIFE), make(NAMES, BORN, LIFE).authority)
    secret = write({"metadata": {"resourceVersion": "7"}, "data": {"tls.crt": "old"}}, stored)
    assert read(secret) == stored
    assert secret["metadata"] == {"resourceVersion": "7"}
    assert (
        read({})
        == read({"data": None})
        == read({"data": {"tls.crt": "§", "tls.key": "eA==", "ca.crt": "eA=="}})
        == Stored()
    )


def test_one_of_somebody_elses_may_keep_its_authority_to_itself() -> None:
    given = make(NAMES, BORN, LIFE)
    secret = write({}, Stored(given))
    del secret["data"]["ca.crt"]
    assert read(secret) == Stored(msgspec.structs.replace(given, authority=b""))


def test_each_renewal_has_an_authority_of_its_own_whose_key_is_nowhere() -> None:
    one, other = make(NAMES, BORN, LIFE), make(NAMES, BORN, LIFE)
    assert one.authority != other.authority
    assert one.key.count(b"PRIVATE KEY") == 2
    assert b"PRIVATE KEY" not in one.authority + one.certificate
