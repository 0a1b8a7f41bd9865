"""What is counted of people here."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

_PROFILES: Final = ("created", "changed", "erased")
_BLOCKS: Final = ("set", "lifted")


class UsersMetrics:
    """`nova_users_*`; every series is there with zero, and no label says who."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._profiles = Counter(
            "nova_users_profiles", "Profiles that came, changed and went.", ("result",), registry=registry
        )
        self._blocks = Counter("nova_users_blocks", "Blocks that were set and lifted.", ("result",), registry=registry)
        for result in _PROFILES:
            self._profiles.labels(result)
        for result in _BLOCKS:
            self._blocks.labels(result)

    def profile(self, result: str) -> None:
        """One more: created (when auth told of it), changed or erased."""
        self._profiles.labels(result).inc()

    def block(self, result: str) -> None:
        """One more: set or lifted."""
        self._blocks.labels(result).inc()
