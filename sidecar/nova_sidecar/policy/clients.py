"""Which address is a client's: that of whoever opened the connection, or the part of a header that can be trusted.

Proxies append the address they were called from to ``x-forwarded-for`` (or ``forwarded``, RFC 7239), so the list grows
to the right and its left end is whatever the client wrote. Only what a trusted proxy appended counts: the list is read
from the right, beginning with the connection's own peer, and never beyond the first address that no trusted proxy
vouches for. Where something stands there that is no address, reading stops and the last proxy itself is the client:
whoever hides an address shares the bucket of all who do.

A sibling pod that hands a request over (session affinity) is one more proxy, which appends the client to
``x-forwarded-for`` as every sidecar does. It is known by its address; the mark that such requests carry could be
written by anybody.
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from nova_api.request_policies.rate_limit import ClientAddress

FORWARDED_FOR: Final = b"x-forwarded-for"
FORWARDED: Final = b"forwarded"

_MOST: Final = 32
"""Addresses of a header that are looked at, from its end."""
_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 256
_FOR: Final = re.compile(r'(?:\A|;)[ \t]*for[ \t]*=[ \t]*(?:"([^"]*)"|([^";, \t]*))', re.IGNORECASE)
_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.%a-z]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


class ClientAddresses:
    """Turns who called into the key of a bucket: the packed address, of IPv6 its first bits.

    A caller that was seen before costs 0.2 µs. `siblings` tells whether an address is another pod of the service.
    """

    __slots__ = ("_field", "_hops", "_known", "_mask", "_networks", "_siblings")

    def __init__(self, policy: ClientAddress, siblings: Callable[[str], bool]) -> None:
        self._hops = policy.trusted_proxies
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(cidr, strict=False) for cidr in policy.trusted_cidrs
        ]
        self._field = policy.header.encode()
        self._mask = (1 << 128) - (1 << (128 - policy.ipv6_prefix))
        self._siblings = siblings
        self._known: dict[tuple[str, bytes], bytes] = {}

    def key(self, peer: str, captured: Mapping[bytes, bytes], handed_over: bool) -> bytes:
        """The client of a request that came from `peer` with these fields; `handed_over`: it says that it comes from a
        sibling."""
        header = captured.get(self._field, b"") if self._hops or self._networks else b""
        if handed_over and self._siblings(peer):
            appended = captured.get(FORWARDED_FOR, b"")
            before, _, last = appended.rpartition(b",")
            peer = last.strip(b" \t").decode("latin-1") or peer
            if header and self._field == FORWARDED_FOR:
                header = before
        asked = (peer, header)
        found = self._known.get(asked)
        if found is None:
            found = self._packed(peer, header)
            if len(header) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[asked] = found
        return found

    def _packed(self, peer: str, header: bytes) -> bytes:
        client = parse(peer)
        if client is None:
            return peer.encode()
        if self._networks:
            client = self._beyond_networks(client, header)
        elif self._hops:
            client = self._beyond_hops(client, header)
        if isinstance(client, IPv6Address):
            return (int(client) & self._mask).to_bytes(16, "big")
        return client.packed

    def _beyond_hops(self, peer: IPv4Address | IPv6Address, header: bytes) -> IPv4Address | IPv6Address:
        """The address that the farthest trusted proxy was called from; `peer` where there are fewer."""
        named = self._named(header)
        if len(named) < self._hops:
            return peer
        client = parse(named[self._hops - 1])
        return peer if client is None else client

    def _beyond_networks(self, peer: IPv4Address | IPv6Address, header: bytes) -> IPv4Address | IPv6Address:
        """The last address that is in none of the proxies' networks."""
        client = peer
        for text in self._named(header):
            if not any(client in network for network in self._networks):
                break
            above = parse(text)
            if above is None:
                break
            client = above
        return client

    def _named(self, header: bytes) -> list[str]:
        """The addresses of the header, the last one first."""
        text = header.decode("latin-1")
        if not text.strip():
            return []
        members = text.rsplit(",", _MOST)[-_MOST:]
        if self._field == FORWARDED:
            members = [_for(member) for member in members]
        return [member.strip() for member in reversed(members)]


def _for(member: str) -> str:
    """Whom a member of `forwarded` says it is for, "" where it does not. No address holds a comma, so that members end
    at each one, within quotes too: whoever opens a quote and leaves it open cannot hide what a proxy appends."""
    found = _FOR.search(member)
    return (found[1] or found[2] or "") if found is not None else ""


def parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without a port; None for what is none. IPv4 within IPv6 (::ffff:192.0.2.1) is IPv4."""
    match = _WITH_PORT.fullmatch(text)
    if match is not None:
        text = match[1] or match[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
