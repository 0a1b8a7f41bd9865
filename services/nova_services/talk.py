"""People who chat, for the demo and the end-to-end tests: they go on through rolling updates, and keep the books.

Standard input has one line of JSON, {"conversationId", "logins": [{"accessToken", "refreshToken"}]}, since command
lines are no place for tokens; then its end says that all has been said. Results are JSON on standard output, after the
line `started`.

Each device has one WebSocket and does what a good client does. A message is its own until the answer `sent` has come:
when the WebSocket was closed, it comes back at once, says how far it has read, and sends again what was not answered,
under the same client id. One that was closed with its token gets another token first; the devices of a login share it,
since a refresh token is good for once. In the end everybody must have read everything once, and in the order of
positions.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from nova_services.load import STARTED, end_of_input

EXPIRED = 4401
"""Code of messaging's: another token is needed."""
UNAUTHORIZED = 401
"""The same, said by a status."""
CLEAN = (1000, 1001, 1012, EXPIRED)
"""Codes of a close that was meant (RFC 6455 section 7.4.1; 1012: the service restarts)."""
_LAST_WORDS = 30.0
"""Seconds in which what was sent must have come to everybody."""
_AGAIN = 0.2


@dataclass
class Scene:
    """What all of them share: when they speak and leave, and what happened to them."""

    conversation: str
    pause: float
    """Seconds between two messages of one of them."""
    begin: asyncio.Event = field(default_factory=asyncio.Event)
    """All are here: what is said earlier, a later one need not hear."""
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody has heard something."""
    codes: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    longest: float = 0.0
    """Seconds that somebody was without a WebSocket."""


class Login:
    """The tokens of one login; `refresh` is the URL that gives the next ones."""

    def __init__(self, given: Mapping[str, str], refresh: str) -> None:
        self._given = given
        self._refresh = refresh
        self._renewing = asyncio.Lock()

    @property
    def token(self) -> str:
        """The access token."""
        return self._given["accessToken"]

    async def renew(self, session: aiohttp.ClientSession, expired: str) -> None:
        """Get another token for the one that has expired, unless another device has. Raises what aiohttp does."""
        async with self._renewing:
            if self.token == expired:
                body = {"refreshToken": self._given["refreshToken"]}
                async with session.post(self._refresh, json=body, raise_for_status=True) as answer:
                    self._given = await answer.json()


class Talker:
    """One device of a person. `heard` are positions and texts in the order in which they came."""

    def __init__(self, name: str, login: Login, scene: Scene) -> None:
        self._name = name
        self._login = login
        self._scene = scene
        self._after: int | None = None
        self._waiting: dict[str, str] = {}
        self._again: list[str] = []
        self.said: list[str] = []
        self.heard: list[tuple[int, str]] = []
        self.here = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Talker {self._name} after={self._after} said={len(self.said)} waiting={len(self._waiting)}>"

    @property
    def unanswered(self) -> int:
        """Messages that were sent and perhaps not stored."""
        return len(self._waiting)

    async def talk(self, session: aiohttp.ClientSession, url: str) -> None:
        """Come, and come back whenever the WebSocket is closed, until all is over."""
        scene, gone, expired = self._scene, time.monotonic(), ""
        while not scene.over.is_set():
            place = "" if self._after is None else f"?after={self._after}"
            try:
                if expired:
                    await self._login.renew(session, expired)
                    expired = ""
                token = self._login.token
                headers = {"authorization": f"Bearer {token}"}
                async with session.ws_connect(f"{url}{place}", headers=headers) as chat:
                    if self.here.is_set():
                        scene.reconnects += 1
                        scene.longest = max(scene.longest, time.monotonic() - gone)
                    await self._converse(chat)
                    gone = time.monotonic()
                    if not scene.over.is_set():
                        scene.codes[chat.close_code or 0] += 1
                if chat.close_code == EXPIRED:
                    expired = token
            except aiohttp.WSServerHandshakeError as error:
                if error.status == UNAUTHORIZED:  # it expired while there was no WebSocket to be closed with it
                    expired = token
                scene.errors[f"handshake {error.status}"] += 1
                await asyncio.sleep(_AGAIN)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                scene.errors[type(error).__name__] += 1
                await asyncio.sleep(_AGAIN)

    async def _converse(self, chat: aiohttp.ClientWebSocketResponse) -> None:
        beside = [asyncio.create_task(self._speak(chat)), asyncio.create_task(self._leave(chat))]
        try:
            async for frame in chat:
                if frame.type is aiohttp.WSMsgType.TEXT:
                    self._hear(json.loads(frame.data))
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _speak(self, chat: aiohttp.ClientWebSocketResponse) -> None:
        self._again = list(self._waiting)
        await self._scene.begin.wait()
        while True:
            while self._again:
                await self._send(chat, self._again.pop(0))
            if not self._scene.quiet.is_set():
                client, text = str(uuid.uuid4()), f"{self._name} {len(self.said)}"
                self.said.append(text)
                self._waiting[client] = text
                await self._send(chat, client)
            await asyncio.sleep(self._scene.pause)

    async def _leave(self, chat: aiohttp.ClientWebSocketResponse) -> None:
        await self._scene.over.wait()
        await chat.close()

    async def _send(self, chat: aiohttp.ClientWebSocketResponse, client: str) -> None:
        frame = {"type": "send", "conversationId": self._scene.conversation, "clientId": client}
        await chat.send_str(json.dumps({**frame, "text": self._waiting[client]}))

    def _hear(self, frame: dict[str, Any]) -> None:
        self._scene.news.set()
        match frame["type"]:
            case "ready":
                self._after = frame["after"]
                self.here.set()
            case "message":
                self._after = frame["after"]
                self.heard.append((frame["position"], frame["text"]))
            case "sent":
                self._waiting.pop(frame["clientId"], None)
            case other:
                self._scene.errors[f"{other}: {frame.get('error', '')}"] += 1
                if frame.get("retryAfter") and frame.get("clientId") in self._waiting:
                    self._again.append(frame["clientId"])


def judge(said: Sequence[str], heard: Sequence[Sequence[tuple[int, str]]]) -> dict[str, Any]:
    """What each of them should have heard, against what they did: texts that were lost, or came more than once, and how
    many of them heard something out of order."""
    counts = [Counter(text for _, text in one) for one in heard]
    return {
        "said": len(said),
        "lost": sorted({text for count in counts for text in said if text not in count})[:20],
        "doubled": sorted({text for count in counts for text, often in count.items() if often > 1})[:20],
        "disordered": sum(1 for one in heard if [position for position, _ in one] != sorted(p for p, _ in one)),
    }


async def _run(url: str, refresh: str, rate: float, devices: int) -> dict[str, Any]:
    given = json.loads(await asyncio.to_thread(_first_line))
    scene = Scene(given["conversationId"], 1 / rate, quiet=end_of_input())
    logins = [Login(one, refresh) for one in given["logins"]]
    people = [Talker(f"p{who}.{number}", login, scene) for who, login in enumerate(logins) for number in range(devices)]
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for one in people:
            group.create_task(one.talk(session, url))
        await asyncio.gather(*(one.here.wait() for one in people))
        scene.begin.set()
        print(STARTED, flush=True)
        await scene.quiet.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                while not _settled(people):
                    scene.news.clear()
                    await scene.news.wait()
        scene.over.set()
    result = judge([text for one in people for text in one.said], [one.heard for one in people])
    return result | {
        "unanswered": sum(one.unanswered for one in people),
        "codes": {str(code): count for code, count in scene.codes.items()},
        "unclean": sum(count for code, count in scene.codes.items() if code not in CLEAN),
        "errors": dict(scene.errors),
        "reconnects": scene.reconnects,
        "longest": round(scene.longest, 3),
    }


def _first_line() -> bytes:
    """Of standard input, and not a byte more: what follows is looked for by `end_of_input`."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as source:
        return source.readline()


def _settled(people: Sequence[Talker]) -> bool:
    total = sum(len(one.said) for one in people)
    return all(not one.unanswered and len({text for _, text in one.heard}) == total for one in people)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0 once all has been said, whatever became of it."""
    parser = argparse.ArgumentParser(prog="python -m nova_services.talk", description="People who chat, and count.")
    parser.add_argument("url", help="such as http://messaging/chat")
    parser.add_argument("--refresh", required=True, metavar="URL", help="of new tokens, such as http://auth/refresh")
    parser.add_argument("--rate", type=float, default=5.0, help="messages a second of each (default %(default)s)")
    parser.add_argument("--devices", type=int, default=1, help="WebSockets of each login (default %(default)s)")
    given = parser.parse_args(argv)
    print(json.dumps(asyncio.run(_run(given.url, given.refresh, given.rate, given.devices))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
