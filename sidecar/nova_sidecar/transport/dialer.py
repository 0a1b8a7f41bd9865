"""Finds an upstream for each relayed connection: a new connection to the less busy of its endpoints.

Nothing is kept here for the next one; the pool only counts what is open at which endpoint, and ejects endpoints that
do not take connections.
"""

from collections.abc import Callable
from random import Random

import msgspec

from nova_api.policies import EndpointBreakerPolicy, PoolPolicy
from nova_api.proxy import Address, Tls
from nova_sidecar.policy.outcome import FAILURE, SUCCESS
from nova_sidecar.policy.reasons import Reason
from nova_sidecar.policy.rotation import Lifespan
from nova_sidecar.transport.connector import Connector
from nova_sidecar.transport.discovery import Discovery
from nova_sidecar.transport.dispatcher import Counters
from nova_sidecar.transport.endpoints import Endpoint, Resolver
from nova_sidecar.transport.opening import Opening
from nova_sidecar.transport.pool import Pool
from nova_sidecar.transport.relay import Relay, Side
from nova_sidecar.transport.seat import Seat

Answer = Callable[[Relay, Side | None, Reason, str], None]
"""Called once per dialled relay: its upstream, or None, and why there is none."""


class Dialer:
    """See the module. `size` is the most connections at once."""

    def __init__(
        self,
        address: Address,
        policy: PoolPolicy,
        *,
        size: int,
        connect_timeout: float,
        tls: Tls | None,
        endpoints: EndpointBreakerPolicy,
        resolver: Resolver,
        rng: Random,
        counters: Counters,
        clock: Callable[[], float],
        answer: Answer,
    ) -> None:
        self._counters = counters
        self._clock = clock
        self._answer = answer
        self._openings: dict[Relay, Opening[Side]] = {}
        self._unresolved: dict[Relay, None] = {}
        policy = _sized(policy, size)
        self.pool: Pool[Side, Relay] = Pool(policy, Lifespan(policy, rng), rng, endpoints)
        self.connector = Connector(timeout=connect_timeout, tls=tls, alpn=None, stats=counters.tls)
        self._discovery = Discovery(address, resolver, found=self._take_over, missing=self._fail_unresolved)
        self._discovery.locate(address)

    def dial(self, relay: Relay) -> None:
        """Begin to find it an upstream; `answer` tells when there is one, or that there is none."""
        pool = self.pool
        if pool.ejector.out:
            pool.readmit(self._clock())
        seat = pool.reserve()
        if seat is not None:
            self._openings[relay] = Opening(self, seat, relay)
        elif pool.endpoints:
            self._answer(relay, None, Reason.POOL_EXHAUSTED, "")
        else:
            self._unresolved[relay] = None
            self._discovery.look_soon()

    def cancel(self, relay: Relay) -> None:
        """It needs no upstream any more."""
        self._unresolved.pop(relay, None)
        opening = self._openings.pop(relay, None)
        if opening is not None:
            opening.wanted = None
            opening.cancel()

    def ended(self, upstream: Side) -> None:
        """A connection to an upstream is over."""
        self._counters.connections_closed[upstream.close_reason or "peer"] += 1
        self.pool.drop(upstream.seat)  # type: ignore[arg-type]  # an upstream's end has one

    # --- for openings

    def fresh(self, seat: Seat[Side]) -> Side:
        """An end that is to be connected."""
        return Side(seat)

    def connect_failed(self, seat: Seat[Side], *, blame: bool) -> None:
        """An endpoint does not take connections; perhaps the name has others by now."""
        self._counters.connect_failures += 1
        if blame:
            self.pool.judge(seat, FAILURE, self._clock())
        self._discovery.look_soon()

    def settled(self, opening: Opening[Side], connection: Side | None, why: str) -> None:
        """An upstream is there, or will not be."""
        relay: Relay | None = opening.wanted
        if connection is not None:
            self._counters.connections_opened += 1
            if connection.seat is not None and connection.seat.failures:
                self.pool.judge(connection.seat, SUCCESS, self._clock())
            if relay is None:
                connection.close("aborted")
                self.ended(connection)
        if relay is not None:
            del self._openings[relay]
            self._answer(relay, connection, Reason.CONNECT_FAILURE, why)

    # --- addresses

    def _take_over(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.pool.replace_endpoints(endpoints)
        waiting, self._unresolved = list(self._unresolved), {}
        for relay in waiting:
            self.dial(relay)

    def _fail_unresolved(self, why: str) -> None:
        waiting, self._unresolved = list(self._unresolved), {}
        for relay in waiting:
            self._answer(relay, None, Reason.NO_ENDPOINT, why)

    # --- configuration and end

    def configure(
        self,
        address: Address,
        policy: PoolPolicy,
        *,
        size: int,
        connect_timeout: float,
        tls: Tls | None,
        endpoints: EndpointBreakerPolicy,
    ) -> None:
        """Take over new values for connections opened from now on."""
        self.connector.configure(timeout=connect_timeout, tls=tls)
        self.pool.configure(_sized(policy, size), endpoints)
        if address != self._discovery.address:
            self._discovery.locate(address)

    def close(self) -> None:
        """Open nothing any more."""
        self._discovery.close()
        self.connector.close()
        for relay in list(self._openings):
            self.cancel(relay)

    def __repr__(self) -> str:
        return f"<Dialer {self._discovery.address.host} {self.pool!r}>"


def _sized(policy: PoolPolicy, size: int) -> PoolPolicy:
    return msgspec.structs.replace(policy, size=size)
