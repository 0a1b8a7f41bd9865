"""`rateLimit`: how many requests in a time each client, key or subject may make."""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api import patterns
from nova_api.forms import Name
from nova_api.model import Model, Rule, unique
from nova_api.policies import HeaderName, Mode
from nova_api.units import Duration

Permits = Annotated[int, Meta(ge=1, le=1_000_000)]
Cidr = Annotated[str, Meta(pattern=patterns.CIDR, max_length=43)]
ClaimName = Annotated[str, Meta(pattern=patterns.CLAIM, max_length=128)]
PathPattern = Annotated[str, Meta(pattern=patterns.PATH, max_length=256)]
MethodName = Annotated[str, Meta(pattern=patterns.METHOD, max_length=32)]
Scope = Literal["Local", "Global"]

WHOLE_SECONDS = Rule(
    cel="duration(self.period) >= duration('1s') && duration(self.period) <= duration('24h')"
    " && duration(self.period).getMilliseconds() % 1000 == 0",
    message="period must be whole seconds, from 1s to 24h",
    holds=lambda s: 1 <= s.period <= 86_400 and float(s.period).is_integer(),
)


class ClientAddress(Model, frozen=True, kw_only=True):
    """Which address is the client's. Without trustedProxies and trustedCidrs it is that of whoever opened the
    connection, whatever the request says."""

    trusted_proxies: Annotated[int, Meta(ge=0, le=16)] = 0
    """Proxies between the client and the pod, each of which adds to the header the address it was called from. With
    2, the last but one address in the header is the client's; a request with fewer came past them and counts for
    whoever opened the connection."""

    trusted_cidrs: Annotated[tuple[Cidr, ...], Meta(max_length=64)] = ()
    """In place of their number the networks of the proxies: the client is the last address that is in none of them."""

    header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """Where the proxies add it; forwarded is that of RFC 7239."""

    ipv6_prefix: Annotated[int, Meta(ge=32, le=128)] = 64
    """Bits of an IPv6 address that make a client: whoever has one address of a /64 has all of them."""

    rules = (
        Rule(
            cel="self.trustedProxies == 0 || !has(self.trustedCidrs) || size(self.trustedCidrs) == 0",
            message="trustedProxies and trustedCidrs exclude each other",
            holds=lambda s: not (s.trusted_proxies and s.trusted_cidrs),
        ),
    )


class RateLimit(Model, frozen=True, kw_only=True):
    """One limit: rate requests in a period for each client, or for each value of a header or of a claim. It is a token
    bucket: burst requests may come at once, and then as many as the rate gives back."""

    key = "name"

    name: Name
    """Name of the rule, unique in the service; callers see it in the header RateLimit."""

    by: Literal["Client", "Header", "Claim", "All"] = "Client"
    """Client: each address. Header: each value of `header`. Claim: each value of `claim` of a verified token. All: the
    rule's requests together."""

    header: HeaderName | None = None
    """Header in lower case, such as x-api-key; only a hash of its value is kept. Nobody verifies it, and whoever
    invents values has a bucket for each: set a limit by Client beside it."""

    claim: ClaimName | None = None
    """Claim such as sub or tenant; needs `jwt`."""

    missing: Literal["Client", "Skip"] = "Client"
    """What a request without the header or claim counts for: its client's address, or nothing."""

    paths: Annotated[tuple[PathPattern, ...], Meta(max_length=64)] = ()
    """Paths, or gRPC methods (/package.Service/Method), that it is for; one that ends in * stands for all that begin
    so. Case, encoding, doubled slashes, dots and parameters make no difference. All when left out."""

    methods: Annotated[tuple[MethodName, ...], Meta(max_length=16)] = ()
    """HTTP methods that it is for; GET stands for HEAD too. All when left out."""

    rate: Permits
    """Requests in a period."""

    period: Duration = Duration(1)
    """The period; whole seconds."""

    burst: Permits | None = None
    """Requests that may come at once; as many as the rate when left out."""

    scope: Scope = "Local"
    """Local: each pod counts for itself. Global: all pods together, in `redis`."""

    rules = (
        WHOLE_SECONDS,
        Rule(
            cel="(self.by == 'Header') == has(self.header) && (self.by == 'Claim') == has(self.claim)",
            message="by Header needs header, by Claim needs claim, and neither goes with anything else",
            holds=lambda s: (s.by == "Header") == (s.header is not None) and (s.by == "Claim") == (s.claim is not None),
        ),
    )


class RateLimitPolicy(Model, frozen=True, kw_only=True):
    """Refuses what a client, a key or a subject asks for beyond its rate (429, gRPC RESOURCE_EXHAUSTED)."""

    mode: Mode = "Off"
    """Off, Shadow (counts what it would refuse) or Enforce."""

    limits: Annotated[tuple[RateLimit, ...], Meta(max_length=16)] = ()
    """The limits; a request counts for each that it matches, and all must let it pass."""

    client: ClientAddress = ClientAddress()
    """Which address is the client's."""

    headers: bool = True
    """Whether responses have RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10)."""

    max_keys: Annotated[int, Meta(ge=64, le=1_000_000)] = 10_000
    """Clients, keys and subjects that each sidecar keeps apart; beyond it new ones share buckets, about 250 bytes each.
    One that has asked for nothing lately needs none."""

    rules = (
        unique("limits: names must be unique", "name", of="limits"),
        Rule(
            cel="self.mode == 'Off' || (has(self.limits) && size(self.limits) > 0)",
            message="mode needs at least one of limits, or there is nothing to do",
            holds=lambda s: s.mode == "Off" or len(s.limits) > 0,
        ),
    )
