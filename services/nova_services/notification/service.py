"""notification over HTTP; who asks is whom the sidecar has read in the token.

    GET  /notifications              ?pageSize=&pageToken=    200 one's own, newest first, and how many are unread
    POST /notifications/{id}/read                             200 it and all older ones are read; 404
    POST /notifications/read                                  200 all of them are read
    GET  /healthz, /openapi.json

503 with Retry-After while the database is away.
"""

from uuid import UUID

from aiohttp import web

from nova_services import bodies
from nova_services.backing import unavailable
from nova_services.bodies import answer, identifier
from nova_services.identity import viewer
from nova_services.notification import forms
from nova_services.notification.api import API
from nova_services.notification.forms import Unread
from nova_services.notification.metrics import NotificationMetrics
from nova_services.notification.notifications import Notifications
from nova_services.openapi import publish
from nova_services.web import application


class Notification:
    """The service; its database is open as long as it serves."""

    def __init__(self, notifications: Notifications, metrics: NotificationMetrics) -> None:
        self._notifications = notifications
        self._metrics = metrics

    def application(self) -> web.Application:
        """The web application."""
        made = application(
            web.get("/notifications", self._list),
            web.post("/notifications/read", self._read_all),
            web.post("/notifications/{id}/read", self._read_one),
        )
        made.middlewares.append(unavailable)
        publish(made, API)
        return made

    async def read(self, user: UUID, identity: UUID | None) -> int:
        """One and all older ones are read, or all there are; how many are not. Raises NotFoundError."""
        read, unread = await self._notifications.read(user, identity)
        self._metrics.read(read)
        return unread

    async def _list(self, request: web.Request) -> web.Response:
        user, page = viewer(request), bodies.page(request)
        rows, unread = await self._notifications.of(user, before=page.after(int), limit=page.size + 1)
        found, following = page.cut(rows, lambda row: row.position)
        return answer(forms.Notifications([forms.notification(one) for one in found], following, unread))

    async def _read_one(self, request: web.Request) -> web.Response:
        return answer(Unread(await self.read(viewer(request), identifier(request))))

    async def _read_all(self, request: web.Request) -> web.Response:
        return answer(Unread(await self.read(viewer(request), None)))
