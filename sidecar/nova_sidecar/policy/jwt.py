"""Who may come in, as a token says: its claims judged against what the service accepts (RFC 7519, RFC 8725).

What is cheap is asked first: a token of a foreign issuer, for another audience or past its time is refused before its
signature costs anything. Nobody learns anything by that, since all of it stands in the token they have sent. Only when
the signature holds too is a claim believed.

Rules:

* A token has iss, and exp as a number of seconds; nbf counts where it is there. A time that is no finite number, or a
  boolean, is no time.
* The clocks may differ by the leeway, but what is remembered of a token is forgotten at its exp, without it.
* What the app gets as a header is the claim, letter by letter. A claim that would not arrive as what it is (a line
  break, white space around it, a comma inside of an item of a list) makes the token useless here: the app must not act
  for somebody else of nearly the same name. Text goes as UTF-8.
* An open path is open only as it is written. A path that an app could take for another one (`..`, `//`, `%`, `;`, a
  backslash) needs a token, whatever it begins with.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, NamedTuple

from nova_api.request_policies.jwt import ANY, JwtIssuer, JwtPolicy
from nova_sidecar.policy.jws import Fault

LONGEST_VALUE: Final = 4096
"""Bytes of a claim in a header."""
_LATEST: Final = 1e11
"""Seconds since the epoch that may stand in a token (the year 5138): further ones are milliseconds, or nonsense."""
_WORDS: Final = frozenset(("scope", "scp"))
"""Claims whose text is a list of words (RFC 8693 section 4.2)."""
_AMBIGUOUS: Final = ("%", "\\", "//", "/./", "/../", ";")
_CONTROL: Final = bytes(range(0x20)) + b"\x7f"
_WORDS_OF: Final[dict[Fault, str]] = {
    Fault.OVERSIZED: "the token is too long",
    Fault.MALFORMED: "the token is malformed",
    Fault.ALGORITHM: "the token is signed in a way that is not accepted",
    Fault.ISSUER: "the token is not from an issuer that is accepted",
    Fault.KEY: "the token is signed with an unknown key",
    Fault.SIGNATURE: "the signature of the token does not hold",
    Fault.EXPIRED: "the token has expired",
    Fault.NOT_YET_VALID: "the token is not valid yet",
    Fault.AUDIENCE: "the token is for another audience",
    Fault.CLAIM: "the token lacks a claim, or has one that cannot be used",
    Fault.REVOKED: "the token was revoked",
}


class Verdict(NamedTuple):
    """What is known of a token that is valid."""

    subject: bytes
    """Its sub, behind its issuer and a space where several issuers could mean somebody else by it."""
    claims: Mapping[str, Any]
    lines: bytes
    """The field lines that the app gets, each ending in CRLF."""
    until: float
    """Seconds since the epoch at which the token expires."""
    token_id: str
    """Its jti, "" without one."""
    issuer: str = ""
    thumbprint: bytes = b""
    """Of the key that has signed it."""


class TokenRules:
    """What a service accepts. Times are seconds since the epoch."""

    __slots__ = ("_headers", "_issuers", "_leeway", "_required", "_revoked_ids", "_revoked_subjects")

    def __init__(self, policy: JwtPolicy) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in policy.issuers}
        self._leeway = float(policy.leeway)
        self._required = [(one.claim, frozenset(one.values)) for one in policy.required_claims]
        self._headers = [(one.claim, one.header.encode()) for one in policy.claim_headers]
        self._revoked_ids = frozenset(policy.revoked.ids)
        self._revoked_subjects = frozenset(policy.revoked.subjects)

    def issuer_of(self, claims: Mapping[str, Any]) -> JwtIssuer | None:
        """Whose token it says it is."""
        said = claims.get("iss")
        return self._issuers.get(said) if isinstance(said, str) else None

    def judge(self, claims: Mapping[str, Any], algorithm: str, now: float) -> Verdict | Fault:
        """What is to be said of a token whose signature holds; its signature is somebody else's to check."""
        issuer = self.issuer_of(claims)
        if issuer is None:
            return Fault.ISSUER
        if algorithm not in issuer.algorithms:
            return Fault.ALGORITHM
        fault = self._when(claims, now) or self._for_whom(claims, issuer) or self._what(claims)
        return fault or self._verdict(claims, issuer.issuer)

    def _verdict(self, claims: Mapping[str, Any], issuer: str) -> Verdict | Fault:
        subject, token_id = claims.get("sub", ""), claims.get("jti", "")
        if not isinstance(subject, str) or not isinstance(token_id, str):
            return Fault.MALFORMED
        if token_id in self._revoked_ids or subject in self._revoked_subjects:
            return Fault.REVOKED
        lines = self._lines(claims)
        text = _value(subject) if subject else b""
        if lines is None or text is None:
            return Fault.CLAIM
        if text and len(self._issuers) > 1:
            text = b"%b %b" % (issuer.encode(), text)
        return Verdict(text, claims, lines, float(claims["exp"]), token_id, issuer)

    def _when(self, claims: Mapping[str, Any], now: float) -> Fault | None:
        ends = _time(claims.get("exp"))
        if ends is None:
            return Fault.CLAIM if "exp" not in claims else Fault.MALFORMED
        if now >= ends + self._leeway:
            return Fault.EXPIRED
        if "nbf" in claims:
            begins = _time(claims["nbf"])
            if begins is None:
                return Fault.MALFORMED
            if now < begins - self._leeway:
                return Fault.NOT_YET_VALID
        return None

    def _for_whom(self, claims: Mapping[str, Any], issuer: JwtIssuer) -> Fault | None:
        if ANY in issuer.audiences:
            return None
        said = claims.get("aud")
        named = said if isinstance(said, list) else [said]
        return None if any(one in issuer.audiences for one in named if isinstance(one, str)) else Fault.AUDIENCE

    def _what(self, claims: Mapping[str, Any]) -> Fault | None:
        for name, wanted in self._required:
            said = claims.get(name)
            if said is None:
                return Fault.CLAIM
            if wanted and wanted.isdisjoint(_said(name, said)):
                return Fault.FORBIDDEN
        return None

    def _lines(self, claims: Mapping[str, Any]) -> bytes | None:
        """The headers for the app; None where a claim cannot be one."""
        lines = b""
        for claim, header in self._headers:
            said = claims.get(claim)
            if said is None or said in ("", []):
                continue
            value = _value(said)
            if value is None:
                return None
            lines += b"%b: %b\r\n" % (header, value)
        return lines

    def __repr__(self) -> str:
        return f"<TokenRules issuers={len(self._issuers)}>"


