"""Certificates made in a test: an authority, and what it issues, good or wrong in one point."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Pair(NamedTuple):
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Issues certificates that its own certificate proves."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key, days=30)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def certificate(self) -> bytes:
        """What those who trust it need, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, days: float = 1) -> Pair:
        """A certificate for these names; `days` below 0 for one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(names[0]), self._name, key, days=days)
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        certificate = builder.add_extension(alternatives, critical=False).sign(self._key, hashes.SHA256())
        return Pair(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )


class MountedSecret:
    """A folder as the kubelet keeps it for a Secret: every name leads through ``..data``, which is turned at once."""

    def __init__(self, directory: Path, **files: bytes) -> None:
        self.directory = directory
        directory.mkdir()
        self._generation = 0
        self.write(files)

    def write(self, files: dict[str, bytes]) -> None:
        """Replace all files in one moment; names come with an underscore for the dot."""
        self._generation += 1
        folder = self.directory / f"..{self._generation}"
        folder.mkdir()
        wanted = {name.replace("_", "."): content for name, content in files.items()}
        for name, content in wanted.items():
            (folder / name).write_bytes(content)
        os.symlink(folder.name, self.directory / "..data_tmp")
        os.rename(self.directory / "..data_tmp", self.directory / "..data")
        for name in wanted:
            if not (self.directory / name).is_symlink():
                os.symlink(f"..data/{name}", self.directory / name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
    )
