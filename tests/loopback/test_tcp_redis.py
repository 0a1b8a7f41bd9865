"""A real server behind a TCP upstream, plain and by TLS with a client certificate: Redis, which also pushes."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nova_api.proxy import Tls

from .conftest import StartSidecar
from .support.certificates import Authority, MountedSecret
from .support.peer import Peer
from .support.ports import free_ports
from .support.sidecar import Sidecar, document, outbound
from .support.waiting import eventually

REDIS = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(REDIS is None, reason="redis-server (Debian: redis-server) is not installed")

SECURE = "db.svc"


def command(*words: bytes) -> bytes:
    """One command as Redis reads it (RESP2 array of bulk strings)."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[..., int]]:
    running: list[subprocess.Popen[bytes]] = []

    def run(*options: str) -> int:
        port = free_ports(1)[0]
        place = ["--tls-port", str(port), "--port", "0"] if options else ["--port", str(port)]
        arguments = [str(REDIS), *place, "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path), *options]
        running.append(subprocess.Popen(arguments, stdout=subprocess.DEVNULL))
        eventually(lambda: reachable(port))
        return port

    yield run
    for process in running:
        process.terminate()
        process.wait(10)


def reachable(port: int) -> bool:
    try:
        Peer.connect(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture(params=["plain", "tls"])
def sidecar(request: pytest.FixtureRequest, start: StartSidecar, redis: Callable[..., int], tmp_path: Path) -> Sidecar:
    if request.param == "plain":
        return start(document(outbound(("127.0.0.1", redis()), protocol="tcp")))
    authority = Authority()
    server, client = authority.issue(SECURE), authority.issue("shop")
    files = {"ca": authority.certificate, "cert": server.certificate, "key": server.key}
    options = []
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        options += [f"--tls-{name}{'-cert' if name == 'ca' else ''}-file", str(tmp_path / name)]
    secret = MountedSecret(
        tmp_path / "tls", ca_crt=authority.certificate, tls_crt=client.certificate, tls_key=client.key
    )
    tls = Tls(server_name=SECURE, directory=str(secret.directory))
    return start(document(outbound(("127.0.0.1", redis(*options)), protocol="tcp", tls=tls)))


def test_redis_does_not_notice(sidecar: Sidecar) -> None:
    with sidecar.connect() as client:
        client.send(b"".join(command(b"INCR", b"n") for _ in range(1000)))  # pipelined
        answers = b"".join(b":%d\r\n" % number for number in range(1, 1001))
        assert client.read_exactly(len(answers)) == answers
        big = bytes(range(256)) * 8192
        client.send(command(b"SET", b"big", big))
        assert client.read_until(b"\r\n") == b"+OK\r\n"
        client.send(command(b"GET", b"big"))
        assert client.read_until(b"\r\n") == b"$%d\r\n" % len(big)
        assert client.read_exactly(len(big)) == big


def test_redis_pushes_to_who_listens(sidecar: Sidecar) -> None:
    with sidecar.connect() as listener, sidecar.connect() as speaker:
        listener.send(command(b"SUBSCRIBE", b"news"))
        assert listener.read_until(b":1\r\n").startswith(b"*3\r\n$9\r\nsubscribe")
        speaker.send(command(b"PUBLISH", b"news", b"it rains"))
        assert speaker.read_until(b"\r\n") == b":1\r\n"
        assert listener.read_until(b"it rains\r\n").startswith(b"*3\r\n$7\r\nmessage")
    eventually(lambda: sidecar.metric("nova_downstream_connections") == 0)
