"""How fast a client must send a call's content while it holds a place: whole messages, and the rate of HTTP/1.1."""

import time
from collections.abc import Callable, Iterator

import pytest

from nova_api.policies import BackpressurePolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartSidecar
from .support.http2 import End, Fields, grpc_fields, request_fields
from .support.peer import Listener
from .support.scene import Scene
from .support.sidecar import document, inbound
from .support.waiting import eventually

TICK = 0.1
"""Seconds between two bits of content; the pace of the client is what is tested here."""

SILENCE = 1.0
"""Seconds for which a client may send too little."""

Dribble = Callable[[Fields, bytes, bytes, int], tuple[End, float]]


@pytest.fixture
def dribble(start: StartSidecar, listener: Listener) -> Iterator[Dribble]:
    """A call that begins with some content and goes on bit by bit, until it is answered or after so many; and the
    seconds that this took."""
    scenes: list[Scene] = []

    def make(fields: Fields, first: bytes, bit: bytes, bits: int) -> tuple[End, float]:
        patience = TimeoutPolicy(stream_idle=Duration(SILENCE), request=Duration(20), attempt=Duration(20))
        sidecar = start(
            document(
                inbound(listener.address, protocol="grpc", timeout=patience),
                backpressure=BackpressurePolicy(max_concurrency=5),
            )
        )
        scenes.append(Scene(sidecar, listener))
        client = scenes[-1].client()
        began = time.monotonic()
        client.headers(1, fields)
        client.data(1, first)
        upstream = scenes[-1].upstream()
        upstream.head(1)
        for _ in range(bits):
            if sidecar.metric("nova_limiter_in_flight") == 0:
                return client, time.monotonic() - began
            client.data(1, bit)
            time.sleep(TICK)
        client.data(1, b"", end=True)
        whole = upstream.body(1)
        assert len(whole) == len(first) + bits * len(bit)
        upstream.headers(1, [(":status", "200")], end=True)
        return client, time.monotonic() - began

    yield make
    for scene in scenes:
        eventually(lambda: scene.sidecar.metric("nova_limiter_in_flight") == 0)  # noqa: B023 - called at once
        scene.close()


def message(size: int) -> bytes:
    """The prefix of a gRPC message."""
    return b"\0" + size.to_bytes(4)


@pytest.mark.parametrize(
    ("fields", "status"), [(grpc_fields(), ("200", "4")), (request_fields("/", "POST"), ("408", None))]
)
def test_who_dribbles_does_not_keep_its_place(dribble: Dribble, fields: Fields, status: tuple[str, str | None]) -> None:
    client, seconds = dribble(fields, message(10_000), b"x", 150)
    _, answer = client.head(1)
    assert seconds >= SILENCE, "it was not given the time for which silence is allowed"
    assert answer["x-nova-reject"] == "request_timeout"
    assert (answer[":status"], answer.get("grpc-status")) == status


def test_a_stream_of_messages_may_be_slow(dribble: Dribble) -> None:
    """Its first message is there, and a server may listen for long before it answers."""
    client, _ = dribble(grpc_fields(), message(1) + b"x", message(1) + b"x", 25)
    assert client.head(1)[1][":status"] == "200"


def test_a_slow_but_steady_upload_is_served(dribble: Dribble) -> None:
    client, _ = dribble(grpc_fields(), message(25 * 500), b"x" * 500, 25)
    assert client.head(1)[1][":status"] == "200"
