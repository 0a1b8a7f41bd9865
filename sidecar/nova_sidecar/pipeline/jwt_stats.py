"""What is counted of tokens: which tier had the answer, and how long a signature takes."""

from enum import StrEnum
from typing import Final

from nova_sidecar.pipeline.stats import Histogram

VERIFICATION_BOUNDS: Final[tuple[float, ...]] = (0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01)
"""Seconds; a verification takes 40 µs to 1 ms. Of any length to the compiler, which takes a fixed one for unset."""


class Tier(StrEnum):
    """Who had the answer; the value is what people see in metrics."""

    REMEMBERED = "remembered"  # valid, and known here
    REFUSED = "refused"  # refused before, and known here
    REDIS = "redis"  # a sibling has verified the signature
    DIRECT = "direct"  # verified here


class JwtStats:
    """The counters of one sidecar."""

    __slots__ = ("redis", "tiers", "verification")

    def __init__(self) -> None:
        self.tiers: dict[Tier, int] = dict.fromkeys(Tier, 0)
        self.redis: dict[str, int] = dict.fromkeys(("hit", "miss", "unusable", "failed"), 0)
        """Questions to Redis. unusable: nobody who may has signed it, or the key is none of the issuer's any more."""
        self.verification = Histogram(VERIFICATION_BOUNDS)

    def verified(self, seconds: float) -> None:
        """A signature was verified, well or not."""
        self.tiers[Tier.DIRECT] += 1
        self.verification.observe(seconds)

    def __repr__(self) -> str:
        return f"<JwtStats direct={self.tiers[Tier.DIRECT]}>"
