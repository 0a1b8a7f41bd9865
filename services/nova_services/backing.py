"""What a service with a database stands on: its pool, its metrics with their pages, and an answer for when it is away.

async with standing(options, "users") as stand:
    service = Users(stand.database, UsersMetrics(stand.registry))
    await serve(service.application(), host=options.host, port=options.port)
"""

import argparse
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

import asyncpg
from aiohttp import web
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from nova_data import pages
from nova_data.database import GONE
from nova_data.errors import DownstreamError, PoolExhaustedError, WriteBackFullError
from nova_data.pool.database import Database
from nova_data.pool.metrics import DatabaseMetrics
from nova_data.pool.settings import PoolSettings
from nova_data.pool_reporter import PoolReporter
from nova_services.correlation import Handler
from nova_services.errors import UnavailableError
from nova_services.logs import get_logger

RETRY_AFTER: Final = 1.0
REDIS_PATIENCE: Final = 2.0
"""Seconds for a connection to Redis, and for an answer; a cache in front of it waits for less."""
_AWAY: Final = (*GONE, asyncpg.TooManyConnectionsError, asyncpg.QueryCanceledError, DownstreamError)


@dataclass
class Standing:
    """What is there for the life of the process."""

    name: str
    registry: CollectorRegistry
    database: Database
    checks: list[Callable[[], dict[str, Any]]] = field(default_factory=list)
    """Further parts that can be stuck: what each says for /healthz, `{"status": "ok"}` where it is not."""

    def health(self) -> dict[str, Any]:
        """The first part that is not well, else that all are."""
        return next((said for check in self.checks if (said := check())["status"] != "ok"), {"status": "ok"})


@asynccontextmanager
async def standing(
    options: argparse.Namespace, name: str, *, settings: PoolSettings | None = None
) -> AsyncIterator[Standing]:
    """A database and pages with metrics while the block runs; both are there before it begins, the server need not be.
    The sidecar hears how full the pool is (docs/pool-guard.md). `settings` are in place of --pool-size.

    Raises ListenError where the port of the pages is taken.
    """
    registry = CollectorRegistry()
    settings = settings or PoolSettings(size=options.pool_size)
    database = Database(options.database, name=name, settings=settings, metrics=DatabaseMetrics(registry))
    stand = Standing(name, registry, database)
    with observed(options, registry, stand.health):
        async with database, PoolReporter(database.guard):
            yield stand


@contextmanager
def observed(
    options: argparse.Namespace, registry: CollectorRegistry, health: Callable[[], dict[str, Any]]
) -> Iterator[None]:
    """Pages with metrics and /healthz while the block runs. Raises ListenError where their port is taken."""
    with pages.served(options.host, options.metrics_port, registry, health) as port:
        get_logger().info("pages served", address=f"{options.host}:{port}")
        yield


@asynccontextmanager
async def redis(url: str | None) -> AsyncIterator[Any]:
    """A client for the block, which connects when it is used; None where there is no URL. Raises ValueError for one
    that is none."""
    if url is None:
        yield None
        return
    client = Redis.from_url(url, socket_connect_timeout=REDIS_PATIENCE, socket_timeout=REDIS_PATIENCE)
    try:
        yield client
    finally:
        await client.aclose()


def lasting(error: BaseException) -> float | None:
    """Seconds after which to come again, where an error is nobody's fault and will pass; else None."""
    if isinstance(error, PoolExhaustedError | UnavailableError):
        return error.retry_after
    if isinstance(error, WriteBackFullError):
        return RETRY_AFTER
    # asyncpg's errors for arguments of a wrong type are among those of connections
    return RETRY_AFTER if isinstance(error, _AWAY) and not isinstance(error, ValueError) else None


def said(error: Exception) -> str:
    """What is away, of an error that will pass, in words that may leave."""
    return str(error) if isinstance(error, UnavailableError) else "the database is not available"


def note_away(error: Exception) -> None:
    """A line for an error that will pass; not of a pool that is full, which has a metric, and not of another service
    that is away, for whoever asked it has said so."""
    if not isinstance(error, PoolExhaustedError | UnavailableError):
        get_logger().error("database unreachable", error=type(error).__name__)


@web.middleware
async def unavailable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """503 with Retry-After where it is not the caller's fault and will pass."""
    try:
        return await handler(request)
    except Exception as error:
        seconds = lasting(error)
        if seconds is None:
            raise
        note_away(error)
        return web.json_response(
            {"error": said(error)}, status=503, headers={"retry-after": str(max(1, ceil(seconds)))}
        )
