"""messaging over HTTP; who asks is whom the sidecar has read in the token.

    POST /conversations                  {"members"}                      201 the conversation; 403 for a block
    GET  /conversations                  ?pageSize=&pageToken=            200 one's own, newest first
    GET  /conversations/{id}/messages    ?after=&pageSize=&pageToken=     200 oldest first; 404
    POST /conversations/{id}/messages    {"clientId", "text"}             201; 200 where it was sent before; 403; 404
    GET  /chat                           ?after=                          a WebSocket, see `frames` and `staying`
    GET  /healthz, /openapi.json

503 with Retry-After while the database is away, or users where a block must be known (`permission`), and for WebSockets
while the process ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from random import Random
from time import time
from typing import Final
from uuid import UUID

from aiohttp import web

from nova_services import bodies
from nova_services.background import background
from nova_services.backing import unavailable
from nova_services.bodies import answer, identifier
from nova_services.errors import InvalidError, UnavailableError
from nova_services.identity import Login, login, unauthorized, viewer
from nova_services.messaging import forms, frames
from nova_services.messaging.api import API
from nova_services.messaging.chat import ANSWER, PATIENCE, Chat
from nova_services.messaging.conversations import Conversations
from nova_services.messaging.forms import Messages, NewConversation, NewMessage
from nova_services.messaging.hub import Hub
from nova_services.messaging.metrics import MessagingMetrics
from nova_services.messaging.permission import Permission
from nova_services.messaging.sending import Sending
from nova_services.messaging.sessions import Sessions
from nova_services.messaging.staying import LONGEST, MOST, Closed, life
from nova_services.messaging.wakeups import Wakeups
from nova_services.messaging.watching import LOOK_EVERY, watch
from nova_services.openapi import publish
from nova_services.web import application

PING_EVERY: Final = 30.0
"""Seconds after which a silent client is asked whether it is there."""
_FARTHEST: Final = 2**63 - 1


class Messaging:
    """The service; its database is open as long as it serves. `patience`, `longest` and `look_every` are in seconds,
    `most` is of one user's WebSockets."""

    def __init__(
        self,
        conversations: Conversations,
        permission: Permission,
        sessions: Sessions,
        metrics: MessagingMetrics,
        *,
        redis: str | None,
        random: Random,
        patience: float = PATIENCE,
        longest: float = LONGEST,
        most: int = MOST,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self._conversations = conversations
        self._permission = permission
        self._sessions = sessions
        self._metrics = metrics
        self._random = random
        self._patience = patience
        self._longest = longest
        self._look_every = look_every
        self._hub = Hub(most)
        self._wakeups = (
            Wakeups(redis, told=self._hub.wake, missed=self._wake_all, random=random) if redis is not None else None
        )
        self.sending = Sending(conversations, permission, self._hub, self._wakeups, metrics)
        self._chats: set[Chat] = set()
        self._ending = False

    def application(self) -> web.Application:
        """The web application."""
        made = application(
            web.post("/conversations", self._begin),
            web.get("/conversations", self._list),
            web.get("/conversations/{id}/messages", self._read),
            web.post("/conversations/{id}/messages", self._send),
            web.get("/chat", self._chat),
        )
        made.middlewares.append(unavailable)
        made.cleanup_ctx.append(self._watching)
        made.on_shutdown.append(self._end)
        publish(made, API)
        return made

    # --- for the life of the process

    async def _watching(self, _application: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            looking = watch(self._conversations, self._sessions, self._hub, self._metrics, every=self._look_every)
            await stack.enter_async_context(background(looking, "streams"))
            if self._wakeups is not None:
                await stack.enter_async_context(background(self._wakeups.run(), "wake-ups"))
            yield

    def _wake_all(self) -> None:
        for reader in self._hub.readers():
            reader.wake()

    async def _end(self, _application: web.Application) -> None:
        """Nobody comes in any more; who is here is asked to go, and the server waits for it."""
        self._ending = True
        for chat in self._chats:
            chat.end("ending")

    # --- requests

    async def _begin(self, request: web.Request) -> web.Response:
        asking, given = viewer(request), await bodies.read(request, NewConversation)
        await self._permission.require_beginning(asking, given.members)
        made = await self._conversations.begin({asking, *given.members})
        return answer(forms.conversation(made), status=201)

    async def _list(self, request: web.Request) -> web.Response:
        asking, page = viewer(request), bodies.page(request)
        rows = await self._conversations.of(asking, before=page.after(UUID), limit=page.size + 1)
        found, following = page.cut(rows, lambda row: row.conversation)
        return answer(forms.Conversations([forms.conversation(one) for one in found], following))

    async def _read(self, request: web.Request) -> web.Response:
        asking, page = viewer(request), bodies.page(request)
        after = max(_after(request) or 0, page.after(int) or 0)
        rows = await self._conversations.after(identifier(request), asking, after, limit=page.size + 1)
        found, following = page.cut(rows, lambda row: row.position)
        return answer(Messages([forms.message(one) for one in found], following))

    async def _send(self, request: web.Request) -> web.Response:
        asking, given = viewer(request), await bodies.read(request, NewMessage)
        sent = await self.sending.send(given.draft(identifier(request), asking))
        return answer(forms.message(sent.message), status=200 if sent.repeated else 201)

    # --- WebSockets

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        user, given, after = viewer(request), login(request), _after(request)
        if self._ending:
            raise UnavailableError("the service")
        await self._admit(user, given)
        begin, end = await self._conversations.extent(user)
        await self._conversations.here([user])
        socket = web.WebSocketResponse(
            timeout=ANSWER,
            heartbeat=PING_EVERY,
            max_msg_size=frames.LARGEST,
            compress=False,  # a frame leaves whole however a task ends, and a WebSocket costs no window of 300 KB
        )
        await socket.prepare(request)
        if after is not None:
            self._metrics.reconnects.inc()
        chat = Chat(
            socket,
            user,
            end if after is None else max(begin, min(after, end)),
            session=given.session,
            conversations=self._conversations,
            sending=self.sending,
            metrics=self._metrics,
            random=self._random,
            transport=request.transport,
            patience=self._patience,
        )
        self._metrics.closed(await self._talk(chat, life(given.expires, time(), self._longest)))
        return socket

    async def _admit(self, user: UUID, given: Login) -> None:
        """Raises 401 for a token that has not expired yet, and whose login has ended."""
        if any(await self._sessions.over([user], [given.session] if given.session else [])):
            raise unauthorized()

    async def _talk(self, chat: Chat, seconds: float) -> Closed:
        self._hub.join(chat)
        self._chats.add(chat)
        if self._ending:  # since it was let in
            chat.end("ending")
        expiring = asyncio.get_running_loop().call_later(seconds, chat.end, "expired")
        try:
            with self._metrics.sockets.track_inprogress():
                return await chat.run()
        finally:
            expiring.cancel()
            self._hub.leave(chat)
            self._chats.discard(chat)


def _after(request: web.Request) -> int | None:
    """The number that a client has read up to; None where it gives none. Raises InvalidError."""
    text = request.query.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _FARTHEST):
        raise InvalidError("after", f"a whole number from 0 to {_FARTHEST}")
    return int(text)
