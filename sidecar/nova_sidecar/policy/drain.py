"""How the sidecar leaves without anybody noticing.

    serving ── begin ──▶ leaving ── delay over ──▶ closing ── nothing in flight, or timeout over ──▶ drained

When a pod is deleted, its address leaves the EndpointSlices and SIGTERM arrives at about the same time, and clients
learn of it later still (Kubernetes: "Termination of Pods"). So it first goes on serving and only says that it is
leaving; when nobody should come any more, it closes the door and lets the rest finish.
"""

from enum import StrEnum
from typing import Any

from nova_api import proxy


class Phase(StrEnum):
    """Where the sidecar stands on its way out."""

    SERVING = "serving"
    LEAVING = "leaving"  # not ready; still takes connections and requests; every response says Connection: close
    CLOSING = "closing"  # listeners and idle connections closed; what is in flight finishes
    DRAINED = "drained"  # nothing in flight any more, or its time is over


class Drainer:
    """The phases, with time passed in.

    `begin` starts; then call `advance` whenever a request ends, and at the instant it returned last.
    """

    __slots__ = ("_closing_at", "_policy", "drained_at", "phase")

    def __init__(self, policy: proxy.DrainPolicy) -> None:
        self._policy = policy
        self.phase = Phase.SERVING
        self._closing_at = 0.0
        self.drained_at = 0.0
        """The instant at which its time is over, once it has begun."""

    def begin(self, now: float) -> bool:
        """Start leaving. False when that has begun before: the preStop hook and SIGTERM both ask for it."""
        if self.phase is not Phase.SERVING:
            return False
        self.phase = Phase.LEAVING
        self._closing_at = now + self._policy.delay
        self.drained_at = self._closing_at + self._policy.timeout
        return True

    def advance(self, now: float, in_flight: int) -> float | None:
        """Move on as time and requests allow. Returns the instant to call again, None when time changes nothing."""
        if self.phase is Phase.LEAVING and now >= self._closing_at:
            self.phase = Phase.CLOSING
        if self.phase is Phase.CLOSING and (in_flight == 0 or now >= self.drained_at):
            self.phase = Phase.DRAINED
        if self.phase is Phase.LEAVING:
            return self._closing_at
        return self.drained_at if self.phase is Phase.CLOSING else None

    def configure(self, policy: proxy.DrainPolicy) -> None:
        """Take over new times. A drain under way keeps its own: the grace period is counting already."""
        self._policy = policy

    def snapshot(self, now: float) -> dict[str, Any]:
        """What an operator wants to see, as plain data."""
        ends = {Phase.LEAVING: self._closing_at, Phase.CLOSING: self.drained_at}.get(self.phase)
        return {
            "phase": str(self.phase),
            "secondsLeft": None if ends is None else max(0.0, ends - now),
        }

    def __repr__(self) -> str:
        return f"<Drainer {self.phase}>"
