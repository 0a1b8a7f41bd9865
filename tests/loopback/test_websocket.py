"""Upgrades pass through: after 101 the connection is the two ends' own (RFC 6455, RFC 9110 section 7.8)."""

import contextlib
import os
import struct
from collections.abc import Iterator

import pytest

from nova_api.policies import TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartSidecar
from .support.message import request, response
from .support.peer import Listener
from .support.sidecar import document, inbound
from .support.waiting import eventually, holds
from .support.websocket import ACCEPT, BINARY, CLOSE, KEY, PING, PONG, SWITCHED, TEXT, UPGRADE, Chat, frame


@pytest.fixture
def chat(start: StartSidecar, listener: Listener) -> Iterator[Chat]:
    """An open WebSocket; every budget of the HTTP side is far shorter than a conversation."""
    impatient = TimeoutPolicy(
        request=Duration(0.5), attempt=Duration(0.5), connect=Duration(0.5), stream_idle=Duration(0.5)
    )
    sidecar = start(document(inbound(listener.address, protocol="websocket", timeout=impatient)))
    client = sidecar.connect()
    client.send(UPGRADE)
    app = listener.accept()
    arrived = app.head()
    assert arrived.has("connection", "upgrade")
    assert (arrived.get("upgrade"), arrived.get("sec-websocket-key")) == ("websocket", KEY)
    app.send(SWITCHED)
    switched = client.response(interim=True)
    assert (switched.status, switched.get("sec-websocket-accept")) == (101, ACCEPT)
    assert switched.has("connection", "upgrade")
    yield Chat(sidecar, client, app)
    client.close()
    app.close()
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)


def test_messages_pass_both_ways(chat: Chat) -> None:
    hello = frame(TEXT, b"hello", masked=True)
    chat.client.send(hello)
    assert chat.app.read_exactly(len(hello)) == hello
    answer = frame(TEXT, b"hi", masked=False)
    chat.app.send(answer)
    assert chat.client.read_exactly(len(answer)) == answer


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
def test_frames_of_every_size(chat: Chat, size: int) -> None:
    data = frame(BINARY, os.urandom(size), masked=True)

    chat.client.send(data)

    assert chat.app.read_exactly(len(data)) == data


def test_fragments_and_control_frames_between_them(chat: Chat) -> None:
    chat.passes(frame(TEXT, b"one ", masked=True, final=False) + frame(PING, b"?", masked=True))
    chat.passes(frame(PONG, b"?", masked=True) + frame(0, b"two", masked=True))


def test_bytes_one_by_one(chat: Chat) -> None:
    for byte in frame(TEXT, b"slow", masked=True):
        chat.passes(bytes([byte]))


def test_silence_is_no_fault(chat: Chat) -> None:
    """No budget of a request applies to a conversation: three times the longest one passes without a word."""
    holds(lambda: not chat.client.is_closed(), for_seconds=1.5)
    chat.passes(frame(TEXT, b"still here", masked=True))


def test_close_handshake(chat: Chat) -> None:
    goodbye = struct.pack("!H", 1000) + b"bye"
    chat.passes(frame(CLOSE, goodbye, masked=True))
    chat.app.finish()

    chat.client.read_to_end()
    chat.client.finish()
    chat.app.expect_closed()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("who", ["client", "app"])
def test_an_end_that_vanishes_takes_the_other_along(chat: Chat, who: str, end: str) -> None:
    gone, left = (chat.client, chat.app) if who == "client" else (chat.app, chat.client)
    getattr(gone, end)()

    left.expect_closed()


def test_it_counts_as_in_flight(chat: Chat) -> None:
    assert chat.sidecar.metric("nova_requests_in_flight") == 1


def test_bytes_sent_along_with_the_upgrade(start: StartSidecar, listener: Listener) -> None:
    """What follows the two heads in the same packet belongs to the conversation."""
    sidecar = start(document(inbound(listener.address, protocol="websocket")))
    early, first = frame(TEXT, b"early", masked=True), frame(TEXT, b"first", masked=False)
    with sidecar.connect() as client:
        client.send(UPGRADE + early)
        app = listener.accept()
        app.head()
        app.send(SWITCHED + first)
        assert client.response(interim=True).status == 101
        assert client.read_exactly(len(first)) == first
        assert app.read_exactly(len(early)) == early
        app.close()


def test_an_app_that_does_not_upgrade(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address, protocol="websocket")))
    with sidecar.connect() as client:
        client.send(UPGRADE)
        app = listener.accept()
        app.head()
        app.send(response("403 Forbidden", body=b"no"))
        refusal = client.response()
        assert (refusal.status, refusal.body) == (403, b"no")


def test_plain_requests_on_the_same_port(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address, protocol="websocket")))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        app.send(response(body=b"plain"))
        assert client.response().body == b"plain"


def test_flow_control_reaches_through(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address, protocol="websocket")))
    before = sidecar.rss
    with sidecar.connect(receive_buffer=4096) as client:
        client.send(UPGRADE)
        app = listener.accept()
        app.head()
        app.send(SWITCHED)
        client.response(interim=True)
        app.socket.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += app.socket.send(b"x" * 65536)
        assert sent < 32 << 20
        assert sidecar.rss - before < 16_000_000
        assert client.discard(sent) >= sent
        app.close()
