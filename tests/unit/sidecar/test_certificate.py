"""The end of a certificate's validity, held against the cryptography package."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_sidecar.transport.certificate import first_expiry, not_after

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = datetime(1990, 1, 1, tzinfo=UTC)


def issue(ends: datetime, *, name: str = "a", serial: int = 1, key: object = KEY) -> x509.Certificate:
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(who).issuer_name(who).serial_number(serial)
    builder = builder.not_valid_before(BEGIN).not_valid_after(ends)
    return builder.public_key(key.public_key()).sign(key, hashes.SHA256())  # type: ignore[attr-defined]


@settings(max_examples=50, deadline=None)
@given(
    ends=st.datetimes(datetime(1991, 1, 1), datetime(9999, 12, 31)),
    name=st.text("abc", min_size=1, max_size=64),
    serial=st.integers(1, 2**150),
)
def test_every_end_is_read(ends: datetime, name: str, serial: int) -> None:
    """Before 2050 it is a UTCTime, from then on a GeneralizedTime."""
    wanted = ends.replace(microsecond=0, tzinfo=UTC)
    assert not_after(issue(wanted, name=name, serial=serial).public_bytes(Encoding.DER)) == wanted.timestamp()


def test_a_long_certificate() -> None:
    ends = datetime(2031, 5, 6, tzinfo=UTC)
    key = rsa.generate_private_key(65537, 4096)
    assert not_after(issue(ends, key=key).public_bytes(Encoding.DER)) == ends.timestamp()


def test_the_first_of_several_to_end() -> None:
    ends = datetime(2040, 1, 1, tzinfo=UTC)
    chain = [issue(ends + timedelta(days=days)) for days in (9, 2, 5)]
    pem = "# a comment\n" + "".join(one.public_bytes(Encoding.PEM).decode() for one in chain)
    assert first_expiry(pem) == (ends + timedelta(days=2)).timestamp()


@pytest.mark.parametrize(
    "pem",
    ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----"],
)
def test_what_is_no_certificate(pem: str) -> None:
    with pytest.raises(ValueError, match=r"certificate|substring"):
        first_expiry(pem)


@given(st.binary(max_size=200))
def test_garbage_is_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        not_after(data)


@given(cut=st.integers(0, 200), flip=st.integers(0, 199))
def test_a_broken_certificate_is_read_or_refused(cut: int, flip: int) -> None:
    der = bytearray(issue(datetime(2031, 5, 6, tzinfo=UTC)).public_bytes(Encoding.DER))
    der[flip] ^= 0x55
    for broken in (bytes(der), bytes(der[:cut])):
        try:
            not_after(broken)
        except ValueError:
            continue
