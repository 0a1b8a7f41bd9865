"""search over HTTP.

    GET /search?q=&kind=posts|people&pageSize=&pageToken=    200 hits, the best first; 401 for who is no user
    GET /openapi.json                                        this, for programs
    GET /healthz                                             200 while the process serves

What is searched is public, so nobody is asked who they are. For who is known, those are left out with whom there is a
block, whoever of the two has set it; so a page may have fewer hits than it was asked for. What users says of that holds
for 10 s. While users does not answer, its last answer stands in for a minute, and then all are shown: they are no
secret, and a search that finds nothing because of another service is an outage of two.

What is wrong in a request is answered 400 with field and rule. While the database is not there, or its pool is full,
503 with Retry-After.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from nova_services import bodies
from nova_services.backing import unavailable
from nova_services.blocks import Blocks
from nova_services.identity import known
from nova_services.openapi import publish
from nova_services.search.api import API, Found, FoundPerson, FoundPost, Question
from nova_services.search.index import Index, Place
from nova_services.search.metrics import SearchMetrics
from nova_services.web import application

FRESH: Final = 10.0
STANDS_IN: Final = 60.0
"""Seconds, see the module."""


class Search:
    """The service."""

    def __init__(self, index: Index, blocks: Blocks, metrics: SearchMetrics) -> None:
        self._index = index
        self._blocks = blocks
        self._metrics = metrics

    def application(self) -> web.Application:
        """The web application."""
        made = application(web.get("/search", self._search))
        made.middlewares.append(unavailable)
        publish(made, API)
        return made

    async def _search(self, request: web.Request) -> web.Response:
        asked, page, reader = bodies.query(request, Question), bodies.page(request), known(request)
        look = self._index.posts if asked.kind == "posts" else self._index.people
        rows = await look(asked.q, page.size + 1, page.after(Place))
        kept, following = page.cut(rows, lambda row: Place(row["rank"], row["at"], row["id"]))
        if not page.token:
            self._metrics.asked(asked.kind, hits=len(kept))
        if asked.kind == "posts":
            posts = await self._shown(kept, "author_id", reader)
            return bodies.answer(Found(posts=tuple(map(_post, posts)), next_page_token=following))
        people = await self._shown(kept, "id", reader)
        return bodies.answer(Found(people=tuple(map(_person, people)), next_page_token=following))

    async def _shown(self, rows: Sequence[Any], who: str, reader: UUID | None) -> Sequence[Any]:
        """Those without a block between the reader and the person in the column `who`."""
        if reader is None:
            return rows
        blocked = await self._blocks.lately(reader, [row[who] for row in rows])
        return [row for row in rows if not blocked[row[who]]]


def _post(row: Any) -> FoundPost:
    return FoundPost(row["id"], row["author_id"], row["text"], row["at"])


def _person(row: Any) -> FoundPerson:
    return FoundPerson(row["id"], row["display_name"], row["biography"])
