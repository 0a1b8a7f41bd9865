"""TCP ports: bytes as they are, both ways, within limits, and to the end."""

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nova_api.policies import BreakerPolicy, TcpPolicy, TimeoutPolicy
from nova_api.proxy import DrainPolicy, Inbound, Outbound, Tls
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.certificates import Authority, MountedSecret
from .support.message import request, response
from .support.peer import Listener, Peer
from .support.sidecar import Sidecar, document, inbound, outbound
from .support.tlsapp import TlsApp
from .support.waiting import eventually, holds

MEGABYTES = 32 << 20


def port(to: tuple[str, int], **fields: Any) -> Inbound:
    return inbound(to, protocol="tcp", **fields)


def upstream(to: tuple[str, int], **fields: Any) -> Outbound:
    return outbound(to, protocol="tcp", **fields)


def joined(sidecar: Sidecar, listener: Listener) -> tuple[Peer, Peer]:
    """A client and the connection that the app got for it."""
    return sidecar.connect(), listener.accept()


def is_reset(peer: Peer) -> bool:
    """Whether the other end has broken the connection, which is not the same as an orderly end."""
    try:
        peer.socket.recv(1, socket.MSG_DONTWAIT)
    except ConnectionResetError:
        return True
    except BlockingIOError:
        pass
    return False


def test_bytes_go_both_ways_as_they_are(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(port(listener.address)))
    client, app = joined(sidecar, listener)
    client.send(b"\x00\xff not HTTP")
    assert app.read_exactly(11) == b"\x00\xff not HTTP"
    app.send(b"\r\n\r\n")
    assert client.read_exactly(4) == b"\r\n\r\n"
    assert sidecar.metric("nova_downstream_connections") == 1
    assert sidecar.metric("nova_request_body_bytes_total") == 11
    assert sidecar.metric("nova_response_body_bytes_total") == 4


def test_the_server_may_speak_first(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(upstream(listener.address)))
    for _ in range(20):
        client, server = joined(sidecar, listener)
        server.send(b"220 hello\r\n")
        assert client.read_until(b"\r\n") == b"220 hello\r\n"
        client.close()
        server.expect_closed()


@pytest.mark.parametrize("first", ["client", "server"])
def test_an_end_that_has_said_everything_may_go_on_listening(
    start: StartSidecar, listener: Listener, first: str
) -> None:
    sidecar = start(document(port(listener.address)))
    client, app = joined(sidecar, listener)
    one, other = (client, app) if first == "client" else (app, client)
    one.send(b"question")
    one.finish()
    assert other.read_to_end() == b"question"
    other.send(b"answer")
    other.close()
    assert one.read_to_end() == b"answer"
    eventually(lambda: sidecar.metric("nova_tcp_connections_closed_total", reason="finished") == 1)
    line = eventually(lambda: next((line for line in sidecar.log if line["event"] == "exchange"), None))
    assert line is not None
    assert (line["method"], line["path"], line["status"], line["reason"]) == ("-", "-", 0, "")
    assert {line["bytes_in"], line["bytes_out"]} == {8, 6}
    assert line["upstream"] == "{}:{}".format(*listener.address)


def test_who_reads_slowly_is_waited_for(start: StartSidecar) -> None:
    """The sidecar holds little of what cannot go on; everything arrives once the reader reads."""
    server = Listener(receive_buffer=16384)
    sidecar = start(document(port(server.address)))
    before = sidecar.rss
    client, app = joined(sidecar, server)
    sender = threading.Thread(target=lambda: (client.send(bytes(MEGABYTES)), client.finish()))
    client.socket.settimeout(30)
    sender.start()
    holds(lambda: sidecar.rss - before < 8 << 20, for_seconds=1)
    assert sender.is_alive()
    assert app.discard(MEGABYTES) == MEGABYTES
    sender.join()
    assert sidecar.rss - before < 12 << 20
    server.close_all()


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_is_passed_on(start: StartSidecar, listener: Listener, who: str) -> None:
    sidecar = start(document(port(listener.address)))
    client, app = joined(sidecar, listener)
    client.send(b"x")
    app.read_exactly(1)
    one, other = (client, app) if who == "client" else (app, client)
    one.reset()
    eventually(lambda: is_reset(other))
    how = "downstream_reset" if who == "client" else "upstream_reset"
    eventually(lambda: sidecar.metric("nova_tcp_connections_closed_total", reason=how) == 1)


def test_more_connections_than_allowed_are_reset(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(port(listener.address), tcp=TcpPolicy(max_connections=2)))
    first, its_app = joined(sidecar, listener)
    joined(sidecar, listener)
    third = sidecar.connect()
    eventually(lambda: is_reset(third))
    assert sidecar.metric("nova_rejected_total", reason="connection_limit") == 1
    assert not listener.pending()

    first.close()
    its_app.expect_closed()
    its_app.close()
    eventually(lambda: sidecar.metric("nova_downstream_connections") == 1)
    client, app = joined(sidecar, listener)
    client.send(b"in")
    assert app.read_exactly(2) == b"in"


def test_silence_has_an_end(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(port(listener.address), tcp=TcpPolicy(idle_timeout=Duration(0.6))))
    client, app = joined(sidecar, listener)
    for _ in range(8):  # longer than the limit, but never silent for so long
        time.sleep(0.15)
        app.send(b".")
        client.read_exactly(1)
    began = time.monotonic()
    eventually(lambda: is_reset(client))
    assert time.monotonic() - began > 0.4
    app.expect_closed()
    assert sidecar.metric("nova_tcp_connections_closed_total", reason="idle") == 1


