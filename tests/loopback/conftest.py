"""Fixtures: a shared sidecar for transcripts, and a way to start one's own where policy or state matters."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nova_api.policies import BreakerPolicy, RetryPolicy
from nova_api.proxy import ProxyConfig

from .support.app import Answer, App, ok
from .support.kafkaserver import Server as Kafka
from .support.nameserver import NameServer
from .support.peer import Listener, Peer
from .support.postgresserver import Server as Postgres
from .support.sidecar import ONCE, Sidecar, document, inbound, outbound
from .support.waiting import eventually
from .support.wire import Wire

StartSidecar = Callable[..., Sidecar]
StartApp = Callable[..., App]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartSidecar]:
    """Start a sidecar for this test alone; it must leave in order and without complaint."""
    running: list[Sidecar] = []

    def start_one(config: ProxyConfig, name_server: NameServer | None = None) -> Sidecar:
        directory = tmp_path / f"sidecar-{len(running)}"
        directory.mkdir()
        running.append(Sidecar.start(config, directory, name_server))
        return running[-1]

    yield start_one
    codes = [sidecar.stop() for sidecar in running]
    complaints = [line for sidecar in running for line in sidecar.complaints()]
    assert not complaints, complaints
    assert codes == [0] * len(codes), codes


@pytest.fixture
def app() -> Iterator[StartApp]:
    """Start apps that answer by themselves."""
    running: list[App] = []

    def start_app(answer: Answer = ok) -> App:
        running.append(App(answer))
        return running[-1]

    yield start_app
    for each in running:
        each.stop()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """An upstream whose connections the test takes itself."""
    upstream = Listener()
    yield upstream
    upstream.close_all()


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Connections to close at the end of the test."""
    opened: list[Peer] = []
    yield opened
    for peer in opened:
        peer.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL with an empty database; a test makes the tables that it uses, and drops them."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A Kafka without topics; a test makes those that it uses, under names of its own."""
    server = Kafka()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, Listener]]:
    """One sidecar for all transcripts: default limits, no reuse of connections, no retry and no breaker."""
    upstream = Listener()
    config = document(
        inbound(upstream.address, pool=ONCE),
        outbound(upstream.address, pool=ONCE, circuit_breaker=BreakerPolicy(mode="Off"), retry=RetryPolicy(mode="Off")),
    )
    try:
        sidecar = Sidecar.start(config, tmp_path_factory.mktemp("shared"))
        yield sidecar, upstream
        code = sidecar.stop()
    finally:
        upstream.close_all()
    assert not sidecar.complaints(), sidecar.complaints()
    assert code == 0


@pytest.fixture
def wire(shared: tuple[Sidecar, Listener]) -> Iterator[Wire]:
    """A transcript on the shared sidecar; afterwards nothing may be in flight any more."""
    sidecar, upstream = shared
    transcript = Wire(sidecar, upstream)
    yield transcript
    transcript.close()
    eventually(lambda: sidecar.metric("nova_requests_in_flight") == 0)
    transcript.drop_pending()
