"""What callers and upstreams may try for their own gain, or by mistake, and what it must not do to others."""

import contextlib
import threading
import time
from typing import Any

import pytest

from nova_api.policies import PoolPolicy, RetryPolicy, TimeoutPolicy
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.message import request, response
from .support.peer import Listener
from .support.sidecar import document, inbound, outbound
from .support.waiting import eventually

SOON = (Duration(0), Duration(0.001))
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"


def test_callers_who_do_not_wait_cannot_open_the_breaker(start: StartSidecar, listener: Listener) -> None:
    """A caller may shorten its own time. That nothing answered within 20 ms says nothing about the upstream."""
    sidecar = start(document(outbound(listener.address, retry=RetryPolicy(mode="Off"))))
    with sidecar.connect() as client:
        for _ in range(10):
            client.send(request("GET", "/", "x-nova-deadline-ms: 20"))
            listener.accept()
            assert client.response().status == 504
    assert sidecar.stats()["outbound"]["db"]["breaker"]["state"] == "closed"


def test_an_upstream_that_closes_at_once_is_not_called_in_a_loop(start: StartSidecar, listener: Listener) -> None:
    """It takes connections and ends them, as a proxy does whose app is gone."""

    def take_and_close() -> None:
        with contextlib.suppress(AssertionError, OSError):
            while True:
                peer = listener.accept()
                time.sleep(0.01)  # the connection counts as made by then
                peer.close()

    threading.Thread(target=take_and_close, daemon=True).start()
    start(document(outbound(listener.address, pool=PoolPolicy(warm_connections=2))))
    before = len(listener.peers)
    time.sleep(2)
    assert len(listener.peers) - before < 40  # it was 184


@pytest.mark.parametrize("fields", [{"max_age": SOON[1]}, {"idle_timeout": SOON[0]}, {"idle_timeout": SOON[1]}])
def test_a_life_too_short_for_any_request_is_no_loop(
    start: StartSidecar, app: StartApp, fields: dict[str, Any]
) -> None:
    it = app()
    sidecar = start(document(outbound(it.address, pool=PoolPolicy(warm_connections=2, **fields))))
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 200
    before = len(it.connections)
    time.sleep(1)
    assert len(it.connections) - before < 60


@pytest.mark.parametrize("ends", [False, True])
def test_a_client_that_never_reads_is_not_kept_for_ever(start: StartSidecar, app: StartApp, *, ends: bool) -> None:
    """Its last response is written and its connection is to be closed, but nobody takes the bytes."""
    size = 16 << 20
    it = app(lambda _: response(body=b"x" * size))
    sidecar = start(document(inbound(it.address, timeout=TimeoutPolicy(request=Duration(1)))))
    client = sidecar.connect(receive_buffer=4096)
    client.send(request("GET", "/", "Connection: close"))
    client.discard(1)
    if ends:
        client.finish()
    rest = size
    while sidecar.metric("nova_response_body_bytes_total") < size:
        rest -= client.discard(1 << 20)
        assert rest > 0
    eventually(lambda: sidecar.metric("nova_downstream_connections") == 0, within=20)


def test_a_slow_download_is_no_silence(start: StartSidecar, app: StartApp) -> None:
    """The client reads all the time; that the kernel holds megabytes for it must not look like silence."""
    size = 24 << 20
    it = app(lambda _: response(body=b"x" * size))
    sidecar = start(document(inbound(it.address, timeout=TimeoutPolicy(stream_idle=Duration(1)))))
    client = sidecar.connect()
    client.send(request())
    got = 0
    while got < size:
        data = client.socket.recv(65536)
        if not data:
            break
        got += len(data)
        if got < 3 << 20:
            time.sleep(0.1)
    assert got >= size


def test_an_upgrade_before_the_request_is_whole(start: StartSidecar, listener: Listener) -> None:
    """What is left of the request's body must not become the tunnel's first bytes."""
    sidecar = start(document(inbound(listener.address, protocol="websocket")))
    client = sidecar.connect()
    client.send(b"POST /ws HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    upstream = listener.accept()
    upstream.read_until(b"\r\n\r\n")
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE + b"\r\n")
    assert client.response().status == 502
