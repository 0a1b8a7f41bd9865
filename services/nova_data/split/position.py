"""Positions in PostgreSQL's write-ahead log, and the token by which a service hands one on.

A position (`pg_lsn`) is a number of bytes, written ``16/B374D848``: its upper and its lower half in hexadecimal.
https://www.postgresql.org/docs/current/datatype-pg-lsn.html

A token is where the log stood after a write. Whoever reads with it gets that write, at whichever server: a replica that
has replayed the log up to there, or the primary. It comes back from clients (in a cookie, a header), so it is taken for
what it is, a hint: what is none counts as none, and one beyond what the primary can have written by now as well
(`choice`). The worst that a client can do with it is to have its own reads served by the primary.
"""

import re
from typing import Final

PAGE: Final = 8192
"""Bytes of a page of the log, as PostgreSQL is built by everybody."""
_HEADERS: Final = (24, 40)
"""Bytes at the beginning of a page, and of the first page of a file, that are no record's."""
_POSITION: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
PRIMARY: Final = "primary"
"""The token after a write whose position is not known: its reads go to the primary."""
ANYWHERE: Final = 0
"""The position that every server has."""
NOWHERE: Final = 1 << 64
"""The position that no replica ever has."""


def position(text: str) -> int:
    """The number that PostgreSQL writes this way. Raises ValueError for what it would not write."""
    found = _POSITION.fullmatch(text)
    if found is None:
        raise ValueError("expected a position in the log such as 16/B374D848")
    return (int(found[1], 16) << 32) | int(found[2], 16)


def written(number: int) -> str:
    """How PostgreSQL writes a position."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def ended(number: int) -> int:
    """Where the last record ends, when the next one begins here.

    At the end of a page the two differ by the header of the next one, which no record that is replayed ever reaches.
    """
    return number - number % PAGE if number % PAGE in _HEADERS else number


def token(number: int) -> str:
    """What a service hands on."""
    return PRIMARY if number >= NOWHERE else written(number)


def taken(text: str | None) -> int:
    """The position in a token that came back; `ANYWHERE` for none and for what is none."""
    if not text:
        return ANYWHERE
    if text == PRIMARY:
        return NOWHERE
    try:
        return position(text)
    except ValueError:
        return ANYWHERE
