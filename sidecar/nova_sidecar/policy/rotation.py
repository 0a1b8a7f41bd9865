"""When a connection is renewed, so that new endpoints get their share without a herd of reconnects.

Connections that live for ever keep their load on the endpoints that were there first. Renewing them by age cures
that, but connections are born together (a start, an outage that ended) and would die together, every maxAge again.
Two things against it: each connection's age and idle time are shortened by a random share up to `jitter`, and at
most a tenth of a pool (at least one) is renewed within a second; the others serve on until it is their turn, so
none gets more than about ten seconds older than maxAge. Where maxAge is under 20 s a tenth would not keep up: then
it is twice the share that an evenly spread pool renews.
"""

import sys
from math import ceil, inf
from random import Random
from typing import Final

from nova_api.policies import PoolPolicy

LEAST_SHARE: Final = 0.1
NO_LIMIT: Final = sys.maxsize


class Lifespan:
    """The life of a pool's connections.

    The pool keeps per connection what `retire_at` gave and a count of requests. When a request ends and
    ``now >= retire_at or requests >= lifespan.max_requests``, it asks `may_retire`.
    """

    __slots__ = ("_jitter", "_max_age", "_retired", "_rng", "_second_ends", "_share", "idle_timeout", "max_requests")

    def __init__(self, policy: PoolPolicy, rng: Random) -> None:
        self._rng = rng
        self._second_ends = -inf
        self._retired = 0  # within the present second
        self.configure(policy)

    def configure(self, policy: PoolPolicy) -> None:
        """Take over a new policy; the pool then asks `retire_at` again with each connection's birth."""
        self._max_age = float(policy.max_age)
        self._jitter = float(policy.jitter)
        self._share = LEAST_SHARE if self._max_age <= 0 else max(LEAST_SHARE, min(1.0, 2 / self._max_age))
        self.idle_timeout = float(policy.idle_timeout)
        self.max_requests = policy.max_requests or NO_LIMIT

    def retire_at(self, born: float) -> float:
        """The instant from which a connection born then is to be renewed; infinity when age does not matter."""
        return born + self._shorten(self._max_age) if self._max_age > 0 else inf

    def idle_limit(self) -> float:
        """Seconds that one connection may be idle, drawn anew for each."""
        return self._shorten(self.idle_timeout)

    def may_retire(self, now: float, connections: int) -> bool:
        """Whether a connection whose time has come may go now; True counts as one gone. Otherwise use it further."""
        if now >= self._second_ends:
            self._second_ends = now + 1
            self._retired = 0
        if self._retired >= max(1, ceil(connections * self._share)):
            return False
        self._retired += 1
        return True

    def __repr__(self) -> str:
        return f"<Lifespan max_age={self._max_age:g} jitter={self._jitter:g}>"

    def _shorten(self, seconds: float) -> float:
        return seconds * (1 - self._jitter * self._rng.random())
