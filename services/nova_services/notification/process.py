"""notification as one process: the consumer that makes notifications, what removes old ones, HTTP and gRPC.

It starts while its database or Kafka are away.
"""

import argparse
from random import Random

from nova_services import options as flags
from nova_services import retention, rpc
from nova_services.background import background
from nova_services.backing import standing
from nova_services.consuming import consuming
from nova_services.notification.effects import TOPICS, Effects
from nova_services.notification.keeping import DAYS, READ_DAYS, rules
from nova_services.notification.metrics import NotificationMetrics
from nova_services.notification.notifications import Notifications
from nova_services.notification.rpc import NotificationsRpc
from nova_services.notification.service import Notification
from nova_services.retention import RetentionMetrics, retaining
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of notification."""
    flags.grpc_port(parser)
    flags.metrics_port(parser)
    flags.database(parser)
    flags.brokers(parser)
    parser.add_argument(
        "--keep-days",
        metavar="DAYS",
        type=flags.above_zero(36500, "days"),
        default=DAYS,
        help="how long notifications are kept (default %(default)s)",
    )
    parser.add_argument(
        "--keep-read-days",
        metavar="DAYS",
        type=flags.above_zero(36500, "days"),
        default=READ_DAYS,
        help="how long those are kept that were read (default %(default)s)",
    )
    flags.sweep_every(parser, retention.EVERY)


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    async with standing(options, "notification") as stand:
        metrics = NotificationMetrics(stand.registry)
        notifications = Notifications(stand.database)
        service = Notification(notifications, metrics)
        servicer = NotificationsRpc(notifications, service)
        old = rules(days=options.keep_days, read_days=options.keep_read_days)
        kept = RetentionMetrics(stand.registry, old)
        random = Random()  # noqa: S311 - spreads sweeps, guards nothing
        async with (
            consuming(stand, options, TOPICS, Effects(metrics).table()),
            background(retaining(stand.database, old, kept, every=options.sweep_every, random=random), "retention"),
            rpc.served([servicer.register], host=options.host, port=options.grpc_port),
        ):
            await serve(service.application(), host=options.host, port=options.port)
