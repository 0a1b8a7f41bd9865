"""What is counted of conversations: how many talk, come back and wait; no label says who."""

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nova_services.messaging.staying import CODES, Closed

_SENT: Final = ("stored", "repeated", "refused")
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class MessagingMetrics:
    """`nova_messaging_*`; every series is there with zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sockets = Gauge("nova_messaging_sockets", "WebSockets that are open.", registry=registry)
        self.reconnects = Counter(
            "nova_messaging_reconnects", "WebSockets whose client had read before (`after`).", registry=registry
        )
        self._closed = Counter(
            "nova_messaging_sockets_closed", "WebSockets that ended.", ("reason",), registry=registry
        )
        self._messages = Counter("nova_messaging_messages", "Messages that were sent.", ("result",), registry=registry)
        self.delivered = Counter(
            "nova_messaging_deliveries", "Messages that were written to a WebSocket.", registry=registry
        )
        self.delay = Histogram(
            "nova_messaging_delivery_seconds",
            "From storing a message to writing it to a WebSocket that was open by then.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.found = Counter(
            "nova_messaging_wakeups_missed", "WebSockets that were behind with nobody having told.", registry=registry
        )
        self._blocked = Counter(
            "nova_messaging_blocked", "Conversations and messages that a block refused.", registry=registry
        )
        self._unknown = Counter(
            "nova_messaging_blocks_unknown", "Questions for a block that users did not answer.", registry=registry
        )
        for reason in CODES:
            self._closed.labels(reason)
        for result in _SENT:
            self._messages.labels(result)

    def sent(self, result: Literal["stored", "repeated", "refused"]) -> None:
        """One more message; `refused` is one of somebody who is no member, or is kept from it by a block."""
        self._messages.labels(result).inc()

    def blocked(self) -> None:
        """A block refused something."""
        self._blocked.inc()

    def unknown_blocks(self) -> None:
        """users did not answer."""
        self._unknown.inc()

    def closed(self, reason: Closed) -> None:
        """One WebSocket less."""
        self._closed.labels(reason).inc()
