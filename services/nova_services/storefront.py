"""The storefront: a page made of its own words and the catalog's items.

    GET /           the page; calls the catalog once
    GET /healthz    200 while the process serves, whatever the catalog does

It calls the catalog by its plain name and handles failure as any caller must, but it neither retries nor counts nor
limits: the sidecar between them does. What the sidecar says of a refusal (x-nova-reject) is passed on to the caller.
"""

import argparse
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from aiohttp import web

from nova_data import correlation
from nova_services.logs import get_logger
from nova_services.web import application, serve

REJECT: Final = "x-nova-reject"
PATIENCE: Final = 20.0
"""Seconds after which a call is given up; longer than the upstream's timeout, so that the sidecar's reason is seen."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.add_argument("--catalog-url", metavar="URL", default="http://catalog:8080", help="default: %(default)s")


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    await serve(Storefront(options.catalog_url).application(), host=options.host, port=options.port)


class Storefront:
    """The storefront; `catalog_url` is where the catalog is, such as ``http://catalog:8080``."""

    def __init__(self, catalog_url: str) -> None:
        self._items_url = f"{catalog_url.rstrip('/')}/items"
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """The web application."""
        made = application(web.get("/", self._page))
        made.cleanup_ctx.append(self._client)
        return made

    async def _client(self, _application: web.Application) -> AsyncIterator[None]:
        limits = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0)) as self._session:
            yield

    async def _page(self, _request: web.Request) -> web.Response:
        assert self._session is not None  # noqa: S101 - made before the first request
        try:
            async with self._session.get(self._items_url, headers=correlation.outgoing()) as answer:
                if answer.status == 200:
                    return _page(await answer.json())
                reason = answer.headers.get(REJECT)
                get_logger().warning("catalog failed", upstream_status=answer.status, reason=reason or "")
                return _sorry(reason, f"status {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            get_logger().warning("catalog unreachable", error=type(error).__name__)
            return _sorry(None, "unreachable")


def _page(catalog: dict[str, Any]) -> web.Response:
    return web.json_response({"shop": "Nova tea house", "servedBy": os.uname().nodename, "catalog": catalog})


def _sorry(refusal: str | None, failure: str) -> web.Response:
    """503 with the sidecar's reason where it refused the call, 502 where the catalog itself failed."""
    body = {"error": "the catalog is not available", "reason": refusal or failure}
    if refusal is not None:
        return web.json_response(body, status=503, headers={REJECT: refusal})
    return web.json_response(body, status=502)
