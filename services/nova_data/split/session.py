"""What a caller has written, for as long as it must be able to read it.

    with OwnWrites(request.cookies.get("seen")) as seen:      # around a request
        ...                                                   # reads and writes of the request, of its tasks as well
        response.set_cookie("seen", seen.token, max_age=60)

The token is an opaque text of at most 17 characters, None while nothing was written. A context variable carries the
session to all that runs in the block, tasks that are started in it included. Without a session, each task has one of
its own.
"""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Self

from nova_data.split.position import ANYWHERE, taken, token


class OwnWrites:
    """The furthest position that was written, or came with the caller's token."""

    __slots__ = ("_outer", "position")

    def __init__(self, given: str | None = None) -> None:
        self.position = taken(given)
        self._outer: Token[OwnWrites | None] | None = None

    @property
    def token(self) -> str | None:
        """What the caller hands on, None where nothing was written."""
        return None if self.position == ANYWHERE else token(self.position)

    def wrote(self, position: int) -> None:
        """Something was written, and the log ends here."""
        self.position = max(self.position, position)

    def __enter__(self) -> Self:
        self._outer = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outer is not None:
            _current.reset(self._outer)

    def __repr__(self) -> str:
        return f"<OwnWrites {self.token}>"


_current: Final[ContextVar[OwnWrites | None]] = ContextVar("nova_data_own_writes", default=None)


def current() -> OwnWrites:
    """The session of whoever calls, a new one where there is none."""
    found = _current.get()
    if found is None:
        found = OwnWrites()
        _current.set(found)
    return found