class OpenPaths:
    """Which paths need no token."""

    __slots__ = ("_beginnings", "_whole")

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._whole = frozenset(path for path in paths if not path.endswith("*"))
        self._beginnings = tuple(path[:-1] for path in paths if path.endswith("*"))

    def has(self, path: str) -> bool:
        """Whether this one does not. `path` as it came, without the query string."""
        if path in self._whole:
            return True
        if not self._beginnings or not path.startswith(self._beginnings):
            return False
        return not any(part in path for part in _AMBIGUOUS) and not path.endswith(("/.", "/.."))


def challenge(fault: Fault, realm: str) -> bytes:
    """The field that tells a client what is wrong (RFC 6750 section 3): just the scheme where there was no token, the
    kind of error and a sentence where there was one. None of it is the client's own words."""
    line = f'www-authenticate: Bearer realm="{realm}"'
    if fault is Fault.FORBIDDEN:
        line += ', error="insufficient_scope", error_description="the token does not allow this"'
    elif fault in _WORDS_OF:
        line += f', error="invalid_token", error_description="{_WORDS_OF[fault]}"'
    return line.encode("ascii") + b"\r\n"


def bearer(value: bytes) -> bytes | None:
    """The token in an Authorization field (RFC 6750 section 2.1); None where it has credentials of another kind."""
    scheme, space, token = value.partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return token.lstrip(b" ") if space else b""


def cookie(value: bytes, name: bytes) -> bytes | Fault | None:
    """The token in a Cookie field (RFC 6265 section 5.4). A name that comes twice could be read in two ways: a
    neighbouring host may have put one of them there."""
    found: bytes | None = None
    for pair in value.replace(b",", b";").split(b";"):
        key, equals, text = pair.strip(b" \t").partition(b"=")
        if equals and key == name:
            if found is not None:
                return Fault.MALFORMED
            found = text.strip(b'"')
    return found


def spellings(header: bytes) -> bytes:
    """The name under which all spellings of a header are one: apps that take their names from CGI see hyphens and
    underscores alike (RFC 3875 section 4.1.18)."""
    return header.lower().replace(b"_", b"-")


def _time(said: object) -> float | None:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    try:
        found = float(said)
    except OverflowError:
        return None
    return found if isfinite(found) and 0 <= found < _LATEST else None


def _said(name: str, claim: object) -> frozenset[str]:
    """The values of a claim."""
    if isinstance(claim, list):
        return frozenset(one for one in claim if isinstance(one, str))
    if isinstance(claim, bool):
        return frozenset(("true" if claim else "false",))
    if isinstance(claim, str):
        return frozenset(claim.split(" ")) if name in _WORDS else frozenset((claim,))
    return frozenset((str(claim),)) if isinstance(claim, int) else frozenset()


def _value(claim: object) -> bytes | None:
    """A claim as the value of a header; None where it would not arrive as what it is."""
    if isinstance(claim, list):
        items = [_value(one) if isinstance(one, str) else None for one in claim]
        whole = [one for one in items if one is not None and b"," not in one]
        found = b",".join(whole) if len(whole) == len(claim) else None
        return found if found is not None and len(found) <= LONGEST_VALUE else None
    if isinstance(claim, bool):
        return b"true" if claim else b"false"
    if isinstance(claim, int | float):
        claim = "" if isinstance(claim, float) and not isfinite(claim) else str(claim)
    if not isinstance(claim, str):
        return None
    try:
        text = claim.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    if not text or len(text) > LONGEST_VALUE or len(text.translate(None, _CONTROL)) != len(text):
        return None
    return text if text.strip() == text else None
