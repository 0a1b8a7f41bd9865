"""Conversations for tests: a database with its tables, people, and clients that come back as clients should."""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.loopback.data.database import Database
from tests.loopback.support.postgresserver import Server as Postgres

from .process import Answer, Service, running
from .userspeer import UsersPeer

MIGRATIONS = Path(__file__).resolve().parents[3] / "services/nova_services/messaging/migrations"
NOWHERE = "127.0.0.1:1"
"""Of brokers, where a test needs none."""
Frame = dict[str, Any]


@contextmanager
def prepared(postgres: Postgres) -> Iterator[Database]:
    """A database as messaging wants it."""
    made = Database(postgres)
    for words in (("outbox", "install"), ("migrate", MIGRATIONS)):
        done = made.command(*words)
        assert done.returncode == 0, done.stderr
    yield made
    made.drop()


@contextmanager
def messaging(database: Database | str, *words: str, redis: int = 1, brokers: str = NOWHERE) -> Iterator[Service]:
    """A process of messaging; `redis` is a port of loopback, 1 for none. Nobody has blocked anybody."""
    url = database if isinstance(database, str) else database.url
    given = ("--grpc-port", "0", "--metrics-port", "0", "--brokers", brokers, "--redis", f"redis://127.0.0.1:{redis}")
    peer = UsersPeer()
    try:
        with running("messaging", *given, "--users-address", peer.address, *words, DATABASE_URL=url) as service:
            yield service
    finally:
        peer.close()


def person() -> str:
    """Somebody new."""
    return str(uuid.uuid4())


def begin(service: Service, first: str, *others: str) -> str:
    """A conversation that the first one begins."""
    answer = service.call("/conversations", "POST", {"members": others}, x_nova_subject=first)
    assert answer.status == 201, answer
    return str(answer.body["conversationId"])


def say(service: Service, sender: str, conversation: str, text: str, client: str | None = None, **more: str) -> Answer:
    """A message by HTTP."""
    body = {"clientId": client or str(uuid.uuid4()), "text": text}
    return service.call(f"/conversations/{conversation}/messages", "POST", body, x_nova_subject=sender, **more)


@contextmanager
def chat(
    service: Service, user: str, after: int | None = None, *, said: Mapping[str, str] | None = None, **options: Any
) -> Iterator[ClientConnection]:
    """A WebSocket, of which the first frame is still to be read; `said` are further headers of the sidecar's."""
    query = "" if after is None else f"?after={after}"
    url = f"ws://127.0.0.1:{service.port}/chat{query}"
    headers = {"x-nova-subject": user, **(said or {})}
    with connect(url, additional_headers=headers, open_timeout=10, compression=None, proxy=None, **options) as socket:
        yield socket


@contextmanager
def ready(
    service: Service, user: str, after: int | None = None, *, said: Mapping[str, str] | None = None
) -> Iterator[ClientConnection]:
    """The same, after its first frame."""
    with chat(service, user, after, said=said) as socket:
        assert hear(socket)["type"] == "ready"
        yield socket


def hear(socket: ClientConnection, within: float = 10.0) -> Frame:
    """The next frame."""
    frame: Frame = json.loads(socket.recv(timeout=within))
    return frame


def closed(socket: ClientConnection, within: float = 10.0) -> tuple[int, str]:
    """Code and reason with which it is closed; what comes before is passed over."""
    with suppress(ConnectionClosed):
        while True:
            hear(socket, within)
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


def send(socket: ClientConnection, conversation: str, text: str, client: str | None = None) -> str:
    """A message by WebSocket; returns its client id."""
    identity = client or str(uuid.uuid4())
    frame = {"type": "send", "conversationId": conversation, "clientId": identity, "text": text}
    socket.send(json.dumps(frame))
    return identity


class Client:
    """Somebody who chats through whatever process there is, and comes back when it is not there any more.

    `heard` is every message frame as it came, `sent` the client ids that were acknowledged, `codes` what WebSockets
    were closed with. It remembers what it has read and what it has not been told of, as any client must.
    """

    def __init__(self, user: str, conversations: list[str], ports: Callable[[], list[int]], random: Random) -> None:
        self.user = user
        self.after = 0
        self.heard: list[Frame] = []
        self.sent: list[str] = []
        self.codes: list[int | None] = []
        self.written: dict[str, str] = {}
        """The conversation of each message, by client id."""
        self.waiting: dict[str, Frame] = {}
        """Frames without an answer yet, by client id."""
        self._said: set[str] = set()
        """Of them, those that this WebSocket has taken."""
        self._conversations = conversations
        self._ports = ports
        self._random = random

    def write(self, text: str) -> None:
        """Something to say, in one of the conversations."""
        identity = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        conversation = self._random.choice(self._conversations)
        self.written[identity] = conversation
        self.waiting[identity] = {
            "type": "send",
            "conversationId": conversation,
            "clientId": identity,
            "text": text,
        }

    def shares(self, other: "Client") -> int:
        """How many messages of another one are for this one, too."""
        return sum(conversation in self._conversations for conversation in other.written.values())

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Until it is cancelled."""
        while True:
            port = self._random.choice(self._ports())
            url = f"http://127.0.0.1:{port}/chat?after={self.after}"
            try:
                async with session.ws_connect(url, headers={"x-nova-subject": self.user}) as socket:
                    await self._talk(socket)
                    self.codes.append(socket.close_code)
            except aiohttp.ClientError:
                await asyncio.sleep(0.02 + self._random.random() / 20)

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        talking = asyncio.create_task(self._say(socket))
        try:
            async for message in socket:
                self._take(json.loads(message.data))
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _say(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._said.clear()
        while True:
            for identity, frame in tuple(self.waiting.items()):
                if identity not in self._said:
                    self._said.add(identity)
                    await socket.send_str(json.dumps(frame))
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.02)

    def _take(self, frame: Frame) -> None:
        if frame["type"] == "message":
            self.after = frame["after"]
            self.heard.append(frame)
        elif frame["type"] == "sent" and self.waiting.pop(frame["clientId"], None):
            self.sent.append(frame["clientId"])
        elif frame["type"] == "error":
            assert "retryAfter" in frame, frame
            self._said.discard(frame["clientId"])  # it is sent again
