"""media over HTTP; who asks is whom the sidecar has read in the token.

    POST   /media                 the file, with its content-type; ?visibility=    201 what is known of it; 413, 415
    GET    /media/{id}                                                             200; 404
    PATCH  /media/{id}            {"visibility"}                                   200; 404
    GET    /media/{id}/content                                                     200 the file, 304; 404
    DELETE /media/{id}                                                             204; 404
    GET    /healthz, /openapi.json

404 is also the answer where a file is private and another one's, or only its owner may do it.
503 with Retry-After while the database or the store of contents is away.
"""

from collections.abc import AsyncIterator
from random import Random
from typing import Final
from uuid import UUID, uuid4

from aiohttp import web

from nova_services import bodies
from nova_services.background import background
from nova_services.backing import unavailable
from nova_services.bodies import answer, identifier
from nova_services.errors import ForbiddenError, NotFoundError, UnavailableError
from nova_services.identity import viewer
from nova_services.logs import get_logger
from nova_services.media import forms
from nova_services.media.api import API
from nova_services.media.forms import Change, Choice
from nova_services.media.metrics import MediaMetrics
from nova_services.media.records import Record, Records, Visibility
from nova_services.media.shelf import Shelf
from nova_services.media.sweeping import sweeping
from nova_services.media.uploading import RefusedError, Upload
from nova_services.openapi import publish
from nova_services.web import application

_HEADERS: Final = {
    "cache-control": "private, max-age=300",
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
}
"""Of contents: nothing in them runs. An erased one may be in a browser for 5 minutes more."""
_NONE: Final = "there is no such file"


class Media:
    """The service; its database is open as long as it serves. `sweep_every` is in seconds."""

    def __init__(
        self, records: Records, shelf: Shelf, metrics: MediaMetrics, *, sweep_every: float, random: Random
    ) -> None:
        self._records = records
        self._shelf = shelf
        self._metrics = metrics
        self._sweep_every = sweep_every
        self._random = random

    def application(self) -> web.Application:
        """The web application."""
        made = application(
            web.post("/media", self._upload),
            web.get("/media/{id}", self._show),
            web.patch("/media/{id}", self._change),
            web.get("/media/{id}/content", self._read),
            web.delete("/media/{id}", self._delete),
        )
        made.middlewares.append(unavailable)
        made.cleanup_ctx.append(self._sweeping)
        publish(made, API)
        return made

    async def _sweeping(self, _application: web.Application) -> AsyncIterator[None]:
        work = sweeping(self._shelf, self._records, self._metrics, self._random, every=self._sweep_every)
        async with background(work, "sweep"):
            yield

    # --- requests

    async def _upload(self, request: web.Request) -> web.Response:
        owner, kind, choice = viewer(request), request.content_type, bodies.query(request, Choice)
        try:
            upload = Upload(request.content.iter_any(), kind, length=request.content_length)
            record = await self._keep(owner, upload, kind, choice.visibility)
        except RefusedError as error:
            self._metrics.refused(error.status)
            refusal = web.json_response({"error": str(error)}, status=error.status)
            refusal.force_close()  # what is left of the body is not read
            return refusal
        self._metrics.uploaded(record.kind, record.size)
        return answer(forms.media(record), status=201, headers={"location": f"/media/{record.media}"})

    async def _keep(self, owner: UUID, upload: Upload, kind: str, visibility: Visibility) -> Record:
        """The content first, so that a row always has one. Where it is not known whether the row is there, the content
        stays: the sweep will know."""
        media = uuid4()
        await self._shelf.put(media, upload.chunks())
        try:
            return await self._records.add(media, owner, kind, upload.size, upload.sha256, visibility=visibility)
        except ForbiddenError:
            await self._shelf.remove(media)
            raise

    async def _show(self, request: web.Request) -> web.Response:
        return answer(forms.media(await self._found(request)))

    async def _change(self, request: web.Request) -> web.Response:
        owner, given = viewer(request), await bodies.read(request, Change)
        record = await self._records.show(identifier(request), owner, given.visibility)
        if record is None:
            raise NotFoundError(_NONE)
        return answer(forms.media(record))

    async def _read(self, request: web.Request) -> web.StreamResponse:
        record = await self._found(request)
        etag = record.sha256.hex()
        if any(tag.value == etag for tag in request.if_none_match or ()):
            return web.Response(status=304, headers={"etag": f'"{etag}"', **_HEADERS})
        content = await self._shelf.get(record.media)
        if content is None:
            raise NotFoundError(_NONE)  # erased in this moment
        self._metrics.reads.inc()
        response = web.StreamResponse(headers={"content-type": record.kind, "etag": f'"{etag}"', **_HEADERS})
        response.content_length = record.size
        await response.prepare(request)
        return await _written(request, response, content)

    async def _delete(self, request: web.Request) -> web.Response:
        owner = viewer(request)
        if not await self._records.delete(identifier(request), owner):
            raise NotFoundError(_NONE)
        self._metrics.deletions.inc()
        return web.Response(status=204)

    async def _found(self, request: web.Request) -> Record:
        asking = viewer(request)
        record = await self._records.find(identifier(request), asking)
        if record is None:
            raise NotFoundError(_NONE)
        return record


async def _written(
    request: web.Request, response: web.StreamResponse, content: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Write the content; where it breaks off, so does the connection, since the client cannot be told otherwise."""
    try:
        async for chunk in content:
            await response.write(chunk)
        await response.write_eof()
    except ConnectionError:
        pass  # the client has left
    except UnavailableError as error:
        get_logger().error("content broke off", exc_info=error)
        if request.transport is not None:
            request.transport.abort()
    return response
