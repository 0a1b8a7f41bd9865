"""messaging as one process: WebSockets and HTTP, gRPC, and the consumer that hears of people who are erased.

It starts while its database, Kafka or Redis are away.
"""

import argparse
from random import Random

from nova_services import options as flags
from nova_services import rpc
from nova_services.backing import standing
from nova_services.messaging.chat import PATIENCE
from nova_services.messaging.conversations import Conversations
from nova_services.messaging.leaving import PLACES, leave
from nova_services.messaging.metrics import MessagingMetrics
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
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=flags.positive,
        default=round(PATIENCE),
        help="how long a client may leave a message untaken (default %(default)s)",
    )


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    async with standing(options, "messaging") as stand:
        conversations = Conversations(stand.database)
        messaging = Messaging(
            conversations,
            MessagingMetrics(stand.registry),
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
