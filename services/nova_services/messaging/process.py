"""messaging as one process: WebSockets and HTTP, gRPC, what keeps its tables small, and the consumer that hears of
people who log out or are erased.

It starts while its database, Kafka, Redis or users are away.
"""

import argparse
from random import Random

from nova.users.v1 import users_pb2_grpc

from nova_data.cache.metrics import CacheMetrics
from nova_services import options as flags
from nova_services import retention, rpc
from nova_services.background import background
from nova_services.backing import standing
from nova_services.blocks import Blocks
from nova_services.messaging.chat import PATIENCE
from nova_services.messaging.conversations import Conversations
from nova_services.messaging.leaving import PLACES, leave
from nova_services.messaging.metrics import MessagingMetrics
from nova_services.messaging.permission import FRESH, STANDS_IN, Permission
from nova_services.messaging.rpc import MessagesRpc
from nova_services.messaging.service import Messaging
from nova_services.messaging.sessions import EVENT, Sessions, forget
from nova_services.messaging.staying import LONGEST, MOST
from nova_services.messaging.trimming import KEPT, trimming
from nova_services.removal import Removal
from nova_services.retention import RetentionMetrics, Rule, retaining
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
    parser.add_argument(
        "--longest",
        metavar="SECONDS",
        type=flags.above_zero(86400),
        default=LONGEST,
        help="how long a WebSocket may go on; its token may end it earlier (default %(default)g)",
    )
    parser.add_argument(
        "--most-sockets",
        metavar="COUNT",
        type=flags.positive,
        default=MOST,
        help="WebSockets of one user in this process (default %(default)s)",
    )
    parser.add_argument(
        "--keep-places",
        metavar="COUNT",
        type=flags.positive,
        default=KEPT,
        help="messages that somebody who was away can read on from (default %(default)s)",
    )
    flags.sweep_every(parser, retention.EVERY)


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    async with standing(options, "messaging") as stand, rpc.channel(options.users_address) as users:
        conversations, sessions = Conversations(stand.database), Sessions(stand.database)
        random = Random()  # noqa: S311 - spreads retries and sweeps, guards nothing
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
            sessions,
            metrics,
            redis=options.redis,
            patience=options.patience,
            longest=options.longest,
            most=options.most_sockets,
            random=random,
        )
        servicer = MessagesRpc(conversations, messaging.sending)
        removal = Removal(stand.database, PLACES, before=leave, others={EVENT: sessions.ended})
        rules = [Rule("streams", trimming(options.keep_places)), Rule("ended_sessions", forget)]
        kept = RetentionMetrics(stand.registry, rules)
        async with (
            removal.consumed(stand, options),
            background(retaining(stand.database, rules, kept, every=options.sweep_every, random=random), "retention"),
            rpc.served([servicer.register], host=options.host, port=options.grpc_port),
        ):
            await serve(messaging.application(), host=options.host, port=options.port)
