"""`spec.jwt`: who may call the service, as a signed token says (RFC 7519), and what of it the app is told.

Three choices are made here and not left to the user, since each has been the way in somewhere (RFC 8725): algorithms
are asymmetric, so that who can verify cannot sign; a token without an end (`exp`) is none; and which audience it is for
must be said, if only that any will do.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta

from nova_api import patterns
from nova_api.forms import SecretName
from nova_api.model import Model, Rule, stored, unique
from nova_api.policies import HeaderName, Mode
from nova_api.units import Duration

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
]  # fmt: skip
"""Of RFC 7518 and RFC 8037 (Ed25519 alone) what is asymmetric; RFC 9864 calls EdDSA on that curve Ed25519."""

Text = Annotated[str, Meta(min_length=1, max_length=512)]
ClaimName = Annotated[str, Meta(min_length=1, max_length=128)]
Base64Url = Annotated[str, Meta(pattern=patterns.BASE64URL, max_length=1366)]
OpenPath = Annotated[str, Meta(pattern=patterns.PATH, max_length=256)]

ANY: Final = "*"
"""Stands for every audience, and for none at all."""

RESERVED: Final = (
    "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie", "correlation-id",
    "date", "expect", "forwarded", "grpc-timeout", "host", "idempotency-key", "keep-alive", "proxy-authorization",
    "proxy-connection", "te", "trailer", "traceparent", "tracestate", "transfer-encoding", "upgrade", "via",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-nova-attempt",
    "x-nova-deadline-ms", "x-nova-fallback", "x-nova-handed-over", "x-nova-priority", "x-nova-reject", "x-nova-retried",
)  # fmt: skip
"""Fields that frame, route, authenticate or trace a request, or are the sidecar's own: a claim in their place would
break requests, and theirs would pass for a claim."""

_FRAMING: Final = ("connection", "content-length", "cookie", "host", "te", "transfer-encoding", "upgrade")


class Jwk(Model, frozen=True, kw_only=True):
    """A public key (RFC 7517): n and e of an RSA key, crv, x and y of an EC key, crv and x of an Ed25519 key."""

    kty: Literal["RSA", "EC", "OKP"]
    """Kind of key."""

    kid: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """Name under which tokens speak of it; a token without one is tried with every key of its kind."""

    use: Literal["sig"] | None = None
    """What it is for; only keys that verify belong here."""

    alg: Algorithm | None = None
    """The only algorithm it is used with; any of the issuer's that fits it when left out."""

    n: Annotated[str, Meta(pattern=patterns.BASE64URL, min_length=342, max_length=1366)] | None = None
    """RSA: the modulus, 2048 to 8192 bits. Write the name in quotes, "n": YAML reads it as false."""

    e: Base64Url | None = None
    """RSA: the exponent."""

    crv: Literal["P-256", "P-384", "P-521", "Ed25519"] | None = None
    """EC and OKP: the curve."""

    x: Base64Url | None = None
    """EC and OKP: the first coordinate, or the key itself."""

    y: Base64Url | None = None
    """EC: the second coordinate. Write the name in quotes, "y": YAML reads it as true."""

    rules = (
        Rule(
            cel="self.kty == 'RSA' ? has(self.n) && has(self.e) && !has(self.crv) && !has(self.x) && !has(self.y)"
            " : !has(self.n) && !has(self.e) && has(self.x) && has(self.crv) && (self.kty == 'OKP'"
            " ? self.crv == 'Ed25519' && !has(self.y) : self.crv != 'Ed25519' && has(self.y))",
            message="an RSA key has n and e; an EC key crv (P-256, P-384 or P-521), x and y; an OKP key crv (Ed25519)"
            " and x",
            holds=lambda s: _has_its_parts(s),  # noqa: PLW0108 - it is defined below, where it can name the type
        ),
    )


