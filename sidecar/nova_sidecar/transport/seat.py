"""One endpoint in a pool, as the pool and the connections to it share it."""

from typing import Generic, Literal, TypeVar

from nova_sidecar.policy.ejection import Health
from nova_sidecar.transport.endpoints import Endpoint

C = TypeVar("C")

CloseReason = Literal[
    "peer", "idle", "age", "requests", "error", "timeout", "aborted", "removed", "ejected", "shutdown"
]
"""Why a connection was closed: the other side did, a limit of the pool, broken HTTP, time, or what it was for."""


class Seat(Health, Generic[C]):
    """An endpoint: its idle connections, the last used at the end, and how many are open or being opened.

    `taken_away` is set when the upstream no longer has this endpoint; its connections are closed as they finish.
    """

    __slots__ = ("endpoint", "idle", "open", "taken_away")

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.idle: dict[C, None] = {}
        self.open = 0
        self.taken_away = False

    @property
    def active(self) -> int:
        """Connections that carry a request, or are being opened for one."""
        return self.open - len(self.idle)

    def __repr__(self) -> str:
        return f"<Seat {self.endpoint[0]}:{self.endpoint[1]} open={self.open} idle={len(self.idle)}>"
