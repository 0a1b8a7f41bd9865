"""What is counted of people: how many came, came in and left, and how often a token was copied."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

_RESULTS: Final = {
    "registrations": ("created", "taken"),
    "logins": ("ok", "refused"),
    "refreshes": ("ok", "refused", "reused"),
    "erasures": ("erased", "refused"),
}
_WORDS: Final = {
    "registrations": "Accounts that were asked for.",
    "logins": "Logins by password.",
    "refreshes": "Refresh tokens that came.",
    "erasures": "Accounts that their users asked to remove.",
}


class AuthMetrics:
    """`nova_auth_*`; every series is there with zero, and no label says who."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counters = {
            name: Counter(f"nova_auth_{name}", _WORDS[name], ("result",), registry=registry) for name in _RESULTS
        }
        for name, results in _RESULTS.items():
            for result in results:
                self._counters[name].labels(result)
        self._revoked = Counter("nova_auth_sessions_revoked", "Sessions that were ended.", registry=registry)
        self._swept = Counter("nova_auth_sessions_removed", "Sessions that had expired.", registry=registry)

    def count(self, name: str, result: str) -> None:
        """One more registration, login, refresh or erasure with this result. Raises KeyError for another name."""
        self._counters[name].labels(result).inc()

    def revoked(self, sessions: int) -> None:
        """So many were ended."""
        self._revoked.inc(sessions)

    def swept(self, sessions: int) -> None:
        """So many were removed since they had expired."""
        self._swept.inc(sessions)