class JwtIssuer(Model, frozen=True, kw_only=True):
    """Somebody whose tokens are accepted."""

    key = "issuer"

    issuer: Text
    """What stands in a token's iss, letter by letter; unique."""

    jwks_url: Annotated[str, Meta(pattern=patterns.URL, max_length=512)] | None = None
    """Where the issuer's public keys are (RFC 7517 section 5). Of jwksUrl and keys an issuer has one."""

    secret: SecretName | None = None
    """Secret in the service's namespace with ca.crt, by which the host of jwksUrl is known; tls.crt and tls.key, where
    it asks for a client certificate. Without ca.crt the image's public authorities count."""

    keys: Annotated[tuple[Jwk, ...], Meta(max_length=16)] = ()
    """The public keys themselves."""

    audiences: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=16)]
    """Of these a token must name one in aud. "*": any, or none; then a token for another service is good here too."""

    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1, max_length=11)] = (
        "RS256", "PS256", "ES256", "EdDSA", "Ed25519",
    )  # fmt: skip
    """What its tokens may be signed with. Each key is used with algorithms of its own kind alone."""

    refresh: Duration = Duration(300)
    """How often the keys are fetched again; while that fails those there are go on."""

    stale_for: Duration = Duration(86_400)
    """How long keys are used when they can no longer be fetched."""

    rules = (
        Rule(
            cel="has(self.jwksUrl) != (has(self.keys) && size(self.keys) > 0)",
            message="exactly one of jwksUrl and keys must be set",
            holds=lambda s: (s.jwks_url is not None) != bool(s.keys),
        ),
        Rule(
            cel="!has(self.secret) || (has(self.jwksUrl) && self.jwksUrl.startsWith('https://'))",
            message="secret is for a jwksUrl that begins with https://",
            holds=lambda s: s.secret is None or (s.jwks_url or "").startswith("https://"),
        ),
        Rule(
            cel="duration(self.refresh) >= duration('10s') && duration(self.staleFor) >= duration(self.refresh)",
            message="refresh must be at least 10s, and staleFor at least as long",
            holds=lambda s: 10 <= s.refresh <= s.stale_for,
        ),
    )


class RequiredClaim(Model, frozen=True, kw_only=True):
    """Something that a token must say."""

    key = "claim"

    claim: ClaimName
    """Name of the claim."""

    values: Annotated[tuple[Text, ...], Meta(max_length=32)] = ()
    """Of these it must have one: as its text, as an item of its list, or, for scope and scp, as one of its words. Left
    out: it must only be there. A token that lacks the claim is refused with 401, one with other values with 403."""


class ClaimHeader(Model, frozen=True, kw_only=True):
    """A claim that the app gets as a header."""

    key = "header"

    claim: ClaimName
    """Name of the claim: a text, a number, a boolean, or a list of texts, whose items are joined by commas."""

    header: HeaderName
    """Header that has it, in lower case. Whoever else sets it, in whatever spelling, is not believed."""

    rules = (
        Rule(
            cel=f"!(self.header in [{', '.join(repr(name) for name in RESERVED)}])",
            message="header must not be one that frames, routes, authenticates or traces requests, nor Nova's own",
            holds=lambda s: s.header not in RESERVED,
        ),
    )


class JwtSource(Model, frozen=True, kw_only=True):
    """Where the token is in a request."""

    header: HeaderName = "authorization"
    """Header with the token, in lower case. In authorization it stands after the word Bearer (RFC 6750), in others it
    may."""

    cookie: Annotated[str, Meta(pattern=patterns.COOKIE, max_length=64)] | None = None
    """Cookie with the token, for requests that have none in the header."""

    rules = (
        Rule(
            cel="!(self.header in ['connection', 'content-length', 'cookie', 'host', 'te', 'transfer-encoding',"
            " 'upgrade'])",
            message="header must not be one that frames or routes requests; a cookie has a field of its own",
            holds=lambda s: s.header not in _FRAMING,
        ),
    )


class RevokedTokens(Model, frozen=True, kw_only=True):
    """Tokens that are no longer accepted though they have not expired. A change applies within seconds, to tokens that
    are remembered too."""

    ids: Annotated[tuple[Text, ...], Meta(max_length=1024)] = ()
    """Tokens by their jti."""

    subjects: Annotated[tuple[Text, ...], Meta(max_length=1024)] = ()
    """All tokens of whom sub names."""


