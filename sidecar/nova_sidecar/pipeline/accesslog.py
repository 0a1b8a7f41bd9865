"""Where the data path hands the entries of the access log to."""

from typing import Protocol

from nova_sidecar.telemetry.entry import AccessEntry


class AccessLog(Protocol):
    """Takes one entry per exchange; never blocks and never raises."""

    def record(self, entry: AccessEntry) -> None:
        """Keep an entry for writing. Called on the event loop, once per exchange, so it only appends."""
        ...
