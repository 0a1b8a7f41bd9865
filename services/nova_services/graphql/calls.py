"""Questions to other services on behalf of one request.

Each call has a deadline: its own, and never more than what is left of the request's. Each says who asks: `viewer_id` in
messages, and the token as it came, which the other service's sidecar checks for itself. `x-nova-subject` goes along for
services that have no sidecar, on a developer's machine; a sidecar takes it off what comes from outside.

How much somebody has written, content says in a cookie (docs/read-write-split.md). It goes back to content with each
call, as a cookie or as metadata, so that what a request reads after its own writes, and after those of the requests
before it, has them.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

import aiohttp
import msgspec
from grpc import aio

from nova_data import correlation
from nova_services.graphql.answers import Problem
from nova_services.graphql.errors import CALLERS, OF_GRPC, OF_HTTP, Code, failed, failure
from nova_services.graphql.metrics import GraphqlMetrics
from nova_services.identity import HEADER

T = TypeVar("T")
SEEN: Final = "seen"
"""The cookie, and the metadata, of the service that it is of."""
_SEEN_BY: Final = "content"
_TOKEN: Final = re.compile(r"[0-9A-Za-z/]{1,17}")
"""As content makes it; nothing else of what a client sends goes on."""


class Patience(NamedTuple):
    """Seconds, above 0."""

    call: float = 3.0
    """For one call."""
    request: float = 8.0
    """For all that one request needs; what is not there by then is missing from its answer."""


class Calls:
    """See the module. `viewer` is None for nobody in particular, `authorization` the header as it came, and `seen` the
    cookie, which is another one after a write."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        metrics: GraphqlMetrics,
        patience: Patience,
        *,
        viewer: UUID | None,
        authorization: str | None,
        seen: str | None = None,
    ) -> None:
        self._session = session
        self._metrics = metrics
        self.viewer = viewer
        self.seen = seen if seen and _TOKEN.fullmatch(seen) else None
        self._given = {"authorization": authorization} if authorization and authorization.isascii() else {}
        self._patience = patience
        self._deadline = asyncio.get_running_loop().time() + patience.request

    def require_viewer(self) -> UUID:
        """Who asks. Raises UNAUTHENTICATED."""
        if self.viewer is None:
            raise failure(Code.UNAUTHENTICATED, "expected an access token")
        return self.viewer

    async def grpc(self, upstream: str, method: Callable[..., Awaitable[T]], request: Any) -> T:
        """A call. Raises GraphQLError."""
        timeout = self._left(upstream)
        try:
            answer = await method(request, timeout=timeout, metadata=self._metadata(upstream))
        except aio.AioRpcError as error:
            raise self._failed(upstream, OF_GRPC.get(error.code(), Code.INTERNAL), error.details()) from error
        self._metrics.called(upstream, "ok")
        return answer

    async def http(
        self,
        upstream: str,
        method: str,
        url: str,
        *,
        kind: type[T],
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> T:
        """The same; the answer is read as `kind`, or is not looked at where that is None's type."""
        timeout = aiohttp.ClientTimeout(total=self._left(upstream))
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(
                method,
                url,
                params=query,
                data=data,
                headers=self._headers(upstream, data),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                content = await response.read()
                self._note(upstream, response)
        except TimeoutError as error:
            raise self._failed(upstream, Code.TIMEOUT) from error
        except aiohttp.ClientError as error:
            raise self._failed(upstream, Code.UNAVAILABLE) from error
        if response.status >= 300:
            raise self._failed(upstream, OF_HTTP.get(response.status, Code.INTERNAL), _words(content))
        return self._read(upstream, content, kind)

    def _read(self, upstream: str, content: bytes, kind: type[T]) -> T:
        try:
            answer = msgspec.json.decode(content or b"null", type=kind)
        except msgspec.DecodeError as error:
            raise self._failed(upstream, Code.INTERNAL) from error
        self._metrics.called(upstream, "ok")
        return answer

    def _note(self, upstream: str, response: aiohttp.ClientResponse) -> None:
        if upstream == _SEEN_BY and (given := response.cookies.get(SEEN)) is not None:
            self.seen = given.value

    def _metadata(self, upstream: str) -> tuple[tuple[str, str], ...]:
        seen = {SEEN: self.seen} if self.seen and upstream == _SEEN_BY else {}
        return tuple({**self._given, **seen}.items())

    def _headers(self, upstream: str, data: bytes | None) -> dict[str, str]:
        viewer = {HEADER: str(self.viewer)} if self.viewer else {}
        kind = {"content-type": "application/json"} if data is not None else {}
        seen = {"cookie": f"{SEEN}={self.seen}"} if self.seen and upstream == _SEEN_BY else {}
        return {**correlation.outgoing(), **self._given, **viewer, **kind, **seen}

    def _left(self, upstream: str) -> float:
        left = self._deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise self._failed(upstream, Code.TIMEOUT)
        return min(self._patience.call, left)

    def _failed(self, upstream: str, code: Code, words: str | None = None) -> Exception:
        self._metrics.called(upstream, "refused" if code in CALLERS else "failed")
        return failed(upstream, code, words)


def _words(content: bytes) -> str | None:
    try:
        return msgspec.json.decode(content, type=Problem).error
    except msgspec.DecodeError:
        return None
