"""The sidecar's own limits: it refuses early what would make it, or the kernel, give up on everything.

Four causes, two answers. An event loop that comes round late and memory near the container's limit are eased by less
work: new requests are refused, at the price of a refusal, and those under way go on. Descriptors running out and too
many connections are eased by fewer connections: new ones are closed at once, and those there are live on.

Rules:

* A cause is up from above its limit until well below it, and for `HOLD` at least: no flapping. Of two rounds of the
  event loop in a row the less late one counts, since a pause of the whole process is over when it is seen.
* For descriptors there is a number of connections up to which there is room. Between two looks it needs no look.
* Nothing is known of memory where no limit is set, and nothing is refused for it.
"""

from enum import StrEnum
from typing import Any, Final

from nova_api.policies import SelfProtectionPolicy

HOLD: Final = 0.5
"""Seconds a cause stays up at least."""

_LAG_DOWN: Final = 0.5  # shares of the limits below which a cause is over
_MEMORY_DOWN: Final = 0.95
_CONNECTIONS_DOWN: Final = 0.95


class Cause(StrEnum):
    """What runs out."""

    EVENT_LOOP = "event_loop"
    MEMORY = "memory"
    DESCRIPTORS = "descriptors"
    CONNECTIONS = "connections"


class Usage:
    """What one look found. Shares are of the limit; 0 where there is none."""

    __slots__ = ("connections", "descriptor_limit", "descriptors", "lag", "memory")

    def __init__(
        self, *, lag: float = 0.0, memory: float = 0.0, descriptors: int = 0, descriptor_limit: int = 0,
        connections: int = 0,
    ) -> None:  # fmt: skip
        self.lag = lag
        """Seconds by which the event loop came round late."""
        self.memory = memory
        """Memory in use as a share of the container's limit."""
        self.descriptors = descriptors
        self.descriptor_limit = descriptor_limit
        """Descriptors the process may have; 0: not known."""
        self.connections = connections
        """Connections from callers."""


class SelfProtection:
    """Decides from what it is told. `shedding` says whether requests, `room` how many connections there may be."""

    __slots__ = ("_last_lag", "_policy", "_up_since", "raised", "room", "shedding")

    def __init__(self, policy: SelfProtectionPolicy) -> None:
        self.raised: dict[Cause, int] = dict.fromkeys(Cause, 0)
        """How often each cause came up."""
        self._up_since: dict[Cause, float] = {}
        self._last_lag = 0.0
        self.configure(policy)

    def configure(self, policy: SelfProtectionPolicy) -> None:
        """Take over new limits; Off forgets what was up."""
        self._policy = policy
        self.room = policy.max_connections
        if policy.mode == "Off":
            self._up_since.clear()
        self._decide()

    def look(self, usage: Usage, now: float) -> list[Cause]:
        """Take notice of what is used. Returns the causes that came up or are over since the last look."""
        policy = self._policy
        if policy.mode == "Off":
            return []
        lag, self._last_lag = min(usage.lag, self._last_lag), usage.lag
        connections = usage.connections
        self.room = policy.max_connections
        descriptors = 0.0
        if usage.descriptor_limit:
            most = int(policy.max_descriptors * usage.descriptor_limit)
            self.room = max(0, min(self.room, connections + most - usage.descriptors))
            descriptors = usage.descriptors / max(most, 1)
        changed = [
            self._judge(Cause.EVENT_LOOP, lag / max(policy.max_loop_lag, 0.001), _LAG_DOWN, now),
            self._judge(Cause.MEMORY, usage.memory / max(policy.max_memory, 0.001), _MEMORY_DOWN, now),
            self._judge(Cause.DESCRIPTORS, descriptors, _CONNECTIONS_DOWN, now),
            self._judge(Cause.CONNECTIONS, connections / policy.max_connections, _CONNECTIONS_DOWN, now),
        ]
        self._decide()
        return [cause for cause in changed if cause is not None]

    @property
    def cause_of_no_room(self) -> Cause:
        """Why there is no room for another connection, where there is none."""
        return Cause.CONNECTIONS if self.room >= self._policy.max_connections else Cause.DESCRIPTORS

    def active(self, cause: Cause) -> bool:
        """Whether it is up."""
        return cause in self._up_since

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        return {
            "mode": self._policy.mode,
            "active": [str(cause) for cause in Cause if cause in self._up_since],
            "raised": {str(cause): count for cause, count in self.raised.items()},
            "room": self.room,
        }

    def __repr__(self) -> str:
        return f"<SelfProtection {'shedding' if self.shedding else 'calm'} up={sorted(self._up_since)}>"

    def _judge(self, cause: Cause, used: float, down: float, now: float) -> Cause | None:
        """`used`: as a share of what may be; full is up for what cannot be exceeded."""
        full = used >= 1 if cause in (Cause.DESCRIPTORS, Cause.CONNECTIONS) else used > 1
        since = self._up_since.get(cause)
        if since is None:
            if not full:
                return None
            self._up_since[cause] = now
            self.raised[cause] += 1
            return cause
        if used < down and now - since >= HOLD:
            del self._up_since[cause]
            return cause
        return None

    def _decide(self) -> None:
        self.shedding = Cause.EVENT_LOOP in self._up_since or Cause.MEMORY in self._up_since
