"""What policies have found out about a request and later ones rely on: who asks, and for whom.

Nothing here comes from a caller unchecked: a fact is set by the filter that has verified it. One object stands for a
request of which nothing is known, so that it costs nothing until there is something.
"""

from collections.abc import Mapping
from typing import Any, Final

_NOTHING: Final[Mapping[str, Any]] = {}


class Facts:
    """Never changed once it is a request's. `subject` and `tenant` are b"" where they are not known, `claims` is empty
    where there was no token."""

    __slots__ = ("claims", "subject", "tenant")

    def __init__(self, subject: bytes = b"", tenant: bytes = b"", claims: Mapping[str, Any] = _NOTHING) -> None:
        self.subject = subject
        """Whom a verified token is about (RFC 7519 section 4.1.2), with its issuer where there are several."""
        self.tenant = tenant
        self.claims = claims
        """All claims of a verified token."""

    def with_tenant(self, tenant: bytes) -> "Facts":
        """The same, for a tenant that has been found since."""
        return Facts(self.subject, tenant, self.claims)

    def __repr__(self) -> str:
        return (
            f"<Facts subject={'known' if self.subject else 'unknown'} tenant={'known' if self.tenant else 'unknown'}>"
        )


UNKNOWN: Final = Facts()
"""Of a request about which nothing has been verified."""
