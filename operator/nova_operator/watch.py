"""One watch of the operator's own: a kind of children in a namespace, or in all.

Kopf watches the NovaServices; of children there are ten times as many news, and all that is wanted of one is that it
comes into the mirror (docs/decisions/0006-watches.md). The rules
(https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes):

* It begins where a complete list ended, so nothing lies between the two, and what is not in the list is gone.
* Each object and each bookmark moves the place from which a watch that was closed goes on.
* Where the API server no longer knows that place (410), or says what cannot be understood, the kind is listed anew.
* What fails is tried again, later and later, without end. What no trying helps ends it: the kind is no longer served,
  or must not be watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

import msgspec
import structlog

from nova_operator.cluster import UnavailableError
from nova_operator.desired.metadata import Manifest
from nova_operator.kinds import Kind

AGAIN: Final = 0.1
"""Seconds until a watch that was closed in good order is opened again."""

log = structlog.get_logger()

_CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})

Take = Callable[[Kind, str, Manifest], None]
"""Takes a change over, by its type, and the object as it is, or was when it was deleted."""


class GoneError(Exception):
    """The watch cannot go on from where it is: list the kind anew."""


class Stream(Protocol):
    """The wire of watches, see `stream.Streams`."""

    async def follow(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        opened: Callable[[], None],
        hear: Callable[[bytes], None],
    ) -> None:
        """Opens a watch from a version on; then calls `opened`, and `hear` with each line, until it is closed.

        Raises GoneError, UnavailableError for what may work later, another ClusterError for what will not."""


class _Line(msgspec.Struct):
    type: str
    object: Manifest


_DECODER: Final = msgspec.json.Decoder(_Line)


class Watch:
    """Begins at `version`; `list_anew` takes a complete list over and returns the version it was read at."""

    def __init__(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        stream: Stream,
        *,
        take: Take,
        list_anew: Callable[[Kind, str | None], Awaitable[str]],
    ) -> None:
        self._kind = kind
        self._namespace = namespace
        self._version = version
        self._stream = stream
        self._take = take
        self._list_anew = list_anew
        self._pauses = pauses()
        self.opened = asyncio.Event()
        """Set once it has been open."""

    def __repr__(self) -> str:
        where = self._namespace or "all namespaces"
        return f"<Watch {self._kind.plural} in {where} from {self._version or 'nowhere'}>"

    async def run(self) -> None:
        """Until cancelled. Raises the ClusterError that no trying helps."""
        while True:
            try:
                if not self._version:
                    self._version = await self._list_anew(self._kind, self._namespace)
                await self._stream.follow(self._kind, self._namespace, self._version, self.opened.set, self._hear)
                pause = AGAIN
            except GoneError:
                self._version, pause = "", next(self._pauses)
            except UnavailableError as error:
                pause = max(next(self._pauses), error.retry_after or 0.0)
                log.debug("watch closed", watch=self._kind.plural, error=str(error), retry_in=pause)
            await asyncio.sleep(pause)

    def _hear(self, line: bytes) -> None:
        try:
            said = _DECODER.decode(line)
            version = said.object["metadata"]["resourceVersion"] if said.type != "ERROR" else ""
        except (msgspec.DecodeError, KeyError) as error:
            raise GoneError(f"expected an event, got {line[:100]!r}") from error
        if said.type in _CHANGES:
            self._take(self._kind, said.type, said.object)
        elif said.type != "BOOKMARK":
            raise GoneError(str(said.object.get("message")))
        self._version = version
        self._pauses = pauses()


def pauses() -> Iterator[float]:
    """Seconds between attempts to reach the API server, without end: its restart must not end the operator."""
    yield from (0.2, 0.5, 1.0, 2.0)
    while True:
        yield 3.0
