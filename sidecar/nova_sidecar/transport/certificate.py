"""Until when a certificate is valid: the one thing of it that operators must see before it happens.

Python's ssl tells it of certificate authorities only, so it is read from the encoding itself (X.690 DER, RFC 5280
section 4.1): Certificate > TBSCertificate > [version], serialNumber, signature, issuer, *validity* > notAfter.
"""

import ssl
from datetime import UTC, datetime
from typing import Final

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_END: Final = "-----END CERTIFICATE-----"


def first_expiry(pem: str) -> float:
    """The earliest notAfter of the certificates in a PEM text, seconds since the epoch. Raises ValueError."""
    blocks = [block[block.index("-----BEGIN CERTIFICATE-----") :] + _END for block in pem.split(_END)[:-1]]
    if not blocks:
        raise ValueError("expected at least one certificate in PEM")
    return min(not_after(ssl.PEM_cert_to_DER_cert(block)) for block in blocks)


def not_after(der: bytes) -> float:
    """End of validity of one certificate in DER, seconds since the epoch. Raises ValueError for anything else."""
    try:
        certificate = _content(der, _SEQUENCE)
        fields = _content(certificate, _SEQUENCE)
        if fields[0] == _VERSION:
            fields = _after(fields)
        for _ in ("serialNumber", "signature", "issuer"):
            fields = _after(fields)
        validity = _after(_content(fields, _SEQUENCE))  # past notBefore
        return _instant(validity[0], _content(validity, validity[0]).decode("ascii"))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("expected a certificate (RFC 5280)") from error


def _instant(tag: int, text: str) -> float:
    """UTCTime has two digits for the year, of which 50 and more mean 19xx (RFC 5280 section 4.1.2.5.1)."""
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _span(der: bytes) -> tuple[int, int]:
    """Where the content of the first element begins and ends."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise IndexError
    return start, start + length


def _content(der: bytes, tag: int) -> bytes:
    if der[0] != tag:
        raise IndexError
    start, end = _span(der)
    return der[start:end]


def _after(der: bytes) -> bytes:
    return der[_span(der)[1] :]
