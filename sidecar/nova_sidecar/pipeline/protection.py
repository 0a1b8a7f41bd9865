"""Watches the process itself and tells ports and doors what to refuse, outside of the path of requests.

A timer of 100 ms measures how late it comes: that is the event loop's lag. It counts connections at each look and reads
files once a second. While all is well a request pays nothing and a new connection one comparison; while requests are
to be refused, the ports run their other chain (`Chain.overloaded`).
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from nova_api.policies import SelfProtectionPolicy
from nova_sidecar.pipeline.handled import Handled
from nova_sidecar.pipeline.stats import PortStats
from nova_sidecar.policy.protection import Cause, SelfProtection, Usage
from nova_sidecar.policy.reasons import OVERLOAD_RETRY_AFTER, Reason, Reject
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.transport.resources import Memory, descriptor_limit, descriptors_open
from nova_sidecar.transport.tcp import reset_on_close

INTERVAL: Final = 0.1
"""Seconds between two looks."""
_FILES_EVERY: Final = 10  # looks
_OTHER_DESCRIPTORS: Final = 64  # what is open besides connections, generously
_OVERLOADED: Final = Reject(Reason.SIDECAR_OVERLOADED, OVERLOAD_RETRY_AFTER)


class ProtectionFilter:
    """Refuses every request, or only counts it; in the chain only while the sidecar is at its limit."""

    __slots__ = ("_enforce", "_stats")

    def __init__(self, stats: PortStats, *, enforce: bool) -> None:
        self._stats = stats
        self._enforce = enforce

    def on_request(self, exchange: Handled, now: float) -> Reject | None:
        """The sidecar is at its limit."""
        if self._enforce:
            return _OVERLOADED
        self._stats.shadow_rejected[Reason.SIDECAR_OVERLOADED] += 1
        return None


class TurnedAway(asyncio.Protocol):
    """A connection for which there is no room: reset as soon as it is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the client is connected, and no longer."""
        reset_on_close(transport)
        transport.abort()  # type: ignore[attr-defined]  # a transport of a socket has it


class Guard:
    """See the module. `start` and `close` come in pairs."""

    __slots__ = (
        "_admitted",
        "_clock",
        "_due",
        "_handle",
        "_looks",
        "_loop",
        "_memory",
        "_on_shedding",
        "_policy",
        "_ports",
        "_read_at",
        "connections",
        "decided",
        "lag",
        "turned_away",
        "usage",
        "would_turn_away",
    )  # fmt: skip

    def __init__(
        self, policy: SelfProtectionPolicy, ports: Mapping[Any, PortStats], clock: Callable[[], float],
        on_shedding: Callable[[], None],
    ) -> None:  # fmt: skip
        self._policy = policy
        self._ports = ports
        self._clock = clock
        self._on_shedding = on_shedding
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._looks = 0
        self._memory = Memory.find()
        self._admitted = 0
        self._read_at = 0
        self.usage = Usage()
        """What the last look found."""
        self.decided = SelfProtection(policy)
        self.connections = 0
        """Connections from callers; between two looks those that ended are still in it."""
        self.lag = 0.0
        """Seconds by which the event loop came round late at the last look."""
        self.turned_away: dict[Cause, int] = dict.fromkeys((Cause.DESCRIPTORS, Cause.CONNECTIONS), 0)
        """Connections that were closed at once, by cause."""
        self.would_turn_away: dict[Cause, int] = dict.fromkeys(self.turned_away, 0)

    @property
    def shedding(self) -> bool:
        """Whether requests go through the ports' other chain."""
        return self.decided.shedding

    def start(self) -> None:
        """Look from now on, unless the policy is Off."""
        if self._handle is None and self._policy.mode != "Off":
            self._schedule()

    def close(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def configure(self, policy: SelfProtectionPolicy) -> None:
        """Take over new limits."""
        self._policy = policy
        self.decided.configure(policy)
        self.close()
        self.start()

    def admit(self) -> bool:
        """Whether there is room for the connection that has just been accepted."""
        self.connections += 1
        self._admitted += 1
        if self.connections <= self.decided.room:
            return True
        self.connections = self._count()
        if self.connections <= self.decided.room or self._policy.mode == "Off":
            return True
        cause = self.decided.cause_of_no_room
        if self._policy.mode == "Shadow":
            self.would_turn_away[cause] += 1
            return True
        self.turned_away[cause] += 1
        self._admitted -= 1
        self.connections -= 1
        return False

    def _count(self) -> int:
        """Those admitted less those that ended; what was admitted in this very turn is in no port's counters yet."""
        ended = sum(stats.downstream_total - stats.downstream_active for stats in self._ports.values())
        return self._admitted - ended

    def _read_files(self) -> None:
        usage = self.usage
        usage.memory = self._memory.share() if self._memory is not None else 0.0
        usage.descriptor_limit = descriptor_limit()
        usage.descriptors = descriptors_open(sum(map(_sockets, self._ports.values())) + _OTHER_DESCRIPTORS)
        self._read_at = self.connections

    def _schedule(self) -> None:
        self._due = self._clock() + INTERVAL
        self._handle = self._loop.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        now = self._clock()
        self.lag = max(0.0, now - self._due)
        self.connections = self._count()
        if self._looks % _FILES_EVERY == 0:
            self._read_files()
        self._looks += 1
        self._decide(now)
        self._schedule()

    def _decide(self, now: float) -> None:
        shedding = self.shedding
        usage = self.usage
        usage.lag, usage.connections = self.lag, self.connections
        usage.descriptors += self.connections - self._read_at  # the file was read up to a second ago
        self._read_at = self.connections
        for cause in self.decided.look(usage, now):
            if self.decided.active(cause):
                get_logger().warning("sidecar at its limit", reason=str(cause))
            else:
                get_logger().info("sidecar below its limit again", reason=str(cause))
        if shedding is not self.shedding:
            self._on_shedding()

    def snapshot(self) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        usage = self.usage
        return {
            **self.decided.snapshot(),
            "loopLagSeconds": round(self.lag, 4),
            "memoryShare": round(usage.memory, 4),
            "descriptors": usage.descriptors,
            "descriptorLimit": usage.descriptor_limit,
            "connections": self.connections,
            "turnedAway": {str(cause): count for cause, count in self.turned_away.items()},
            "wouldTurnAway": {str(cause): count for cause, count in self.would_turn_away.items()},
        }

    def __repr__(self) -> str:
        return f"<Guard {self.decided!r} connections={self.connections}>"


def _sockets(stats: PortStats) -> int:
    return stats.downstream_active + stats.connections_opened - sum(stats.connections_closed.values())
