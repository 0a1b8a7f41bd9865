"""The sidecar near its own limits: it sheds load, what is under way goes on, and the admin port answers meanwhile."""

import contextlib
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from nova_api.policies import SelfProtectionPolicy
from nova_api.units import Duration, Share
from nova_sidecar.transport.resources import Memory

from .conftest import StartApp, StartSidecar
from .support.message import request, response
from .support.peer import Listener, Peer
from .support.sidecar import ONCE, Sidecar, document, inbound, outbound, with_fields
from .support.waiting import eventually


def active(sidecar: Sidecar, cause: str) -> float:
    return sidecar.metric("nova_self_protection_active", cause=cause)


@contextlib.contextmanager
def out_of_breath(sidecar: Sidecar) -> Iterator[None]:
    """Its process gets a twentieth of the time it wants, in slices, as in a container without enough CPU."""
    done = threading.Event()

    def interrupt() -> None:
        while not done.is_set():
            sidecar.process.send_signal(signal.SIGSTOP)
            done.wait(0.6)
            sidecar.process.send_signal(signal.SIGCONT)
            done.wait(0.03)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(5)
        sidecar.process.send_signal(signal.SIGCONT)


def turned_away(address: tuple[str, int]) -> None:
    """A client that is closed at once; its kernel may hear of that while it still connects."""
    with contextlib.suppress(ConnectionError), Peer.connect(address) as late:
        late.send_if_open(request())
        late.expect_closed()


def lagging(start: StartSidecar, app: StartApp, mode: str) -> Sidecar:
    policy = SelfProtectionPolicy(mode=mode, max_loop_lag=Duration(0.3))  # type: ignore[arg-type]
    served = app().address
    return start(document(inbound(served), outbound(served), self_protection=policy))


def test_an_event_loop_that_comes_round_late_sheds_load_until_it_recovers(start: StartSidecar, app: StartApp) -> None:
    sidecar = lagging(start, app, "Enforce")

    def refusal(name: str) -> bool:
        with sidecar.connect(name) as client:
            answer = client.exchange(request())
        shed = answer.get("x-nova-reject") == "sidecar_overloaded"
        assert shed or answer.status == 200
        assert not shed or (answer.status, answer.has("connection", "close")) == (503, True)
        assert not shed or int(answer.get("retry-after") or 0) >= 1
        return shed

    with out_of_breath(sidecar):
        eventually(partial(refusal, "web"), within=20)
        eventually(partial(refusal, "db"), within=20)
        assert sidecar.metric("nova_event_loop_lag_seconds") >= 0  # it answers

    eventually(lambda: not active(sidecar, "event_loop"))
    eventually(lambda: not refusal("web"))
    assert sidecar.metric("nova_self_protection_raised_total", cause="event_loop") >= 1
    assert sidecar.metric("nova_rejected_total", reason="sidecar_overloaded") >= 2
    events = [line["event"] for line in sidecar.log if line.get("reason") == "event_loop"]
    assert events[:2] == ["sidecar at its limit", "sidecar below its limit again"]


def test_shadow_counts_and_serves(start: StartSidecar, app: StartApp) -> None:
    sidecar = lagging(start, app, "Shadow")

    def rehearsed() -> bool:
        with sidecar.connect() as client:
            assert client.exchange(request()).status == 200
        return sidecar.metric("nova_shadow_rejected_total", reason="sidecar_overloaded") > 0

    with out_of_breath(sidecar):
        eventually(rehearsed, within=20)
    assert sidecar.metric("nova_rejected_total", reason="sidecar_overloaded") == 0


def test_a_pause_of_the_whole_process_is_no_overload(start: StartSidecar, app: StartApp) -> None:
    sidecar = lagging(start, app, "Enforce")
    sidecar.process.send_signal(signal.SIGSTOP)
    going_on = threading.Timer(0.8, sidecar.process.send_signal, (signal.SIGCONT,))
    going_on.start()
    try:
        with sidecar.connect() as client:
            assert client.exchange(request()).status == 200
    finally:
        going_on.join()


@pytest.mark.skipif(Memory.find() is None, reason="this control group has no memory limit, so none can come near")
def test_memory_near_the_limit_sheds_load(start: StartSidecar, app: StartApp) -> None:
    policy = SelfProtectionPolicy(max_memory=Share(0.0001))
    sidecar = start(document(inbound(app().address), self_protection=policy))
    eventually(lambda: active(sidecar, "memory") == 1)
    with sidecar.connect() as client:
        assert client.exchange(request()).get("x-nova-reject") == "sidecar_overloaded"


