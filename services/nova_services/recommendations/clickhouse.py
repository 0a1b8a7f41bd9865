"""The analytics store behind a URL: ClickHouse's HTTP interface.

    http://recommendations:secret@clickhouse:8123/analytics

A statement is the body of a POST, and the answer that of the response
(https://clickhouse.com/docs/interfaces/http). Who asks goes in headers, so that no address in a log or an error has a
password. The server gives a statement up a moment before this side does.
"""

from typing import Final
from urllib.parse import unquote, urlsplit

import aiohttp

from nova_data import correlation
from nova_services.recommendations.port import TIMEOUT, AnalyticsError, AnalyticsUnavailableError

_GRACE: Final = 1.0
_AWAY: Final = frozenset((429, 502, 503, 504))
"""Statuses of a server, or of what stands before it, that is overloaded or not there."""


class ClickHouseStore:
    """`Store` of a server. Raises ValueError for what is no URL of one."""

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("analytics: expected a URL such as http://user:password@clickhouse:8123/database")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._address = f"{parts.scheme}://{host}:{parts.port or 8123}/"
        self._query = {"database": parts.path.strip("/") or "default", "max_execution_time": str(round(timeout))}
        self._headers = {
            "X-ClickHouse-User": unquote(parts.username or "default"),
            "X-ClickHouse-Key": unquote(parts.password or ""),
        }
        self._timeout = aiohttp.ClientTimeout(total=timeout + _GRACE)
        self._session: aiohttp.ClientSession | None = None

    async def run(self, statement: str) -> str:
        """See `Store`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        headers = {**self._headers, **correlation.outgoing()}
        try:
            async with self._session.post(
                self._address, params=self._query, data=statement.encode(), headers=headers
            ) as response:
                text = await response.text()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise AnalyticsUnavailableError(f"ClickHouse does not answer: {type(error).__name__}") from error
        if response.status in _AWAY:
            raise AnalyticsUnavailableError(f"ClickHouse answers {response.status}")
        if response.status != 200:
            raise AnalyticsError(text.partition("\n")[0][:300])
        return text

    async def close(self) -> None:
        """See `Store`."""
        if self._session is not None:
            await self._session.close()
