"""The webhooks' certificate and the authority that proves it: what to do next with what is stored. Pure.

An API server calls a webhook only if the certificate is proven by the `caBundle` of the webhook's configuration. Both
change at different moments in different places, so a rotation goes through states in which any old and any new part
fit together:

    current                       bundle = its authority
    current, coming               bundle = both authorities, until every configuration has had it for a while
    current (was coming), previous authority
                                  bundle = both, until the previous authority has expired: a replica that could not
                                  read the Secret for days still serves the old certificate

Each certificate has an authority of its own whose key is thrown away at once, so nobody can steal it. Validity begins
a day in the past, for API servers whose clock is behind; the wait between the states is counted by one process, so no
two clocks are compared. https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#ca
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SKEW: Final = timedelta(days=1)
"""How far a clock may be behind."""

RENEW_SHARE: Final = 1 / 3
"""Share of the lifetime that is left when a certificate is renewed."""

_NAME: Final = "nova-operator webhooks"


class Pair(msgspec.Struct, frozen=True):
    """A certificate, its key and the authority that proves it, PEM."""

    certificate: bytes
    key: bytes
    authority: bytes
    """Empty where somebody else made the certificate and keeps it to themselves."""


class Stored(msgspec.Struct, frozen=True):
    """What the Secret holds."""

    current: Pair | None = None
    coming: Pair | None = None
    previous: bytes = b""
    """Authority of the certificate before."""


def read(secret: dict[str, Any]) -> Stored:
    """From a Secret. What is missing or no certificate counts as not there."""
    data = {name: _decode(text) for name, text in (secret.get("data") or {}).items()}
    previous = data.get("previous-ca.crt", b"")
    return Stored(_pair(data, ""), _pair(data, "next-"), previous if _load(previous) is not None else b"")


def write(secret: dict[str, Any], stored: Stored) -> dict[str, Any]:
    """The Secret with this in it; other keys go."""
    parts: dict[str, bytes] = {"previous-ca.crt": stored.previous}
    for prefix, pair in (("", stored.current), ("next-", stored.coming)):
        if pair is not None:
            parts |= {f"{prefix}tls.crt": pair.certificate, f"{prefix}tls.key": pair.key}
            parts |= {f"{prefix}ca.crt": pair.authority}
    return {**secret, "data": {name: base64.b64encode(part).decode() for name, part in parts.items() if part}}


def bundle(stored: Stored) -> bytes:
    """The authorities that an API server must trust, PEM: each once."""
    pairs = [pair.authority for pair in (stored.current, stored.coming) if pair is not None]
    return b"".join(dict.fromkeys([*pairs, stored.previous]))


def step(stored: Stored, names: Sequence[str], now: datetime, lifetime: timedelta, *, settled: bool) -> Stored:
    """What should be stored now; equal to `stored` if nothing is to be done.

    `names` are the DNS names and addresses the webhooks are called by; `settled`: every configuration has had the
    present bundle for long enough.
    """
    if stored.previous and expiry(stored.previous) < now - SKEW:
        stored = msgspec.structs.replace(stored, previous=b"")
    if stored.current is None or not _usable(stored.current, names, now):
        if stored.coming is not None and _usable(stored.coming, names, now):
            return Stored(stored.coming, None, stored.previous)
        return Stored(make(names, now, lifetime), None, stored.previous)
    if stored.coming is not None and not _usable(stored.coming, names, now):
        return msgspec.structs.replace(stored, coming=None)
    if stored.coming is not None and settled:
        return Stored(stored.coming, None, stored.current.authority)
    if stored.coming is None and _is_due(stored.current, now):
        return msgspec.structs.replace(stored, coming=make(names, now, lifetime))
    return stored


def expiry(certificate: bytes) -> datetime:
    """When a certificate ends; the first one of a chain counts."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def make(names: Sequence[str], now: datetime, lifetime: timedelta) -> Pair:
    """A new authority and a certificate for these names, with the key identifiers that strict clients look for.

    RFC 5280, sections 4.2.1.1 and 4.2.1.2.
    """
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, until = _subject(f"{_NAME} authority {x509.random_serial_number():x}"), now + lifetime
    authority = (
        _builder(issuer, issuer, authority_key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder(_subject(_NAME), issuer, key.public_key(), now, until)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(pem), private, authority.public_bytes(pem))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - SKEW).not_valid_after(until)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usable(pair: Pair, names: Sequence[str], now: datetime) -> bool:
    """Whether calls with it succeed now: in time, for all names, and with the key that belongs to it."""
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    in_time = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
    named = set(map(_general, names)) <= set(_names(certificate))
    return in_time and named and _fits(certificate, pair.key) and _proves(pair.authority, certificate)


def _names(certificate: x509.Certificate) -> Sequence[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _fits(certificate: x509.Certificate, key: bytes) -> bool:
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        return False
    return private.public_key() == certificate.public_key()


def _proves(authority: bytes, certificate: x509.Certificate) -> bool:
    issuer = _load(authority)
    try:
        if issuer is not None:
            certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return issuer is not None


def _is_due(pair: Pair, now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    lifetime = certificate.not_valid_after_utc - (certificate.not_valid_before_utc + SKEW)
    return certificate.not_valid_after_utc - now <= lifetime * RENEW_SHARE


def _pair(data: dict[str, bytes], prefix: str) -> Pair | None:
    certificate, key, authority = (data.get(f"{prefix}{part}", b"") for part in ("tls.crt", "tls.key", "ca.crt"))
    if not key or _load(certificate) is None:
        return None
    return Pair(certificate, key, authority if _load(authority) is not None else b"")


def _load(certificate: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return None


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
