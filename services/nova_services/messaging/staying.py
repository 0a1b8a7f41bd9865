"""How long a WebSocket may stay, and with what words it is closed. No I/O and no clock.

A WebSocket is opened with a token, and holds no longer than that: what a token may be asked for again and again, a
WebSocket would else go on with for ever. Closing costs little, since the client reads on from where it was.

    4401  token expired      get a new token, and come back with `after`
    4403  logged out         the login has ended or the account is closed: come back after another login
    4429  too many           of this user's WebSockets the oldest made room for another one: do not come back unasked
    1012, 1013, 1011, 1000   see `chat`

Codes from 4000 are an application's own (RFC 6455 section 7.4.2); these end as the statuses of HTTP for the same do.
"""

from typing import Final, Literal, NamedTuple

Closed = Literal["left", "slow", "ending", "failed", "expired", "logged_out", "crowded"]
"""By the client; by us, since it did not read, the process ends, something went wrong, its token has expired, its login
has ended, or its user has opened too many others."""

LONGEST: Final = 3600.0
"""Seconds for a WebSocket of whose token nobody says when it expires; none goes on for longer."""
MOST: Final = 8
"""WebSockets of one user in one process."""


class Code(NamedTuple):
    """What a close frame says; `reason` has 123 bytes at most (RFC 6455 section 5.5)."""

    number: int
    reason: str = ""


CODES: Final[dict[Closed, Code]] = {
    "left": Code(1000),
    "slow": Code(1013, "not read in time"),
    "ending": Code(1012, "the service restarts"),
    "failed": Code(1011),
    "expired": Code(4401, "token expired"),
    "logged_out": Code(4403, "logged out"),
    "crowded": Code(4429, "too many"),
}


def life(expires: float | None, now: float, longest: float = LONGEST) -> float:
    """Seconds that a WebSocket may go on; both times are in seconds since 1970. A token that expired in this moment, as
    clocks may have it, gives none."""
    return longest if expires is None else max(0.0, min(longest, expires - now))
