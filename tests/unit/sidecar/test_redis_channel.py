"""What a channel's connection to Redis says is heard, and one that says nothing any more is lost."""

import asyncio
from typing import Any

import pytest

from nova_sidecar.store.redis_store import RedisBackend


class Messages:
    """A connection with these things to say, and then nothing; `alive` is one that answers when it is asked."""

    def __init__(self, *said: dict[str, Any], alive: bool = False) -> None:
        self._said = list(said)
        self._alive = alive

    async def get_message(self, **_within: float) -> dict[str, Any] | None:
        return self._said.pop(0) if self._said else None

    async def ping(self) -> None:
        if self._alive:
            self._said.append({"type": "pong", "data": b""})


def hear(messages: Messages) -> list[bytes]:
    heard: list[bytes] = []
    backend = RedisBackend("redis://127.0.0.1:1", 1)
    asyncio.run(backend._hear(messages, heard.append, lambda: heard.append(b"joined")))
    return heard


def test_a_connection_that_is_dead_in_silence_is_lost() -> None:
    """A node that is gone acknowledges nothing and refuses nothing; a ping alone is only written to the kernel."""
    with pytest.raises(TimeoutError):
        hear(Messages())


def test_one_that_answers_is_not() -> None:
    assert hear(Messages(alive=True)) == []


def test_what_comes_is_heard() -> None:
    assert hear(Messages({"type": "message", "data": b"t/a"})) == [b"t/a"]
    assert hear(Messages({"type": "subscribe", "data": 1})) == [b"joined"]
