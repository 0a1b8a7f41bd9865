"""search over HTTP.

    GET /search?q=&kind=posts|people&pageSize=&pageToken=    200 hits, the best first
    GET /openapi.json                                        this, for programs
    GET /healthz                                             200 while the process serves

What is searched is public, so nobody is asked who they are. What is wrong in a request is answered 400 with field and
rule. While the database is not there, or its pool is full, 503 with Retry-After.
"""

from typing import Any

from aiohttp import web

from nova_services import bodies
from nova_services.backing import unavailable
from nova_services.openapi import publish
from nova_services.search.api import API, Found, FoundPerson, FoundPost, Question
from nova_services.search.index import Index, Place
from nova_services.search.metrics import SearchMetrics
from nova_services.web import application


class Search:
    """The service."""

    def __init__(self, index: Index, metrics: SearchMetrics) -> None:
        self._index = index
        self._metrics = metrics

    def application(self) -> web.Application:
        """The web application."""
        made = application(web.get("/search", self._search))
        made.middlewares.append(unavailable)
        publish(made, API)
        return made

    async def _search(self, request: web.Request) -> web.Response:
        asked, page = bodies.query(request, Question), bodies.page(request)
        look = self._index.posts if asked.kind == "posts" else self._index.people
        rows = await look(asked.q, page.size + 1, page.after(Place))
        kept, following = page.cut(rows, lambda row: Place(row["rank"], row["at"], row["id"]))
        if not page.token:
            self._metrics.asked(asked.kind, hits=len(kept))
        if asked.kind == "posts":
            return bodies.answer(Found(posts=tuple(map(_post, kept)), next_page_token=following))
        return bodies.answer(Found(people=tuple(map(_person, kept)), next_page_token=following))


def _post(row: Any) -> FoundPost:
    return FoundPost(row["id"], row["author_id"], row["text"], row["at"])


def _person(row: Any) -> FoundPerson:
    return FoundPerson(row["id"], row["display_name"], row["biography"])
