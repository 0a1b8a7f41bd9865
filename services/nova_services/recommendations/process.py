"""recommendations as one process: HTTP, the consumer that fills the analytics, and the rounds that compute ahead.

It starts while Kafka, Redis, content or a server of the analytics are away. Until the store has answered once nothing
is consumed and nothing is computed, and the feed stands in.
"""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Final

from nova.posts.v1 import posts_pb2_grpc
from prometheus_client import CollectorRegistry

from nova_data import kafka_settings
from nova_data.consumer.consumer import Consumer
from nova_data.consumer.message import Message
from nova_data.consumer.metrics import ConsumerMetrics
from nova_services import options as flags
from nova_services import rpc
from nova_services.background import background
from nova_services.backing import observed, redis
from nova_services.consuming import subject
from nova_services.logs import get_logger
from nova_services.recommendations.clickhouse import ClickHouseStore
from nova_services.recommendations.embedded import EmbeddedStore
from nova_services.recommendations.events import NOBODY, PostRow, row
from nova_services.recommendations.metrics import RecommendationsMetrics
from nova_services.recommendations.pace import Pace, hours
from nova_services.recommendations.port import AnalyticsUnavailableError, Store
from nova_services.recommendations.precompute import EVERY, Precompute
from nova_services.recommendations.service import Recommendations
from nova_services.recommendations.shelf import Shelf
from nova_services.recommendations.warehouse import Warehouse
from nova_services.web import serve

REDIS: Final = "redis://redis:6379/0"
TOPICS: Final = ("post", "follow", "user")
SLOTS: Final = 500
"""Messages handled at once: each waits for its batch, so that batches are as large as that."""
LANES: Final = 128
"""Keys of a partition that are handled side by side: many, for the same reason."""
_PAUSE: Final = 1.0
"""Seconds between attempts to reach the store at the start."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of recommendations."""
    flags.metrics_port(parser)
    flags.brokers(parser)
    flags.redis(parser)
    flags.address(parser, "content")
    parser.add_argument(
        "--analytics",
        metavar="FOLDER|URL",
        default=os.environ.get("ANALYTICS_URL", "analytics"),
        help="folder of an embedded store, or URL of a ClickHouse (default: $ANALYTICS_URL, else %(default)s)",
    )
    parser.add_argument(
        "--every",
        metavar="SECONDS",
        type=flags.above_zero(86400),
        default=EVERY,
        help="between rounds (default %(default)g)",
    )
    parser.add_argument(
        "--share",
        type=flags.above_zero(1, "a share"),
        default=0.25,
        help="of the time that rounds may compute (default %(default)g)",
    )
    parser.add_argument(
        "--peak",
        metavar="HOURS",
        type=_hours,
        default="17-22",
        help="of many people, in UTC, with a fifth of that (default %(default)s)",
    )


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    registry = CollectorRegistry()
    metrics = RecommendationsMetrics(registry)
    store = _store(options.analytics)
    warehouse = Warehouse(store)
    try:
        async with rpc.channel(options.content_address) as content, redis(options.redis or REDIS) as client:
            shelf = Shelf(client)
            pace = Pace(share=options.share, peak_share=options.share / 5, peak=options.peak)
            precompute = Precompute(warehouse, shelf, metrics, pace=pace, every=options.every)
            filling = Filling(warehouse, shelf, options, registry)
            service = Recommendations(shelf, precompute, posts_pb2_grpc.PostsServiceStub(content), metrics)
            with observed(options, registry, filling.health):
                async with background(_work(filling, precompute), "recommendations"):
                    await serve(service.application(), host=options.host, port=options.port)
    finally:
        await store.close()


async def _work(filling: "Filling", precompute: Precompute) -> None:
    """Once there is a store, it is filled and asked."""
    await filling.prepare()
    precompute.analytics_away = False
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(filling.run())
        tasks.create_task(precompute.run())


class Filling:
    """The consumer that brings events into the warehouse; its group is named after the store."""

    def __init__(
        self, warehouse: Warehouse, shelf: Shelf, options: argparse.Namespace, registry: CollectorRegistry
    ) -> None:
        self._warehouse = warehouse
        self._shelf = shelf
        self._options = options
        self._metrics = ConsumerMetrics(registry)
        self._consumer: Consumer | None = None
        self._group = ""

    async def prepare(self) -> None:
        """Returns when the store has answered. Raises AnalyticsError where it refuses."""
        said = ""
        while True:
            try:
                identity = await self._warehouse.prepare()
            except AnalyticsUnavailableError as error:
                if said != (said := str(error)):
                    get_logger().warning("analytics awaited", error=said)
                await asyncio.sleep(_PAUSE)
            else:
                self._group = f"{self._options.topic_prefix}recommendations-{identity}"
                return

    async def run(self) -> None:
        """Consume until it is cancelled."""
        self._consumer = Consumer(
            [self._options.topic_prefix + topic for topic in TOPICS],
            group=self._group,
            handler=self._handle,
            brokers=self._options.brokers,
            kafka=kafka_settings.from_environment(),
            slots=SLOTS,
            lanes=LANES,
            metrics=self._metrics,
        )
        await self._consumer.run()

    async def _handle(self, message: Message) -> None:
        if message.event_type == "user-erased":
            user = subject(message)
            await self._warehouse.erase(user)
            await self._shelf.drop(user)
            return
        found = row(message)
        if found is None:
            return
        await self._warehouse.insert(found)
        if isinstance(found, PostRow) and found.author_id == NOBODY:
            await self._shelf.gone(found.post_id)

    def health(self) -> dict[str, object]:
        """For /healthz."""
        return {"status": "ok"} if self._consumer is None else self._consumer.health()


def _store(where: str) -> Store:
    if where.startswith(("http://", "https://")):
        return ClickHouseStore(where)
    return EmbeddedStore(Path(where))


def _hours(text: str) -> frozenset[int]:
    try:
        return hours(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
