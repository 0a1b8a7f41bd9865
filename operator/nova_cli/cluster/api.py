"""Talks to the API server as administrator, with nothing but the standard library.

Starting a cluster asks a dozen questions in a few seconds; a kubectl process for each would take longer than the start.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nova_cli.errors import CommandError

Document = dict[str, Any]
FIELD_MANAGER = "nova-cluster"


class ApiServer:
    """One API server, on a port of this machine's loopback."""

    def __init__(self, port: int, pki: Path) -> None:
        """`pki` holds the cluster's certificates, see `pki.Authority`."""
        self._url = f"https://127.0.0.1:{port}"
        self._pki = pki
        self._context: ssl.SSLContext | None = None

    def status(self, path: str) -> int:
        """The HTTP status of GET `path`, 0 when nobody answers."""
        return self._call("GET", path)[0]

    def get(self, path: str) -> Document | None:
        """The JSON document at `path`; None unless the answer is 200."""
        status, body = self._call("GET", path)
        return json.loads(body) if status == 200 else None

    def delete(self, path: str) -> None:
        """DELETE `path`; what is not there is fine."""
        self._call("DELETE", path)

    def apply(self, path: str, document: Mapping[str, Any]) -> None:
        """Server-side apply of one object (https://kubernetes.io/docs/reference/using-api/server-side-apply/)."""
        body = json.dumps(document).encode()
        status, answer = self._call("PATCH", f"{path}?fieldManager={FIELD_MANAGER}&force=true", body)
        if status not in (200, 201):
            raise CommandError(f"the API server refused {path}: {status} {answer.decode(errors='replace')[:300]}")

    def _call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(f"{self._url}{path}", body, method=method)  # noqa: S310 - https, our own server
        if body is not None:
            request.add_header("Content-Type", "application/apply-patch+yaml")
        try:
            with urllib.request.urlopen(request, timeout=5.0, context=self._tls()) as answer:  # noqa: S310 - as above
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (OSError, http.client.HTTPException):
            return 0, b""

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(self._pki / "ca.crt"))
            self._context.load_cert_chain(self._pki / "admin.crt", self._pki / "admin.key")
        return self._context
