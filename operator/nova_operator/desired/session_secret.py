"""The Secret that session cookies are signed with, and what sidecars tell each other of tokens.

It is created once and then left alone: other bytes would make every cookie out there worthless. The operator cannot
even read it, and needs no right to. It goes with its NovaService; when the affinity is only switched off it stays, so
that clients are known again when it comes back.
"""

from __future__ import annotations

import base64
from typing import Final

from nova_api import names
from nova_api.v1alpha1 import NovaService, signs
from nova_operator.desired.metadata import Manifest, child

KEY_LENGTH: Final = 32
"""Bytes: as long as the output of the hash that signs (RFC 2104, section 3)."""


def needs_session_secret(service: NovaService) -> bool:
    """Whether the operator has to make one: something is signed, and nobody named a Secret."""
    return signs(service.spec) and service.spec.session_affinity.cookie.secret is None


def session_secret(service: NovaService, key: bytes) -> Manifest:
    """`key` are `KEY_LENGTH` random bytes."""
    body = {"type": "Opaque", "data": {names.SESSION_KEY: base64.b64encode(key).decode()}}
    return child(service, "v1", "Secret", names.session_secret(service.metadata.name), body)
