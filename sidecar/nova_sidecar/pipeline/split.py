"""A share of the requests to an upstream for its canary.

It has a port beside the port, with breaker, retries and connections of its own, so that what the canary does wrong
opens no breaker of the stable version.

Shares are exact, not drawn: of a hundred requests, `weight` go to the canary, spread evenly. While the canary's breaker
refuses, the stable version has its requests too: a caller is not to suffer from a version that others have left.
"""

from typing import Any, Final

from msgspec.structs import replace

from nova_api.proxy import Outbound
from nova_sidecar.policy.breaker import Breaker

WHOLE: Final = 100


def canary_settings(settings: Outbound) -> Outbound | None:
    """What the port of the canary is configured with; None where there is none."""
    if settings.canary is None:
        return None
    return replace(settings, endpoints=settings.canary.address, canary=None)


class Split:
    """Whose turn it is. `port` is of the same class as the port that it belongs to."""

    __slots__ = ("_at", "_weight", "port")

    def __init__(self, port: Any, weight: int, start: float) -> None:
        self.port = port
        self._weight = weight
        self._at = start * WHOLE  # else all sidecars would send their first requests to the same version

    def configure(self, weight: int) -> None:
        """Take over another share, in percent."""
        self._weight = weight

    def turn(self, now: float) -> Any:
        """The canary's port where it is its turn, else None."""
        self._at += self._weight
        if self._at < WHOLE:
            return None
        self._at -= WHOLE
        breaker: Breaker | None = self.port.breaker
        return None if breaker is not None and breaker.refuses(now) else self.port

    def __repr__(self) -> str:
        return f"<Split {self._weight}% {self.port!r}>"
