"""When each upgraded connection is closed: idle, old, or because the pod leaves.

Connections that live for hours were born together (a start, a failover) and would end together, and all their clients
would come back at once, to the pods that are left. So each one's idle time and age are shortened by a random share up
to `jitter`, and when the pod leaves, the closes are spread: the time is cut into as many pieces as there are
connections, dealt at random, and each connection is closed at a random instant of its piece. Even, and never in step
with the herd of another pod.

The spread takes at most three quarters of the time that there is. The rest is for messages that are still under way
then, and for the clients' answers.
"""

from collections.abc import Iterator
from enum import StrEnum
from math import inf
from random import Random
from typing import Final

from nova_api.policies import WebSocketPolicy

LARGEST_SHARE: Final = 0.75


class Closed(StrEnum):
    """Why a WebSocket ended; metric label and field of the access log."""

    CLIENT = "client"  # the client said so first
    UPSTREAM = "upstream"  # the app or the upstream did
    CLIENT_LOST = "client_lost"  # the client's connection ended without a word
    UPSTREAM_LOST = "upstream_lost"  # the other one did
    DRAIN = "drain"  # the pod leaves
    AGE = "age"  # maxAge
    IDLE = "idle"  # idleTimeout
    CUT = "cut"  # the time for leaving was over in the middle of a message


ORDERLY: Final = frozenset((Closed.DRAIN, Closed.AGE, Closed.IDLE))
"""Ends that Nova brought about and that are no fault of anybody."""


class Closing:
    """The limits of all upgraded connections of a sidecar. `open` is how many there are; their owners keep it."""

    __slots__ = ("_policy", "_rng", "open")

    def __init__(self, policy: WebSocketPolicy, rng: Random) -> None:
        self._policy = policy
        self._rng = rng
        self.open = 0

    def configure(self, policy: WebSocketPolicy) -> None:
        """Take over a new policy; connections that are open keep what was drawn for them."""
        self._policy = policy

    @property
    def full(self) -> bool:
        """Whether there are as many as allowed."""
        return self.open >= self._policy.max_connections

    @property
    def close_code(self) -> int:
        """What clients are told when the pod leaves."""
        return self._policy.close_code

    @property
    def session_header(self) -> bytes:
        """Name of the field that tells sessions apart, in lower case."""
        return self._policy.session_header.encode()

    def idle_limit(self) -> float:
        """Seconds of silence that one connection may have; infinity: any."""
        return self._shortened(self._policy.idle_timeout)

    def age_limit(self) -> float:
        """Seconds that one connection may live; infinity: any."""
        return self._shortened(self._policy.max_age)

    def window(self, at_most: float) -> float:
        """Seconds over which closes are spread when everything must be over after `at_most` seconds."""
        return min(self._policy.spread, at_most * LARGEST_SHARE)

    def spread(self, count: int, window: float) -> Iterator[float]:
        """For each of so many connections the seconds after which it is closed, in random order."""
        piece = window / max(count, 1)
        places = list(range(count))
        self._rng.shuffle(places)
        return (piece * (place + self._rng.random()) for place in places)

    def mask(self) -> bytes:
        """A masking key. Nobody chose what it hides, so it need not be secret (RFC 6455 section 10.3)."""
        return self._rng.randbytes(4)

    def _shortened(self, seconds: float) -> float:
        return seconds * (1 - self._policy.jitter * self._rng.random()) if seconds > 0 else inf

    def __repr__(self) -> str:
        return f"<Closing open={self.open}>"
