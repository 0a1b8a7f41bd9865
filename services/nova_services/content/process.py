"""content as one process: HTTP, gRPC, and the consumer that hears of people who are erased.

There is a pool of the primary and one of each replica, each of --pool-size. The process starts while its database,
Kafka or users are away, and each of them is met with what the service says it does without it.
"""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nova.users.v1 import users_pb2_grpc
from prometheus_client import CollectorRegistry

from nova_data.cache.metrics import CacheMetrics
from nova_data.pool.database import Database
from nova_data.pool.metrics import DatabaseMetrics
from nova_data.pool.settings import PoolSettings
from nova_data.pool_reporter import PoolReporter
from nova_data.split.database import SplitDatabase
from nova_data.split.metrics import SplitMetrics
from nova_services import options as flags
from nova_services import rpc
from nova_services.background import background
from nova_services.backing import Standing, observed
from nova_services.blocks import Blocks
from nova_services.consuming import consuming
from nova_services.content.erasing import Erasing
from nova_services.content.metrics import ContentMetrics
from nova_services.content.rpc import PostsRpc
from nova_services.content.service import Content
from nova_services.web import serve

BLOCKS_FRESH: Final = 10.0
"""Seconds for which what users says of a block holds, for what is read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of content."""
    flags.grpc_port(parser)
    flags.metrics_port(parser)
    flags.database(parser)
    flags.brokers(parser)
    flags.address(parser, "users")
    parser.add_argument(
        "--replica",
        metavar="URL",
        action="append",
        help="replica of the database to read from, repeatable (default: $REPLICA_URLS, with blanks between them)",
    )


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    async with _standing(options) as (stand, database), rpc.channel(options.users_address) as users:
        metrics = ContentMetrics(stand.registry)
        blocks = Blocks(
            users_pb2_grpc.UsersServiceStub(users),
            fresh=BLOCKS_FRESH,
            unknown=metrics.unknown_blocks,
            cache=CacheMetrics(stand.registry),
        )
        content = Content(database, blocks, metrics)
        erasing = Erasing(options.database, metrics)
        async with (
            rpc.served([PostsRpc(content.reading).register], host=options.host, port=options.grpc_port),
            consuming(stand, options, ["user"], {"user-erased": erasing.due}),
            background(erasing.run(), "erasing"),
        ):
            await serve(content.application(), host=options.host, port=options.port)


@asynccontextmanager
async def _standing(options: argparse.Namespace) -> AsyncIterator[tuple[Standing, SplitDatabase]]:
    """As `backing.standing`, with replicas."""
    registry = CollectorRegistry()
    pools, settings = DatabaseMetrics(registry), PoolSettings(size=options.pool_size)
    primary = Database(options.database, name="content", settings=settings, metrics=pools)
    replicas = [
        Database(url, name=f"content-replica-{number}", settings=settings, metrics=pools)
        for number, url in enumerate(options.replica or os.environ.get("REPLICA_URLS", "").split(), 1)
    ]
    database = SplitDatabase(primary, replicas, metrics=SplitMetrics(registry))
    stand = Standing("content", registry, primary)
    guards = (primary.guard, *(replica.guard for replica in replicas))
    with observed(options, registry, stand.health):
        async with database, PoolReporter(*guards):
            yield stand, database
