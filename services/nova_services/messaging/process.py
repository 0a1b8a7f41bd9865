"""messaging as one process: WebSockets and HTTP, gRPC, and the consumer that hears of people who are erased.

It starts while its database, Kafka, Redis or users are away.
"""

import argparse
from random import Random

from nova.users.v1 import users_pb2_grpc

from nova_data.cache.metrics import CacheMetrics
from nova_services import options as flags
from nova_services import rpc
from nova_services.backing import standing
from nova_services.blocks import Blocks
from nova_services.messaging.chat import PATIENCE
from nova_services.messaging.conversations import Conversations
from nova_services.messaging.leaving import PLACES, leave
from nova_services.messaging.metrics import MessagingMetrics
from nova_services.messaging.permission import FRESH, STANDS_IN, Permission
from nova_services.messaging.rpc import MessagesRpc
from nova_services.messaging.service import Messaging
from nova_services.removal import Removal
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of messaging."""
    flags.grpc_port(parser)
    flags.metrics_port(parser)
    flags.database(parser)
    flags.brokers(parser)
    flags.redis(parser)
    flags.address(parser, "users")
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=flags.positive,
        default=round(PATIENCE),
        help="how long a client may leave a message untaken (default %(default)s)",
    )


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    async with standing(options, "messaging") as stand, rpc.channel(options.users_address) as users:
        conversations = Conversations(stand.database)
        metrics, cache = MessagingMetrics(stand.registry), CacheMetrics(stand.registry)
        blocks = Blocks(
            users_pb2_grpc.UsersServiceStub(users),
            fresh=FRESH,
            stands_in=STANDS_IN,
            unknown=metrics.unknown_blocks,
            cache=cache,
        )
        messaging = Messaging(
            conversations,
            Permission(conversations, blocks, metrics, cache),
            metrics,
            redis=options.redis,
            patience=options.patience,
            random=Random(),  # noqa: S311 - spreads retries, guards nothing
        )
        servicer = MessagesRpc(conversations, messaging.sending)
        async with (
            Removal(stand.database, PLACES, before=leave).consumed(stand, options),
            rpc.served([servicer.register], host=options.host, port=options.grpc_port),
        ):
            await serve(messaging.application(), host=options.host, port=options.port)
