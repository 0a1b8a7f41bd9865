"""search as a process: the index, who fills it, and who asks it."""

import argparse

from nova.users.v1 import users_pb2_grpc

from nova_data.cache.metrics import CacheMetrics
from nova_services import options, rpc
from nova_services.backing import standing
from nova_services.blocks import Blocks
from nova_services.consuming import consuming
from nova_services.logs import get_logger
from nova_services.search.index import Index
from nova_services.search.indexer import TOPICS, Indexer
from nova_services.search.metrics import SearchMetrics
from nova_services.search.service import FRESH, STANDS_IN, Search
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    options.database(parser)
    options.brokers(parser)
    options.metrics_port(parser)
    options.address(parser, "users")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="empty the index and end; processes that start after that fill it from the beginning of the topics",
    )


async def run(given: argparse.Namespace) -> None:
    """Serve until SIGTERM, or empty the index."""
    async with standing(given, "search") as stand:
        index, metrics = Index(stand.database), SearchMetrics(stand.registry)
        if given.rebuild:
            get_logger().info("index emptied", index_generation=await index.begin_anew())
            return
        indexer = Indexer(index, metrics)
        async with (
            rpc.channel(given.users_address) as users,
            consuming(stand, given, TOPICS, indexer.effects(), group=await indexer.group()),
        ):
            blocks = Blocks(
                users_pb2_grpc.UsersServiceStub(users),
                fresh=FRESH,
                stands_in=STANDS_IN,
                unknown=metrics.unknown_blocks,
                cache=CacheMetrics(stand.registry),
            )
            await serve(Search(index, blocks, metrics).application(), host=given.host, port=given.port)