class JwtCache(Model, frozen=True, kw_only=True):
    """What is remembered of tokens, so that most requests cost no check of a signature. Never longer than until exp."""

    entries: Annotated[int, Meta(ge=0, le=1_000_000)] = 4096
    """Tokens that a sidecar remembers; the least recently used leave. About 3 KB each; 0: none."""

    refused_entries: Annotated[int, Meta(ge=0, le=1_000_000)] = 1024
    """Refused tokens that it remembers, apart from the others, so that they push out none of them."""

    lifetime: Duration = Duration(300)
    """Longest time that a token is remembered, here and in Redis."""

    redis: Literal["Off", "Auto", "Always"] = "Auto"
    """What spec.redis is for. Off: nothing. Auto: sidecars tell each other there which signatures they have verified,
    and ask where that is quicker than verifying, or the keys are not to be had. Always: they ask every time."""


class JwtPolicy(Model, frozen=True, kw_only=True):
    """Lets only requests with a valid token through to the app, and tells it who sends them."""

    mode: Mode = "Enforce"
    """Off, Shadow (counts what it would refuse) or Enforce."""

    issuers: Annotated[tuple[JwtIssuer, ...], Meta(min_length=1, max_length=8)]
    """Whose tokens are accepted."""

    source: JwtSource = JwtSource()
    """Where the token is in a request."""

    leeway: Duration = Duration(30)
    """How far the clocks of issuer and pod may differ, for exp and nbf."""

    max_token_bytes: Annotated[int, Meta(ge=256, le=16_384)] = 8192
    """Longest token that is looked at."""

    required_claims: Annotated[tuple[RequiredClaim, ...], Meta(max_length=16)] = ()
    """What a token must say besides iss, aud and exp."""

    open_paths: Annotated[tuple[OpenPath, ...], Meta(max_length=64)] = ()
    """Paths and gRPC methods (/package.Service/Method) that need no token; one that ends in * stands for all that begin
    so. A path that may mean another one to the app (with %, //, /../, ; or a backslash) is never open."""

    open_preflight: bool = False
    """Whether a browser's question before a cross-origin request (OPTIONS with Origin and
    Access-Control-Request-Method), which never has a token, goes to the app."""

    claim_headers: Annotated[tuple[ClaimHeader, ...], Meta(max_length=16)] = (
        ClaimHeader(claim="sub", header="x-nova-subject"),
    )
    """Claims that the app gets as headers."""

    revoked: RevokedTokens = RevokedTokens()
    """Tokens that are no longer accepted."""

    cache: JwtCache = JwtCache()
    """What is remembered of tokens."""

    rules = (
        Rule(
            cel="duration(self.leeway) <= duration('5m')"
            " && (!has(self.cache) || duration(self.cache.lifetime) > duration('0s'))",
            message="leeway must be at most 5m, and cache.lifetime longer than 0s",
            holds=lambda s: s.leeway <= 300 and s.cache.lifetime > 0,
        ),
        unique("issuers: each issuer must be listed once", "issuer", of="issuers"),
        unique("requiredClaims: each claim must be listed once", "claim", of="required_claims"),
        unique("claimHeaders: each header must be listed once", "header", of="claim_headers"),
        Rule(
            cel="!has(self.claimHeaders) || self.claimHeaders.all(c, c.header != "
            + stored(JwtSource, "header", at="self.source")
            + ")",
            message="claimHeaders: the header that the token comes in cannot be one of them",
            holds=lambda s: all(one.header != s.source.header for one in s.claim_headers),
        ),
    )


def _has_its_parts(key: Jwk) -> bool:
    rsa, curve = key.n is not None and key.e is not None, key.x is not None and key.crv is not None
    if key.kty == "RSA":
        return rsa and key.crv is None and key.x is None and key.y is None
    if key.n is not None or key.e is not None or not curve:
        return False
    return (
        (key.crv == "Ed25519" and key.y is None) if key.kty == "OKP" else (key.crv != "Ed25519" and key.y is not None)
    )
