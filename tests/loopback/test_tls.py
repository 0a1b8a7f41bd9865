"""TLS to an upstream: who is trusted, who is not and how that looks, and certificates that change under load."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from nova_api.policies import BreakerPolicy, PoolPolicy, RetryPolicy, TimeoutPolicy
from nova_api.proxy import Tls
from nova_api.units import Duration, Share

from .conftest import StartSidecar
from .support.app import App, Call
from .support.certificates import Authority, MountedSecret, Pair
from .support.message import Message, request, response
from .support.peer import Listener
from .support.sidecar import ONCE, Sidecar, document, outbound
from .support.tlsapp import TlsApp
from .support.waiting import eventually

NAME = "auth.identity.svc"
QUICK = TimeoutPolicy(connect=Duration(0.5))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., TlsApp]]:
    running: list[TlsApp] = []

    def serve_one(pair: Pair, **options: Any) -> TlsApp:
        running.append(TlsApp(tmp_path, pair, **options))
        return running[-1]

    yield serve_one
    for app in running:
        app.stop()


def towards(address: tuple[str, int], directory: Path | str, *, server_name: str = NAME, **fields: Any) -> Any:
    """One upstream by TLS, neither retried nor broken, on a connection per request."""
    defaults: dict[str, Any] = {
        "tls": Tls(server_name=server_name, directory=str(directory)),
        "pool": ONCE,
        "retry": RetryPolicy(mode="Off"),
        "circuit_breaker": BreakerPolicy(mode="Off"),
        "timeout": QUICK,
    }
    return document(outbound(address, **(defaults | fields)))


def ask(sidecar: Sidecar) -> Message:
    with sidecar.connect() as client:
        return client.exchange(request())


def refused(sidecar: Sidecar, *, reason: str, words: str) -> None:
    """A call fails as a connection that could not be made, and tells why everywhere it should."""
    answer = ask(sidecar)
    assert (answer.status, answer.get("x-nova-reject")) == (503, "connect_failure")
    assert words in answer.body.decode()
    assert sidecar.metric("nova_tls_handshake_failures_total", reason=reason) == 1
    assert sidecar.metric("nova_tls_handshake_failures_total") == 1
    eventually(lambda: any(words in line.get("error", "") for line in sidecar.log))


def test_a_call_goes_out_by_tls(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path
) -> None:
    upstream = serve(authority.issue(NAME))
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    sidecar = start(towards(upstream.address, secret.directory, pool=PoolPolicy()))

    for _ in range(3):
        answer = ask(sidecar)
        assert (answer.status, answer.body) == (200, b"ok")

    assert upstream.names == [NAME]  # one connection, and it named the server
    assert upstream.protocols == ["http/1.1"]
    assert sidecar.metric("nova_tls_handshake_failures_total") == 0
    expiry = sidecar.metric("nova_tls_certificate_expiry_seconds", file="ca.crt")
    assert expiry == pytest.approx(time.time() + 30 * 86400, abs=3600)


def test_bodies_are_pushed_back_through_tls(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path
) -> None:
    body = bytes(range(256)) * 8192  # 2 MiB, both ways
    upstream = serve(authority.issue(NAME), answer=lambda call: response(body=call.request.body))
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    sidecar = start(towards(upstream.address, secret.directory))
    with sidecar.connect() as client:
        sender = threading.Thread(target=client.send, args=(request("POST", "/", body=body),))
        sender.start()
        assert client.response("POST").body == body
        sender.join()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_client_shows_its_certificate(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    clients = Authority("clients")
    own = clients.issue("shop")
    upstream = serve(authority.issue(NAME), client_ca=clients.certificate, newest=newest)
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate, tls_crt=own.certificate, tls_key=own.key)
    sidecar = start(towards(upstream.address, secret.directory))

    assert ask(sidecar).status == 200
    assert sidecar.metric("nova_tls_certificate_expiry_seconds", file="tls.crt") > time.time()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_upstream_that_wants_a_certificate_refuses_who_has_none(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    """With TLS 1.3 the client's handshake is over before the server says so, and the reset behind the alert may
    overtake it: then nobody can tell what it was, and the next call does."""
    upstream = serve(authority.issue(NAME), client_ca=Authority("clients").certificate, newest=newest)
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    sidecar = start(towards(upstream.address, secret.directory))
    overtaken = (502, "upstream_reset")
    answer = ask(sidecar)
    for _ in range(3):
        if newest is ssl.TLSVersion.TLSv1_3 and (answer.status, answer.get("x-nova-reject")) == overtaken:
            answer = ask(sidecar)
    assert (answer.status, answer.get("x-nova-reject")) == (503, "connect_failure")
    assert b"alert" in answer.body
    assert sidecar.metric("nova_tls_handshake_failures_total", reason="refused") == 1
    assert sidecar.metric("nova_tls_handshake_failures_total") == 1
    eventually(lambda: any("alert" in line.get("error", "") for line in sidecar.log))


@pytest.mark.parametrize(
    ("wrong", "reason", "words"),
    [
        ("expired", "expired", "certificate verify failed: certificate has expired"),
        ("name", "wrong_name", "certificate verify failed: Hostname mismatch"),
        ("untrusted", "untrusted", "certificate verify failed: unable to get local issuer certificate"),
    ],
)
def test_a_certificate_that_proves_nothing(  # noqa: PLR0917 - fixtures
    start: StartSidecar,
    authority: Authority,
    serve: Callable[..., TlsApp],
    tmp_path: Path,
    wrong: str,
    reason: str,
    words: str,
) -> None:
    pairs = {
        "expired": lambda: authority.issue(NAME, days=-1),
        "name": lambda: authority.issue("other.svc"),
        "untrusted": lambda: Authority("stranger").issue(NAME),
    }
    upstream = serve(pairs[wrong]())
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    sidecar = start(towards(upstream.address, secret.directory))
    refused(sidecar, reason=reason, words=words)
    assert not upstream.calls, "nothing of the request was sent"


def test_without_an_authority_of_its_own_the_systems_count(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path, monkeypatch: Any
) -> None:
    upstream = serve(authority.issue(NAME))
    refused(start(towards(upstream.address, "")), reason="untrusted", words="unable to get local issuer certificate")

    system = tmp_path / "system.pem"
    system.write_bytes(authority.certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    assert ask(start(towards(upstream.address, ""))).status == 200


def test_an_upstream_that_stalls_in_the_handshake(
    start: StartSidecar, authority: Authority, listener: Listener, tmp_path: Path
) -> None:
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    sidecar = start(towards(listener.address, secret.directory))
    began = time.monotonic()
    refused(sidecar, reason="timeout", words="no handshake within the connect timeout")
    assert 0.4 < time.monotonic() - began < 4
    listener.accept().expect_closed()
    eventually(lambda: sidecar.stats()["outbound"]["db"]["pool"]["open"] == 0)


def test_an_upstream_that_speaks_plainly(start: StartSidecar, authority: Authority, tmp_path: Path) -> None:
    def rude(listener: Listener) -> None:
        peer = listener.accept()
        peer.send(response("400 Bad Request", body=b"speak up"))
        peer.expect_closed()

    listener = Listener()
    thread = threading.Thread(target=rude, args=(listener,))
    thread.start()
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    refused(start(towards(listener.address, secret.directory)), reason="not_tls", words="wrong version number")
    thread.join()
    listener.close_all()


def test_an_upstream_that_hangs_up_in_the_handshake(start: StartSidecar, authority: Authority, tmp_path: Path) -> None:
    listener = Listener()
    thread = threading.Thread(target=lambda: listener.accept().close())
    thread.start()
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    refused(start(towards(listener.address, secret.directory)), reason="closed", words="no TLS connection")
    thread.join()
    listener.close_all()


def test_a_body_that_is_cut_off_does_not_look_whole(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path
) -> None:
    """A response that lasts until the connection ends is whole only after TLS has said that it ends (RFC 9112
    section 9.8)."""

    def cut(call: Call) -> None:
        call.peer.send(response("200 OK", "Connection: close", body=None) + b"half")
        socket.socket(fileno=call.peer.socket.detach()).close()

    upstream = serve(authority.issue(NAME), answer=cut)
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    sidecar = start(towards(upstream.address, secret.directory))
    with sidecar.connect() as client:
        client.send(request())
        client.head()
        client.expect_closed()
    assert sidecar.metric("nova_rejected_total", reason="upstream_reset") == 1


def test_certificates_change_while_requests_run(
    start: StartSidecar, serve: Callable[..., TlsApp], tmp_path: Path
) -> None:
    """First the trust in both authorities, then the new certificates, then the old trust goes: as one renews."""
    old, new, clients = Authority("old"), Authority("new"), Authority("clients")
    first, second = clients.issue("shop"), clients.issue("shop")
    upstream = serve(old.issue(NAME), client_ca=clients.certificate)
    secret = MountedSecret(tmp_path / "tls", ca_crt=old.certificate, tls_crt=first.certificate, tls_key=first.key)
    sidecar = start(towards(upstream.address, secret.directory))
    statuses: list[int] = []
    ended = threading.Event()

    def call() -> None:
        while not ended.is_set():
            statuses.append(ask(sidecar).status)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    both = {"tls_crt": second.certificate, "tls_key": second.key}
    secret.write({"ca_crt": old.certificate + new.certificate, **both})
    eventually(lambda: sidecar.metric("nova_tls_reloads_total", result="applied") == 1, within=10)
    upstream.use(new.issue(NAME), clients.certificate)
    secret.write({"ca_crt": new.certificate, **both})
    eventually(lambda: sidecar.metric("nova_tls_reloads_total", result="applied") == 2, within=10)
    ended.set()
    for caller in callers:
        caller.join()

    assert len(statuses) > 50
    assert set(statuses) == {200}


def test_files_that_cannot_be_used_change_nothing(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path
) -> None:
    upstream = serve(authority.issue(NAME))
    own, other = authority.issue("shop"), authority.issue("shop")
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    sidecar = start(towards(upstream.address, secret.directory))
    secret.write({"ca_crt": authority.certificate, "tls_crt": own.certificate, "tls_key": other.key})

    eventually(lambda: sidecar.metric("nova_tls_reloads_total", result="refused") == 1, within=10)
    assert ask(sidecar).status == 200
    (line,) = (line for line in sidecar.log if line["event"] == "certificates refused")
    assert "mismatch" in line["error"]
    secret.write({"ca_crt": authority.certificate, "tls_crt": own.certificate, "tls_key": own.key})
    eventually(lambda: sidecar.metric("nova_tls_reloads_total", result="applied") == 1, within=10)
    assert ask(sidecar).status == 200


def test_files_that_were_never_good_refuse_calls_until_they_are(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path
) -> None:
    upstream = serve(authority.issue(NAME))
    secret = MountedSecret(tmp_path / "tls", ca_crt=b"no certificate")
    sidecar = start(towards(upstream.address, secret.directory))
    refused(sidecar, reason="files", words="cannot be used")
    assert "expected PEM in ca.crt" in sidecar.text
    secret.write({"ca_crt": authority.certificate})
    eventually(lambda: ask(sidecar).status == 200, within=10)


def test_a_plain_upstream_becomes_one_by_tls_on_a_reload(
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path
) -> None:
    plain = App()
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    config = document(outbound(plain.address, pool=PoolPolicy(jitter=Share(0))))
    sidecar = start(config)
    assert ask(sidecar).status == 200
    upstream = serve(authority.issue(NAME))
    changed = towards(upstream.address, secret.directory).outbound[0]
    listen = config.outbound[0].listen
    fresh = type(changed)(**{f: getattr(changed, f) for f in changed.__struct_fields__} | {"listen": listen})
    sidecar.reload(type(config)(**{f: getattr(config, f) for f in config.__struct_fields__} | {"outbound": (fresh,)}))
    eventually(lambda: ask(sidecar).status == 200 and len(upstream.calls) > 0)
    eventually(plain.connections[0].is_closed)
    plain.stop()


ECHO = "/test.Echo/Say"


@contextmanager
def grpc_server(pair: Pair, client_ca: bytes) -> Iterator[tuple[str, int]]:
    """A real gRPC server that wants a client certificate and says what it was told."""
    server = grpc.server(ThreadPoolExecutor(2))
    say = grpc.unary_unary_rpc_method_handler(lambda data, _: data)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": say}),))
    credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)], client_ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield "127.0.0.1", port
    finally:
        server.stop(0).wait()


def say(sidecar: Sidecar, data: bytes) -> bytes:
    with grpc.insecure_channel("{}:{}".format(*sidecar.address())) as channel:
        answer: bytes = channel.unary_unary(ECHO)(data, timeout=10)
        return answer


def test_grpc_goes_out_by_tls(start: StartSidecar, authority: Authority, tmp_path: Path) -> None:
    own = authority.issue("shop")
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate, tls_crt=own.certificate, tls_key=own.key)
    with grpc_server(authority.issue(NAME), authority.certificate) as address:
        sidecar = start(towards(address, secret.directory, protocol="grpc", pool=PoolPolicy()))
        big = bytes(1 << 20)
        assert [say(sidecar, data) for data in (b"hello", big)] == [b"hello", big]
    assert sidecar.metric("nova_tls_handshake_failures_total") == 0


@pytest.mark.parametrize(("alpn", "reason"), [("http/1.1", "protocol"), ("h2", "wrong_name")])
def test_grpc_fails_clearly(  # noqa: PLR0917 - fixtures
    start: StartSidecar, authority: Authority, serve: Callable[..., TlsApp], tmp_path: Path, alpn: str, reason: str
) -> None:
    """A server without HTTP/2, and one with another name."""
    upstream = serve(authority.issue(NAME if reason == "protocol" else "other.svc"), alpn=alpn)
    secret = MountedSecret(tmp_path / "tls", ca_crt=authority.certificate)
    sidecar = start(towards(upstream.address, secret.directory, protocol="grpc", pool=PoolPolicy()))
    with pytest.raises(grpc.RpcError) as failure:
        say(sidecar, b"hello")
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert sidecar.metric("nova_tls_handshake_failures_total", reason=reason) >= 1
