"""The certificates of a cluster, made anew for each start, so that none ever expires or outlives its cluster.

P-256 keys throughout: a whole cluster's worth takes a tenth of a second, where RSA keys take several.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nova_cli.cluster.process import run

VALID_DAYS = 365
_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]


class Authority:
    """A certificate authority in a folder. Files are NAME.crt and NAME.key; its own are ca.crt and ca.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> Authority:
        """Make a new one. openssl 3 must be installed (CommandError otherwise)."""
        authority = cls(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority._request("ca", "/CN=nova-cluster-ca", [])
        return authority

    @property
    def certificate(self) -> Path:
        """What clients and servers check others against."""
        return self.folder / "ca.crt"

    def issue(self, name: str, common_name: str, *, group: str = "", names: Sequence[str] = ("DNS:localhost",)) -> None:
        """Issue a certificate for both ends of a connection.

        Kubernetes reads the user from `common_name` and the group from `group` (X.509 client certificates in
        https://kubernetes.io/docs/reference/access-authn-authz/authentication/). `names` are openssl subjectAltNames.
        """
        subject = (f"/O={group}" if group else "") + f"/CN={common_name}"
        usage = ["subjectAltName=" + ",".join(names), "extendedKeyUsage=serverAuth,clientAuth"]
        extensions = [word for line in usage for word in ("-addext", line)]
        authority = ["-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key")]
        self._request(name, subject, [*authority, *extensions])

    def key_pair(self, name: str) -> None:
        """A bare key and its public half, NAME.key and NAME.pub: what service account tokens are signed with."""
        key = self.folder / f"{name}.key"
        run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key])
        run(["openssl", "pkey", "-in", key, "-pubout", "-out", self.folder / f"{name}.pub"])

    def _request(self, name: str, subject: str, extra: Sequence[str]) -> None:
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        output = ["-days", str(VALID_DAYS), "-subj", subject, "-keyout", str(key), "-out", str(certificate)]
        run(["openssl", "req", "-x509", *_NEW_KEY, *output, *extra])
        key.chmod(0o600)
