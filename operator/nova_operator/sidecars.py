"""What sidecars say about themselves: a port and its vocabulary; `sidecars_http` reads it over HTTP.

Whoever may create a pod can give it a service's label and answer in a sidecar's place, so nothing in a report is taken
for longer or more than a sidecar would say: it goes into conditions, Events and the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta

from nova_operator.pods import PodView


class Refusal(msgspec.Struct, frozen=True):
    """Why a sidecar kept its old document: the field and the rule it breaks."""

    field: str = "$"
    rule: str = "unknown"
    hash: str | None = None
    """Hash of the document that was refused, where the sidecar says it."""


Count = Annotated[int, Meta(ge=0, le=1 << 44)]
"""More than a sidecar counts in fifty years at ten thousand requests a second; sums of them fit a status' 64 bits."""


class Traffic(msgspec.Struct, frozen=True):
    """What a sidecar counted of the requests to its app since it began."""

    requests: Count = 0
    """Requests that are over."""

    failed: Count = 0
    """Of those the ones with a status 5xx, a gRPC code that counts as failure, or no answer at all."""

    bounds: Annotated[tuple[float, ...], Meta(max_length=64)] = ()
    """Upper bounds of the durations, in seconds, rising."""

    durations: Annotated[tuple[Count, ...], Meta(max_length=65)] = ()
    """Requests by duration, one count for each bound and one for what is longer; not cumulated."""

    def __post_init__(self) -> None:
        if len(self.durations) != (len(self.bounds) + 1 if self.bounds else 0):
            raise ValueError("expected a count for each bound and one more")


class SidecarReport(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of GET /status."""

    config_hash: str
    last_error: Refusal | None = None
    breakers: Annotated[
        dict[Annotated[str, Meta(max_length=63)], Literal["closed", "open", "half_open"]], Meta(max_length=64)
    ] = {}
    """State by upstream; a service has 64 of them at most."""

    traffic: Traffic | None = None
    """Kept only while a canary is under way."""


class Sidecars(Protocol):
    """Reads many sidecars at once."""

    async def read(self, pods: tuple[PodView, ...]) -> Mapping[str, SidecarReport]:
        """The reports by pod uid; a sidecar that does not answer in time is left out."""
