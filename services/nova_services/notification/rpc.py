"""notification over gRPC: NotificationsService, for services that show notifications."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from nova.notifications.v1 import notifications_pb2, notifications_pb2_grpc

from nova_services.bodies import paged, uuid
from nova_services.notification.notifications import Notification, Notifications
from nova_services.notification.service import Notification as Service


class NotificationsRpc(notifications_pb2_grpc.NotificationsServiceServicer):
    """See the proto; errors are those of `nova_services.errors`."""

    def __init__(self, notifications: Notifications, service: Service) -> None:
        self._notifications = notifications
        self._service = service

    def register(self, server: aio.Server) -> None:
        """Add it to a server."""
        notifications_pb2_grpc.add_NotificationsServiceServicer_to_server(self, server)

    async def ListNotifications(  # noqa: N802 - the proto's name
        self, request: notifications_pb2.ListNotificationsRequest, context: Any
    ) -> notifications_pb2.ListNotificationsResponse:
        """Notifications of a user, newest first."""
        page = paged(request.page_size, request.page_token)
        user = uuid("user_id", request.user_id)
        rows, unread = await self._notifications.of(user, before=page.after(int), limit=page.size + 1)
        found, following = page.cut(rows, lambda row: row.position)
        return notifications_pb2.ListNotificationsResponse(
            notifications=map(_told, found), next_page_token=following, unread=unread
        )

    async def MarkRead(  # noqa: N802 - the proto's name
        self, request: notifications_pb2.MarkReadRequest, context: Any
    ) -> notifications_pb2.MarkReadResponse:
        """One and all older ones are read."""
        identity = uuid("notification_id", request.notification_id)
        unread = await self._service.read(uuid("user_id", request.user_id), identity)
        return notifications_pb2.MarkReadResponse(unread=unread)


def _told(found: Notification) -> notifications_pb2.Notification:
    created = Timestamp()
    created.FromDatetime(found.created_at)
    return notifications_pb2.Notification(
        notification_id=str(found.identity),
        kind=notifications_pb2.Kind.Value(found.kind),
        actor_id=str(found.actor or ""),
        subject_id=str(found.subject or ""),
        created_at=created,
        read=found.read,
    )
