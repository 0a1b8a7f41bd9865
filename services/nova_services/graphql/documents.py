"""Documents that clients ask for by their hash: sent once with it, then the hash alone (automatic persisted queries).

The sidecar knows documents too and answers what it has kept; what it has not comes here, with the hash alone where
that is what the client sent. A hash that stands for nothing here, after a restart say, is answered with a code by which
the client sends both again. The oldest of those that were not asked for goes first; no client can have more than its
documents kept, since a hash must be that of what came with it.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Final

from nova_services.errors import InvalidError

MOST: Final = 1000
LONGEST: Final = 32768
"""Characters of a document that is kept; longer ones are run as well."""


class Documents:
    """See the module; `most` from 1."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[str, str] = OrderedDict()

    def resolve(self, text: str, digest: str) -> str | None:
        """The document that is asked for: `text`, or the one with this hash in hexadecimal digits; None for a hash that
        is not known. Raises InvalidError where the two do not fit."""
        if not digest:
            return text
        if not text:
            return self._known(digest)
        if sha256(text.encode()).hexdigest() != digest:
            raise InvalidError("extensions.persistedQuery.sha256Hash", "that of the query")
        if len(text) <= LONGEST:
            self._keep(digest, text)
        return text

    def _known(self, digest: str) -> str | None:
        if digest in self._kept:
            self._kept.move_to_end(digest)
        return self._kept.get(digest)

    def _keep(self, digest: str, text: str) -> None:
        self._kept[digest] = text
        self._kept.move_to_end(digest)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<Documents {len(self)} of {self._most}>"
