"""What is counted of notifications: what people were told, and what they read; no label says who."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from nova_services.notification.notices import KINDS, Kind

_LABELS: Final[dict[Kind, str]] = {kind: kind.removeprefix("KIND_").lower() for kind in KINDS}


class NotificationMetrics:
    """`nova_notification_*`; every series is there with zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._made = Counter(
            "nova_notification_notifications", "Notifications that were made.", ("kind",), registry=registry
        )
        self._spared = Counter(
            "nova_notification_spared",
            "Notifications that were not made, as the same is unread, or somebody is erased.",
            ("kind",),
            registry=registry,
        )
        self._read = Counter("nova_notification_read", "Notifications that were read.", registry=registry)
        for label in _LABELS.values():
            self._made.labels(label)
            self._spared.labels(label)

    def told(self, kind: Kind, *, new: bool) -> None:
        """An event told somebody of something."""
        (self._made if new else self._spared).labels(_LABELS[kind]).inc()

    def read(self, count: int) -> None:
        """So many were read."""
        self._read.inc(count)
