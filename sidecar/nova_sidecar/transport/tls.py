"""TLS to an upstream: whom the sidecar trusts, who it says it is, and both anew when the files change.

The upstream's certificate must be valid, lead to an authority, and have the server name in it, which is also sent as
SNI (RFC 6066 section 3); TLS 1.2 is the least. The files are those of a mounted Secret, under the names that
Kubernetes gives them: ca.crt for the authorities, tls.crt with tls.key for a client certificate. Each may be missing.

Kubernetes renews a mounted Secret by turning a symbolic link (kubernetes.io/docs/concepts/configuration/secret), so all
files change in one moment; what `stat` says of them is looked at every `PERIOD` seconds, outside of requests. New files
make a new context for connections opened from then on; those there are go on until they are renewed by age. Files that
cannot be used change nothing: the context before stays, and metric and log say so. Whoever reads between two looks may
get one file from before the turn and one from after; then they do not fit together, or the next look finds another
`stat` and reads again.
"""

import asyncio
import ssl
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

from nova_api.proxy import Tls
from nova_sidecar.telemetry.logs import get_logger
from nova_sidecar.transport.certificate import first_expiry
from nova_sidecar.transport.secretfiles import state_of

PERIOD: Final = 3.0
"""Seconds between two looks at the files."""

TlsFailure = Literal[
    "expired", "untrusted", "wrong_name", "refused", "not_tls", "protocol", "timeout", "closed", "files", "other"
]
"""Why there is no TLS connection; docs/connections.md explains each."""

FAILURES: Final[tuple[TlsFailure, ...]] = get_args(TlsFailure)

_CA, _CERTIFICATE, _KEY = "ca.crt", "tls.crt", "tls.key"
_FILES: Final = (_CA, _CERTIFICATE, _KEY)
_VERIFY_CODES: Final[dict[int, TlsFailure]] = {9: "expired", 10: "expired", 62: "wrong_name", 64: "wrong_name"}
"""X509_verify_cert_error_string(3): not yet valid, expired, host name and IP address mismatch."""
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE", "BAD_RECORD")
_PROTOCOL: Final = ("UNSUPPORTED_PROTOCOL", "ALERT_PROTOCOL_VERSION", "NO_APPLICATION_PROTOCOL")

State = tuple[tuple[int, int, int] | None, ...]


class TlsStats:
    """What is counted of TLS for one upstream. `used` is set once TLS is configured; then it is shown."""

    __slots__ = ("expiry", "failures", "reloads", "used")

    def __init__(self) -> None:
        self.used = False
        self.failures: dict[TlsFailure, int] = dict.fromkeys(FAILURES, 0)
        self.reloads = {"applied": 0, "refused": 0}
        """Changed files that were taken over, or were not because they cannot be used."""
        self.expiry: dict[str, float] = {}
        """End of validity by file, seconds since the epoch, of what is in use."""

    def failed(self, why: TlsFailure) -> None:
        """Count a handshake that came to nothing."""
        self.failures[why] += 1


class TlsClient:
    """The context for one upstream's connections, kept up to date until `close`.

    `context` is None as long as there have never been usable files; `broken` then says why.
    """

    __slots__ = ("_alpn", "_handle", "_loop", "_seen", "_stats", "broken", "context", "settings")

    def __init__(self, settings: Tls, alpn: str | None, stats: TlsStats) -> None:
        self._loop = asyncio.get_running_loop()
        self._alpn = alpn
        self._stats = stats
        self.settings = settings
        self.context: ssl.SSLContext | None = None
        self.broken = ""
        self._seen: State = ()
        self._handle: asyncio.TimerHandle | None = None
        stats.used = True
        if settings.directory:
            self._watch()
        else:
            self._build(Path())

    def close(self) -> None:
        """Look at the files no more."""
        if self._handle is not None:
            self._handle.cancel()

    def look(self) -> None:
        """Take over the files if they have changed."""
        directory = Path(self.settings.directory)
        state = tuple(state_of(directory / name) for name in _FILES)
        if state == self._seen:
            return
        first, self._seen = not self._seen, state
        try:
            self._build(directory)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._refuse(error)
            return
        self.broken = ""
        if not first:
            self._stats.reloads["applied"] += 1
            get_logger().info("certificates taken over", file=str(directory))

    def _watch(self) -> None:
        self.look()
        self._handle = self._loop.call_later(PERIOD, self._watch)

    def _refuse(self, error: Exception) -> None:
        """Bad files; what was in use before, if anything, stays."""
        self._stats.reloads["refused"] += 1
        why = _why_unusable(error)
        self.broken = f"the files in {self.settings.directory} cannot be used: {why}"
        get_logger().warning("certificates refused", file=self.settings.directory, error=why)

    def _build(self, directory: Path) -> None:
        """Make the context anew. Raises OSError or ValueError and changes nothing."""
        expiry: dict[str, float] = {}
        known = self.settings.directory != ""
        own = known and ((directory / _CERTIFICATE).exists() or (directory / _KEY).exists())
        if known and (directory / _CA).exists():
            authorities = (directory / _CA).read_text(encoding="ascii")
            context = _empty(self._alpn)
            context.load_verify_locations(cadata=authorities)
            expiry[_CA] = first_expiry(authorities)
        else:
            context = _public.__wrapped__(self._alpn) if own else _public(self._alpn)
        if own:
            # a password is never asked for: a terminal would be asked, and there is none
            context.load_cert_chain(directory / _CERTIFICATE, directory / _KEY, password=_no_password)
            expiry[_CERTIFICATE] = first_expiry((directory / _CERTIFICATE).read_text(encoding="ascii"))
        self.context, self._stats.expiry = context, expiry

    def __repr__(self) -> str:
        return f"<TlsClient {self.settings.server_name} {'broken' if self.context is None else 'ready'}>"


def failure_of(error: BaseException) -> TlsFailure:
    """The kind of a failed handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(error.verify_code, "untrusted")
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        reason = error.reason or ""
        if any(word in reason for word in _PROTOCOL):
            return "protocol"
        if "ALERT" in reason:
            return "refused"
        return "not_tls" if any(word in reason for word in _NOT_TLS) else "other"
    return "closed"


def words_of(error: BaseException) -> str:
    """What OpenSSL or the kernel says, without the places in their source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message.rstrip('.')}"
    if isinstance(error, TimeoutError):
        return "no handshake within the connect timeout"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "the connection was closed in the handshake").lower().replace("_", " ")
    if isinstance(error, OSError):
        return error.strerror or "the connection was closed in the handshake"
    return str(error) or "the connection was closed in the handshake"


def _why_unusable(error: Exception) -> str:
    """What is wrong with files, in words that have nothing of them in it."""
    if isinstance(error, FileNotFoundError):
        return f"expected {_CERTIFICATE} and {_KEY} together"
    if isinstance(error, UnicodeError) or (isinstance(error, ssl.SSLError) and not error.reason):
        return f"expected PEM in {_CA}, {_CERTIFICATE} and {_KEY}"
    return words_of(error)


def _empty(alpn: str | None) -> ssl.SSLContext:
    """A context that trusts nobody yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


@cache
def _public(alpn: str | None) -> ssl.SSLContext:
    """One that trusts the public authorities: 1.5 MB and up to 0.1 s, so all upstreams without a certificate of their
    own share it."""
    context = _empty(alpn)
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _no_password() -> str:
    raise ValueError("expected a key without a password (tls.key)")
