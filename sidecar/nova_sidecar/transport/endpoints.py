"""Where an upstream lives: host names become addresses in the background, and the last known ones outlive a failure."""

import ipaddress
from itertools import chain, zip_longest
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


def literal(host: str, port: int) -> Endpoint | None:
    """The endpoint, where the host is an IP address already."""
    try:
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        return None


def interleaved(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """The same endpoints, the families in turn and the first one's first (RFC 8305 section 4): who tries the next
    one after a failure then tries the other family."""
    first = ":" in endpoints[0][0] if endpoints else False
    same = [endpoint for endpoint in endpoints if (":" in endpoint[0]) is first]
    other = [endpoint for endpoint in endpoints if (":" in endpoint[0]) is not first]
    pairs = chain.from_iterable(zip_longest(same, other))
    return tuple(endpoint for endpoint in pairs if endpoint is not None)
