"""Connections of gRPC come and go, and no call notices: balancing, rotation, restarts, drain."""

import threading
from collections import Counter
from collections.abc import Iterator

import grpc
import msgspec
import pytest

from nova_api.policies import PoolPolicy, TimeoutPolicy
from nova_api.proxy import DrainPolicy
from nova_api.units import Duration, Share

from .conftest import StartSidecar
from .support.grpcapp import GrpcApp, GrpcClient, request
from .support.nameserver import NameServer, Record, from_table
from .support.sidecar import Sidecar, document, inbound, outbound
from .support.waiting import eventually


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcApp]:
    app = GrpcApp()
    yield app
    app.stop()


class Load:
    """Calls one after the other from some threads until it is stopped; every error is kept."""

    def __init__(self, client: GrpcClient, threads: int = 4) -> None:
        self.errors: list[str] = []
        self.calls = 0
        self._stop = threading.Event()
        self._client = client
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                if number % 2:
                    assert self._client.unary(request(b"x" * 3000, echo=True), timeout=10) == b"x" * 3000
                else:
                    assert len(list(self._client.download(request(sizes=[2000] * 3), timeout=10))) == 3
            except grpc.RpcError as error:
                # the server of grpcio cancels what comes in the moment it stops, also where it is called directly
                if error.code() is not grpc.StatusCode.CANCELLED:
                    self.errors.append(str(error))
            except AssertionError as error:
                self.errors.append(str(error))
            self.calls += 1


def peers(client: GrpcClient, calls: int) -> Counter[str]:
    """How many calls came to the server over which connection."""
    return Counter(str(client.inspect()["peer"]) for _ in range(calls))


def settled(sidecar: Sidecar, connections: int, direction: str = "outbound", name: str = "db") -> None:
    """Wait until so many connections are open."""
    eventually(lambda: sidecar.stats()[direction][name]["pool"]["open"] == connections)


def test_streams_take_turns_over_four_connections(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(outbound(server.address, protocol="grpc")))
    with GrpcClient(sidecar.address()) as client:
        peers(client, 8)
        settled(sidecar, 4)
        assert sorted(peers(client, 40).values()) == [10, 10, 10, 10]
    assert sidecar.metric("nova_connections_opened_total") == 4


def test_a_single_connection(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(outbound(server.address, protocol="grpc", pool=PoolPolicy(grpc_connections=1))))
    with GrpcClient(sidecar.address()) as client:
        assert len(peers(client, 10)) == 1


def test_connections_are_renewed_by_age_under_load_and_no_call_fails(start: StartSidecar, server: GrpcApp) -> None:
    pool = PoolPolicy(max_age=Duration(0.3), jitter=Share(0.5))
    sidecar = start(document(outbound(server.address, protocol="grpc", pool=pool)))
    with GrpcClient(sidecar.address()) as client, Load(client) as load:
        eventually(lambda: sidecar.metric("nova_connections_closed_total", reason="age") >= 8, within=20)
    assert not load.errors, load.errors[:3]
    assert load.calls > 50
    assert sidecar.metric("nova_retries_total") == 0


def test_connections_are_renewed_by_requests(start: StartSidecar, server: GrpcApp) -> None:
    pool = PoolPolicy(max_requests=5, grpc_connections=2)
    sidecar = start(document(outbound(server.address, protocol="grpc", pool=pool)))
    with GrpcClient(sidecar.address()) as client, Load(client) as load:
        eventually(lambda: sidecar.metric("nova_connections_closed_total", reason="requests") >= 5, within=20)
    assert not load.errors, load.errors[:3]


def test_a_stream_outlives_its_connections_turn(start: StartSidecar, server: GrpcApp) -> None:
    pool = PoolPolicy(max_age=Duration(0.2), grpc_connections=1)
    sidecar = start(document(outbound(server.address, protocol="grpc", pool=pool)))
    with GrpcClient(sidecar.address()) as client:
        stream = client.download(request(sizes=[1] * 12, sleep=0.1), timeout=20)
        next(stream)
        first = peers(client, 1)
        eventually(lambda: (peers(client, 1) != first, sidecar.metric("nova_connections_opened_total") >= 3)[1])
        assert len(list(stream)) == 11
    eventually(lambda: sidecar.metric("nova_connections_closed_total", reason="age") >= 2)


def test_idle_connections_are_closed(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(outbound(server.address, protocol="grpc", pool=PoolPolicy(idle_timeout=Duration(0.3)))))
    with GrpcClient(sidecar.address()) as client:
        assert client.code() is grpc.StatusCode.OK
        settled(sidecar, 0)
        assert client.code() is grpc.StatusCode.OK
    assert sidecar.metric("nova_connections_closed_total", reason="idle") >= 1


def test_warm_connections_are_there_before_anybody_calls_and_stay(start: StartSidecar, server: GrpcApp) -> None:
    pool = PoolPolicy(warm_connections=2, idle_timeout=Duration(0.3))
    sidecar = start(document(outbound(server.address, protocol="grpc", pool=pool)))
    settled(sidecar, 2)
    eventually(lambda: sidecar.metric("nova_connections_closed_total", reason="idle") >= 2)
    eventually(lambda: sidecar.stats()["outbound"]["db"]["pool"]["open"] >= 2)


