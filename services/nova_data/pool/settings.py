"""How a service uses its database: one object, checked when it is made."""

from dataclasses import dataclass
from math import inf, nan

from nova_data.pool_gate import THRESHOLD
from nova_data.pool_guard import WAIT


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """Durations are in seconds. Raises ValueError, with field and rule, for what cannot work."""

    size: int = 10
    """Most connections, from 1. `nova_data.pool.sizing` says how many a service can have."""
    warm: int = 0
    """Connections opened at the start and kept, up to `size`. At 0 an app starts while its database is down."""
    threshold: float | None = THRESHOLD
    """Share of the pool above which requests are refused at once; 1 switches that off, None follows the sidecar's."""
    wait: float = WAIT
    """Longest wait for a connection."""
    connect_timeout: float = 5.0
    """To connect and log in."""
    statement_timeout: float = 5.0
    """For one statement: the server ends it, and where the server says nothing the client gives up a second later."""
    idle_in_transaction: float = 30.0
    """After which the server ends a transaction in which nothing happens, whose locks would keep others waiting."""
    idle: float = 300.0
    """After which a connection that nobody uses is closed; 0 keeps it."""
    leak_after: float = 10.0
    """Held for longer than this, a connection is taken for forgotten, and told."""
    slow_after: float = 0.5
    """A statement that takes as long is slow."""
    tenant_share: float = 0.5
    """Share of the pool that one tenant may have, above 0 and at most 1."""

    def __post_init__(self) -> None:
        _whole("size", self.size, 1)
        _whole("warm", self.warm, 0)
        if self.warm > self.size:
            raise ValueError(f"warm: expected at most the size ({self.size}), got {self.warm}")
        for field in ("connect_timeout", "statement_timeout", "idle_in_transaction", "leak_after", "slow_after"):
            if not 0 < _number(seconds := getattr(self, field)) < inf:
                raise ValueError(f"{field}: expected seconds above 0, got {seconds!r}")
        for field in ("wait", "idle"):
            if not 0 <= _number(seconds := getattr(self, field)) < inf:
                raise ValueError(f"{field}: expected seconds from 0, got {seconds!r}")
        for field in ("threshold", "tenant_share"):
            share = getattr(self, field)
            if share is not None and not 0 < _number(share) <= 1:
                raise ValueError(f"{field}: expected a share above 0 and at most 1, got {share!r}")


def _whole(field: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{field}: expected a whole number from {least}, got {value!r}")


def _number(value: object) -> float:
    """No number where it is none, such as a text out of the environment."""
    return value if isinstance(value, int | float) else nan