def test_an_upstream_that_is_not_there(start: StartSidecar, app: StartApp) -> None:
    gone = app()
    gone.stop()
    sidecar = start(document(upstream(gone.address, circuit_breaker=BreakerPolicy(failure_threshold=3))))
    for _ in range(5):
        with contextlib.suppress(ConnectionResetError):  # where it comes before connect(2) has returned
            client = sidecar.connect()
            eventually(lambda peer=client: is_reset(peer))
    eventually(lambda: sidecar.metric("nova_rejected_total", reason="connect_failure") == 3)
    assert sidecar.metric("nova_rejected_total", reason="circuit_open") == 2
    assert sidecar.metric("nova_breaker_state", state="open") == 1
    assert sidecar.metric("nova_tcp_connections_closed_total", reason="refused") == 5


def test_an_upstream_that_does_not_answer(start: StartSidecar) -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    timeout = TimeoutPolicy(connect=Duration(0.5))
    sidecar = start(document(upstream(full.getsockname(), timeout=timeout)))
    client = sidecar.connect()
    began = time.monotonic()
    eventually(lambda: is_reset(client))
    assert time.monotonic() - began > 0.3
    for each in (full, *fillers):
        each.close()


def test_connections_go_on_while_the_sidecar_leaves_and_are_cut_at_the_end(
    start: StartSidecar, listener: Listener
) -> None:
    drain = DrainPolicy(delay=Duration(0.2), timeout=Duration(2))
    sidecar = start(document(port(listener.address), drain=drain))
    staying, its_app = joined(sidecar, listener)
    leaving, other_app = joined(sidecar, listener)
    sidecar.terminate()

    def closed() -> bool:
        try:
            Peer.connect(sidecar.address()).close()
        except OSError:
            return True
        return False

    eventually(closed)
    leaving.send(b"last words")
    leaving.finish()
    assert other_app.read_to_end() == b"last words"
    other_app.close()
    assert leaving.read_to_end() == b""
    eventually(lambda: is_reset(staying), within=10)
    its_app.expect_closed()
    assert sidecar.wait() == 0


def test_a_port_changes_its_protocol_on_a_reload(start: StartSidecar, app: StartApp) -> None:
    it = app()
    config = document(inbound(it.address))
    sidecar = start(config)
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 200
    (http,) = config.inbound
    sidecar.reload(msgspec.structs.replace(config, inbound=(msgspec.structs.replace(http, protocol="tcp"),)))
    eventually(lambda: "maxConnections" in sidecar.stats()["inbound"]["web"])
    with sidecar.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.response().status == 200
    assert not it.calls[-1].request.get("x-correlation-id")


def test_tls_to_a_tcp_upstream(start: StartSidecar, tmp_path: Path) -> None:
    authority = Authority()
    server = TlsApp(tmp_path, authority.issue("db.svc"), answer=lambda call: response(body=call.request.body))
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    tls = Tls(server_name="db.svc", directory=str(secret.directory))
    sidecar = start(document(upstream(server.address, tls=tls)))
    body = bytes(1 << 20)
    with sidecar.connect() as client:
        sender = threading.Thread(target=client.send, args=(request("POST", "/", body=body),))
        sender.start()
        assert client.response("POST").body == body
        sender.join()
    eventually(lambda: sidecar.metric("nova_downstream_connections") == 0)
    server.stop()


def test_nothing_is_left_after_many_connections(start: StartSidecar, app: StartApp) -> None:
    it = app()
    sidecar = start(document(port(it.address)))
    sockets = sidecar.sockets

    def call(count: int) -> None:
        for number in range(count):
            with Peer.connect(sidecar.address()) as client:
                client.send(request())
                client.response()
                if number % 3 == 0:
                    client.reset()

    def many(count: int) -> None:
        threads = [threading.Thread(target=call, args=(count // 4,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: sidecar.sockets <= sockets)

    many(400)
    before = sidecar.rss
    many(2000)
    assert sidecar.rss - before < 2 << 20
    assert sidecar.metric("nova_requests_in_flight") == 0
    eventually(lambda: sidecar.metric("nova_tcp_connections_closed_total") == 2400)


def test_two_kinds_of_ports_in_one_sidecar(start: StartSidecar, app: StartApp, listener: Listener) -> None:
    sidecar = start(document(inbound(app().address), port(listener.address, name="raw")))
    with sidecar.connect("web") as client:
        assert client.exchange(request()).status == 200
    raw = sidecar.connect("raw")
    raw.send(b"raw")
    assert listener.accept().read_exactly(3) == b"raw"


def test_a_removed_port_ends_its_connections_within_the_time_of_a_drain(
    start: StartSidecar, listener: Listener
) -> None:
    kept = port(listener.address, name="kept")
    config = document(
        port(listener.address, name="removed"), kept, drain=DrainPolicy(delay=Duration(0), timeout=Duration(1))
    )
    sidecar = start(config)
    client = sidecar.connect("removed")
    app = listener.accept()
    other = sidecar.connect("kept")
    far = listener.accept()
    began = time.monotonic()
    sidecar.reload(msgspec.structs.replace(config, inbound=(kept,)))
    eventually(lambda: is_reset(client), within=15)
    assert time.monotonic() - began >= 1
    eventually(lambda: is_reset(app))
    other.send(b"still here")
    assert far.read_exactly(10) == b"still here"


@pytest.mark.parametrize("before", [3600, 0])
def test_the_longest_silence_changes_for_connections_that_are_there(
    start: StartSidecar, listener: Listener, before: float
) -> None:
    config = document(port(listener.address), tcp=TcpPolicy(idle_timeout=Duration(before)))
    sidecar = start(config)
    client, app = joined(sidecar, listener)
    client.send(b"x")
    app.read_exactly(1)
    sidecar.reload(msgspec.structs.replace(config, tcp=TcpPolicy(idle_timeout=Duration(0.5))))
    eventually(lambda: is_reset(client) and is_reset(app), within=15)
