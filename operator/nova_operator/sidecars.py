"""What sidecars say about themselves: a port and its vocabulary; `sidecars_http` reads it over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from nova_operator.pods import PodView


class Refusal(msgspec.Struct, frozen=True):
    """Why a sidecar kept its old document: the field and the rule it breaks."""

    field: str = "$"
    rule: str = "unknown"
    hash: str | None = None
    """Hash of the document that was refused, where the sidecar says it."""


class SidecarReport(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of GET /status."""

    config_hash: str
    last_error: Refusal | None = None
    breakers: dict[str, str] = {}
    """State by upstream: closed, open or half_open."""


class Sidecars(Protocol):
    """Reads many sidecars at once."""

    async def read(self, pods: tuple[PodView, ...]) -> Mapping[str, SidecarReport]:
        """The reports by pod uid; a sidecar that does not answer in time is left out."""
