"""notification as one process: the consumer that makes notifications, HTTP and gRPC.

It starts while its database or Kafka are away.
"""

import argparse

from nova_services import options as flags
from nova_services import rpc
from nova_services.backing import standing
from nova_services.consuming import consuming
from nova_services.notification.effects import TOPICS, Effects
from nova_services.notification.metrics import NotificationMetrics
from nova_services.notification.notifications import Notifications
from nova_services.notification.rpc import NotificationsRpc
from nova_services.notification.service import Notification
from nova_services.web import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of notification."""
    flags.grpc_port(parser)
    flags.metrics_port(parser)
    flags.database(parser)
    flags.brokers(parser)


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    async with standing(options, "notification") as stand:
        metrics = NotificationMetrics(stand.registry)
        notifications = Notifications(stand.database)
        service = Notification(notifications, metrics)
        servicer = NotificationsRpc(notifications, service)
        async with (
            consuming(stand, options, TOPICS, Effects(metrics).table()),
            rpc.served([servicer.register], host=options.host, port=options.grpc_port),
        ):
            await serve(service.application(), host=options.host, port=options.port)