def test_a_reload_changes_the_protocol_of_a_port(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(inbound(server.address)))
    with sidecar.connect() as peer:
        assert peer.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status in (502, 503)  # the app speaks HTTP/2
    port = msgspec.structs.replace(sidecar.config.inbound[0], protocol="grpc")
    sidecar.reload(msgspec.structs.replace(sidecar.config, inbound=(port,)))
    with GrpcClient(sidecar.address()) as client:
        eventually(lambda: client.code() is grpc.StatusCode.OK, within=15)


def test_a_reload_under_load_fails_no_call(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(document(inbound(server.address, protocol="grpc")))
    with GrpcClient(sidecar.address()) as client, Load(client) as load:
        for seconds in (11, 12, 13):
            goal = load.calls + 20
            eventually(lambda: load.calls > goal, within=10)  # noqa: B023 - called at once
            port = msgspec.structs.replace(
                sidecar.config.inbound[0], timeout=TimeoutPolicy(request=Duration(seconds), attempt=Duration(seconds))
            )
            sidecar.reload(msgspec.structs.replace(sidecar.config, inbound=(port,)))
        goal = load.calls + 20
        eventually(lambda: load.calls > goal, within=10)
    assert not load.errors, load.errors[:3]


def test_a_server_that_restarts_under_load_fails_no_call(start: StartSidecar) -> None:
    app = GrpcApp()
    try:
        sidecar = start(document(outbound(app.address, protocol="grpc")))
        with GrpcClient(sidecar.address()) as client, Load(client) as load:
            eventually(lambda: load.calls > 20)
            for _ in range(2):
                successor = GrpcApp(app.address[1])  # both listen for a while (SO_REUSEPORT), as pods of a Service do
                app.stop()
                app = successor
                goal = load.calls + 20
                eventually(lambda: load.calls > goal, within=10)  # noqa: B023 - called at once
        assert not load.errors, load.errors[:3]
    finally:
        app.kill()


@pytest.fixture
def pods() -> Iterator[list[GrpcApp]]:
    """Three servers on one port, each with an address of its own, as the pods behind a headless Service have."""
    first = GrpcApp(name="pod-1")
    running = [first, *(GrpcApp(first.address[1], f"pod-{at}", f"127.0.0.{at}") for at in (2, 3))]
    yield running
    for each in running:
        each.kill()


def behind(names: NameServer, apps: list[GrpcApp]) -> None:
    """From now on the name leads there."""
    names.answer = from_table(*(Record("shop.svc", "A", app.address[0], 1) for app in apps))


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer(from_table())
    yield server
    server.close()


def who(client: GrpcClient, calls: int) -> Counter[str]:
    """How many calls came to which pod."""
    return Counter(str(client.inspect()["name"]) for _ in range(calls))


def test_streams_are_spread_over_endpoints(start: StartSidecar, names: NameServer, pods: list[GrpcApp]) -> None:
    behind(names, pods)
    pool = PoolPolicy(grpc_connections=6)
    address = ("shop.svc", pods[0].address[1])
    sidecar = start(document(outbound(address, protocol="grpc", pool=pool), resolver="dns"), names)
    with GrpcClient(sidecar.address()) as client:
        who(client, 12)
        settled(sidecar, 6)
        assert who(client, 60) == {"pod-1": 20, "pod-2": 20, "pod-3": 20}


def test_pods_that_come_and_go_are_not_noticed(start: StartSidecar, names: NameServer, pods: list[GrpcApp]) -> None:
    behind(names, pods[:2])
    address = ("shop.svc", pods[0].address[1])
    sidecar = start(document(outbound(address, protocol="grpc"), resolver="dns"), names)
    with GrpcClient(sidecar.address()) as client, Load(client) as load:
        eventually(lambda: load.calls > 20)
        behind(names, pods[1:])  # the first one leaves, a third one comes
        eventually(lambda: who(client, 8).keys() == {"pod-2", "pod-3"}, within=10)
        pods[0].stop()
        goal = load.calls + 50
        eventually(lambda: load.calls > goal, within=10)
    assert not load.errors, load.errors[:3]
    assert sidecar.metric("nova_connections_closed_total", reason="removed") >= 2


def test_drain_lets_calls_finish_and_new_ones_go_elsewhere(start: StartSidecar, server: GrpcApp) -> None:
    sidecar = start(
        document(inbound(server.address, protocol="grpc"), drain=DrainPolicy(delay=Duration(1), timeout=Duration(10)))
    )
    with GrpcClient(sidecar.address()) as client:
        slow = client.unary.future(request(b"late", echo=True, sleep=1.5), timeout=10)
        stream = client.download(request(sizes=[1] * 10, sleep=0.15), timeout=10)
        next(stream)
        eventually(lambda: sidecar.metric("nova_requests_in_flight") == 2)
        sidecar.terminate()
        eventually(lambda: sidecar.status("/readyz")[0] == 503)
        assert client.code() is grpc.StatusCode.OK  # within the delay: on a new connection
        assert slow.result() == b"late"
        assert len(list(stream)) == 9
        assert sidecar.wait() == 0
