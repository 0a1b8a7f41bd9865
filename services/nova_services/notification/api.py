"""What notification says of its HTTP side, for /openapi.json."""

from typing import Final

from nova_services.notification.forms import Notifications, Unread
from nova_services.openapi import Api, Operation, Paging, Problem

API: Final = Api(
    "notification",
    "What people should hear of.",
    (
        Operation("GET", "/notifications", "One's own, newest first.", {200: Notifications}, query=Paging, viewer=True),
        Operation(
            "POST",
            "/notifications/{id}/read",
            "It and all older ones are read.",
            {200: Unread, 404: Problem},
            viewer=True,
        ),
        Operation("POST", "/notifications/read", "All of them are read.", {200: Unread}, viewer=True),
    ),
)
