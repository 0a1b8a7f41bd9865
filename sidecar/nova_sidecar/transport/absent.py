"""Stands in for a client that is not there: one that left while its call goes on for others, or none that ever was.

An exchange writes to it as to any other, and nothing comes of it. Only deadlines are real: a call that nobody waits for
at its own connection must end like every other.
"""

from math import inf
from typing import Any

from nova_sidecar.transport.downstream import DownstreamConnection
from nova_sidecar.transport.served import Service
from nova_sidecar.transport.wheel import Wheel


class _Nowhere:
    """A transport that takes everything at once."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Gone."""

    def write_eof(self) -> None:
        """There is no end to tell of."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """There is no socket."""
        return default

    def is_closing(self) -> bool:
        """It is neither open nor closed."""
        return False

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""

    def close(self) -> None:
        """There is nothing to close."""

    def abort(self) -> None:
        """There is nothing to break."""


class AbsentClient(DownstreamConnection):
    """See the module. `client` is the address of the one it stands in for, "" for none, `forwarded` its line."""

    __slots__ = ()

    def __init__(self, service: Service, wheel: Wheel, client: str = "", forwarded: bytes = b"") -> None:
        super().__init__(service, wheel)
        self.transport = _Nowhere()
        self.client = client
        self.forwarded = forwarded

    def finished(self, *, keep: bool) -> None:
        """The response is whole."""
        self._end()

    def abort(self) -> None:
        """The response will never be whole."""
        self._end()

    def _end(self) -> None:
        self.exchange = None
        self.deadline = inf
        self.wheel.remove(self)

    def __repr__(self) -> str:
        return f"<AbsentClient {self.client or 'of nobody'}>"