def test_more_connections_than_allowed_are_closed_and_the_others_live(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(document(inbound(app().address), self_protection=SelfProtectionPolicy(max_connections=3)))
    address = sidecar.address()
    clients = [sidecar.connect() for _ in range(3)]
    assert [client.exchange(request()).status for client in clients] == [200] * 3

    for _ in range(3):
        turned_away(address)

    assert [client.exchange(request()).status for client in clients] == [200] * 3
    assert sidecar.metric("nova_downstream_connections_refused_total", cause="connections") == 3
    assert sidecar.metric("nova_downstream_connections") == 3
    eventually(lambda: active(sidecar, "connections") == 1)
    clients.pop().close()
    eventually(lambda: sidecar.metric("nova_downstream_connections") == 2)
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 200


def test_many_short_connections_are_not_taken_for_many_connections(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(document(inbound(app().address), self_protection=SelfProtectionPolicy(max_connections=2)))
    for _ in range(30):
        with sidecar.connect() as client:
            assert client.exchange(request()).status == 200
        eventually(lambda: sidecar.metric("nova_downstream_connections") == 0)
    assert sidecar.metric("nova_downstream_connections_refused_total") == 0


def test_shadow_counts_connections_and_lets_them_in(start: StartSidecar, app: StartApp) -> None:
    policy = SelfProtectionPolicy(mode="Shadow", max_connections=1)
    sidecar = start(document(inbound(app().address), self_protection=policy))
    clients = [sidecar.connect() for _ in range(3)]
    assert [client.exchange(request()).status for client in clients] == [200] * 3
    assert sidecar.metric("nova_downstream_connections_shadow_refused_total", cause="connections") == 2


def test_a_reload_changes_the_limits(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(document(inbound(app().address), self_protection=SelfProtectionPolicy(max_connections=1)))
    with sidecar.connect() as first:
        assert first.exchange(request()).status == 200
        turned_away(sidecar.address())
        sidecar.reload(with_fields(sidecar.config, self_protection=SelfProtectionPolicy(mode="Off")))
        eventually(lambda: sidecar.stats()["selfProtection"]["mode"] == "Off")
        with sidecar.connect() as second:
            assert second.exchange(request()).status == 200


def fill(sidecar: Sidecar, clients: list[socket.socket]) -> None:
    """Connect until some are refused for want of descriptors, a few at a time: hundreds in one turn of the loop could
    take the last descriptor before any is closed."""
    while sidecar.metric("nova_downstream_connections_refused_total", cause="descriptors") < 10:
        assert len(clients) < 200, "nobody is refused"
        clients.extend(socket.create_connection(sidecar.address()) for _ in range(3))
        came = len(clients) + 1
        eventually(lambda: seen(sidecar) >= came)  # noqa: B023 - called at once


def seen(sidecar: Sidecar) -> float:
    """Connections from callers that were accepted or refused."""
    return sidecar.metric("nova_downstream_connections_accepted_total") + sidecar.metric(
        "nova_downstream_connections_refused_total"
    )


def test_before_descriptors_run_out_new_connections_are_closed_and_requests_go_on(
    start: StartSidecar, listener: Listener
) -> None:
    """A limit of 60 beyond what is open: 90 % of it is the sidecar's for callers, the rest for the app and admin."""
    sidecar = start(document(inbound(listener.address, pool=ONCE)))
    pid = sidecar.process.pid
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 60, hard))
    first = sidecar.connect()
    first.send(request())
    app = listener.accept()
    app.request()
    eventually(lambda: sidecar.metric("process_max_fds") < 1000)
    clients: list[socket.socket] = []
    try:
        fill(sidecar, clients)
        eventually(lambda: active(sidecar, "descriptors") == 1, within=20)
        began = sidecar.cpu_seconds
        app.send(response(body=b"still here"))
        assert first.response().body == b"still here"
        for _ in range(3):
            first.send(request())
            with listener.accept() as again:
                again.request()
                again.send(response(body=b"and again"))
                assert first.response().body == b"and again"
        assert sidecar.status("/readyz")[0] == 200
        assert sidecar.cpu_seconds - began < 0.5, "it turns"
    finally:
        for client in clients:
            client.close()
    eventually(lambda: active(sidecar, "descriptors") == 0)
    second = sidecar.connect()
    second.send(request())
    listener.accept().request()
