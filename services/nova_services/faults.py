"""Faults that the demo switches on: a service that fails or is slow, as real ones do."""

from random import Random
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What goes wrong: ``{"mode": "errors", "errorRate": 0.5}``, ``{"mode": "slow", "latencyMs": 800}``."""

    mode: Literal["off", "errors", "slow"] = "off"
    error_rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """In mode errors: share of the requests that fail."""
    latency_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1000
    """In mode slow: what each request takes in addition, milliseconds."""

    def strikes(self, random: Random) -> bool:
        """Whether this request fails."""
        return self.mode == "errors" and random.random() < self.error_rate

    @property
    def delay(self) -> float:
        """What this request takes in addition, seconds."""
        return self.latency_ms / 1000 if self.mode == "slow" else 0.0


def decode(body: bytes) -> Fault:
    """Read a fault. Raises ValueError naming the field and what it must be."""
    try:
        return msgspec.json.decode(body, type=Fault)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
