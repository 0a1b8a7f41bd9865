"""Where an upstream lives: host names become addresses in the background, never while a request waits for DNS twice."""

from typing import NamedTuple, Protocol

Endpoint = tuple[str, int]
"""IP address and port."""


class ResolveError(Exception):
    """A host name that could not be resolved; the message names the host and what the name server said."""


class Resolution(NamedTuple):
    """The answer for one host: every address, and for how many seconds it may be used."""

    addresses: tuple[Endpoint, ...]
    ttl: float


class Resolver(Protocol):
    """Turns a host name into addresses. IP literals never reach it."""

    async def resolve(self, host: str, port: int) -> Resolution:
        """All addresses of a host, within the resolver's own deadline. Raises ResolveError."""
        ...
