"""Kubeconfig files, with everything embedded: one file that can be copied anywhere on the machine."""

from __future__ import annotations

import base64
import json
from pathlib import Path


def render(server: str, pki: Path, user: str) -> str:
    """The kubeconfig for `user`, whose certificate is in the folder `pki`. JSON, which every YAML reader takes."""
    cluster = {"server": server, "certificate-authority-data": _embed(pki / "ca.crt")}
    credentials = {
        "client-certificate-data": _embed(pki / f"{user}.crt"),
        "client-key-data": _embed(pki / f"{user}.key"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "nova", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "nova", "context": {"cluster": "nova", "user": user}}],
        "current-context": "nova",
    }
    return json.dumps(document, indent=2) + "\n"


def _embed(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
