"""Which server reads: the decision alone, without a clock or a connection.

A replica serves while all of this holds:

* it was heard lately: who does not answer probes does not serve;
* it is a replica: one that was promoted has a log of its own, and says nothing of the primary's any more;
* it is at most `max_lag` seconds behind (`lag`).

Among those that serve, a read without a token goes to any. One with a token goes to any that has replayed the log up to
it, else to the one that is nearest, which is waited for, `patience` at most; then to the primary. When no replica
serves, the primary does: then the split is gone, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isfinite
from random import Random
from typing import Final

from nova_data.split.lag import PrimaryLog
from nova_data.split.position import ANYWHERE, NOWHERE

AHEAD: Final = 1 << 30
"""Bytes by which a token may be ahead of where the primary's log stood last; it writes less between two probes."""
PROBES: Final = 3
"""A server that has missed so many probes is unheard."""


class Route(StrEnum):
    """Where a read goes, and why; the value is what people see in metrics."""

    REPLICA = "replica"
    WAITED = "waited"  # a replica, once it had replayed what the caller wrote
    LAGGING = "lagging"  # the primary: no replica is near enough
    DOWN = "down"  # the primary: no replica is heard
    OWN_WRITE = "own_write"  # the primary: no replica has what the caller wrote
    FAILED = "failed"  # the primary: the replica gave no connection, or lost it


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """Seconds. Raises ValueError, with field and rule, for what cannot work."""

    max_lag: float = 5.0
    """How old at most what a replica serves may be."""
    patience: float = 0.05
    """How long a read with a token waits for a replica before it goes to the primary."""
    interval: float = 0.5
    """Between two probes of a server."""
    orphaned: float = 60.0
    """How long replicas go on serving while the primary is not heard; 0 for as long as their lag allows."""

    def __post_init__(self) -> None:
        for field in ("max_lag", "interval"):
            if not (getattr(self, field) > 0 and isfinite(getattr(self, field))):
                raise ValueError(f"{field}: expected seconds above 0, got {getattr(self, field)}")
        for field in ("patience", "orphaned"):
            if not (getattr(self, field) >= 0 and isfinite(getattr(self, field))):
                raise ValueError(f"{field}: expected seconds from 0, got {getattr(self, field)}")
        if self.max_lag < PROBES * self.interval:
            least = PROBES * self.interval
            raise ValueError(f"max_lag: expected at least {PROBES} intervals ({least:g} s), got {self.max_lag}")


class Replica:
    """What is known of one."""

    __slots__ = ("heard", "name", "recovering", "replayed")

    def __init__(self, name: str) -> None:
        self.name = name
        self.replayed = 0
        self.recovering = False
        self.heard = -inf

    def __repr__(self) -> str:
        return f"<Replica {self.name} replayed={self.replayed} recovering={self.recovering}>"


class Choice:
    """What is known of all servers."""

    __slots__ = ("_settings", "log", "replicas")

    def __init__(self, names: Sequence[str], settings: SplitSettings) -> None:
        self._settings = settings
        self.log = PrimaryLog(PROBES * settings.interval, settings.orphaned)
        self.replicas = [Replica(name) for name in names]

    def heard(self, replica: Replica, now: float, *, replayed: int | None) -> None:
        """A replica has answered: how much it has replayed, None where it is no replica any more."""
        replica.heard = now
        replica.recovering = replayed is not None
        replica.replayed = replayed or 0

    def lost(self, replica: Replica) -> None:
        """It gave no connection: it does not serve until it is heard again."""
        replica.heard = -inf

    def lag(self, replica: Replica, now: float) -> float:
        """How far it is behind at most, in seconds; infinite where it is not heard, or no replica."""
        if not replica.recovering or now - replica.heard > PROBES * self._settings.interval:
            return inf
        return self.log.lag(replica.replayed, now)

    def route(self, now: float, random: Random, token: int = ANYWHERE) -> tuple[Route, Replica | None]:
        """Where a read goes: to a replica (`REPLICA`), to one that must be waited for (`WAITED`), or to the primary."""
        lags = [(self.lag(replica, now), replica) for replica in self.replicas]
        serving = [replica for lag, replica in lags if lag <= self._settings.max_lag]
        if not serving:
            return (Route.DOWN if all(lag == inf for lag, _ in lags) else Route.LAGGING), None
        token = self.believed(token)
        ready = [replica for replica in serving if replica.replayed >= token]
        if ready:
            return Route.REPLICA, ready[0] if len(ready) == 1 else random.choice(ready)
        if token >= NOWHERE or not self._settings.patience:
            return Route.OWN_WRITE, None
        return Route.WAITED, max(serving, key=lambda replica: replica.replayed)

    def believed(self, token: int) -> int:
        """The token, or none where the primary cannot have written so much."""
        return ANYWHERE if NOWHERE > token > self.log.position + AHEAD else token

    def __repr__(self) -> str:
        return f"<Choice {self.log!r} {self.replicas!r}>"
