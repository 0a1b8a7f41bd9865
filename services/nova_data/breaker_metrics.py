"""How a breaker is, and how often it moved, for Prometheus. Every series is there from the start."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from nova_data.breaker import STATES, Breaker


class BreakerMetrics:
    """`PREFIX_breaker_state` and `PREFIX_breaker_transitions_total`, of one breaker."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self._state = Gauge(
            f"{prefix}_breaker_state", "1 for the state that the breaker is in.", ("state",), registry=registry
        )
        self._transitions = Counter(
            f"{prefix}_breaker_transitions",
            "Times the breaker came into a state.",
            ("to_state",),
            registry=registry,
        )
        self._moves = dict.fromkeys(STATES, 0)
        for state in STATES:
            self._state.labels(state).set(state == "closed")
            self._transitions.labels(state)

    def show(self, breaker: Breaker) -> None:
        """It may have moved."""
        if breaker.transitions == self._moves:
            return
        for state in STATES:
            self._state.labels(state).set(state == breaker.state)
            self._transitions.labels(state).inc(breaker.transitions[state] - self._moves[state])
        self._moves = dict(breaker.transitions)
