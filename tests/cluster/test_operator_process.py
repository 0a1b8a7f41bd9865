"""The operator as a process: probes, signals, two replicas, and an API server that goes away."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_cli.cluster import state as states
from nova_cli.cluster.controlplane import ControlPlane
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.toolchain import Binaries
from nova_operator.kinds import CONFIG_MAP, DEPLOYMENT, LEASE, NOVA_SERVICE, SERVICE
from tests.cluster.api import CRDS, Api, ApiError, eventually, until
from tests.cluster.operator_process import OperatorProcess, running
from tests.cluster.scene import Scene, scene

SECONDS_TO_LEAVE = 2.0
SECONDS_TO_HAND_OVER = 2.0
"""From SIGTERM until the next replica acts."""
SECONDS_TO_TAKE_OVER = 15.0
"""From SIGKILL until the next replica has done something."""

pytestmark = pytest.mark.alone  # measures how fast processes leave and take over, and runs a control plane of its own


@pytest.fixture(scope="module")
def control_plane(programs: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane that no other test depends on: here it is killed."""
    one = ControlPlane(tmp_path_factory.mktemp("own-control-plane"), programs.node)
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Api:
    client = Api(control_plane.kubeconfig)
    client.install()
    return client


@pytest.fixture
def shop(api: Api, namespace: str) -> Iterator[Scene]:
    with scene(api, namespace) as one:
        yield one


def applied(shop: Scene) -> bool:
    return shop.find(DEPLOYMENT) is not None


def test_probes_metrics_and_a_quick_end(control_plane: ControlPlane, shop: Scene, tmp_path: Path) -> None:
    with running(control_plane.kubeconfig, tmp_path / "log") as operator:
        assert [operator.http(path)[0] for path in ("/healthz", "/readyz", "/metrics", "/other")] == [
            200,
            200,
            200,
            404,
        ]
        shop.settle()
        assert operator.metric("nova_operator_reconciles_total") > 0
        assert operator.metric("nova_operator_reconcile_duration_seconds_count") > 0
        assert operator.metric("nova_operator_queue_depth") == 0
        assert operator.metric("nova_operator_services") == 1
        assert operator.leads()
        code, seconds = operator.end()
    assert (code, seconds < SECONDS_TO_LEAVE) == (0, True), seconds
    assert operator.said("stopped")
    assert {line["level"] for line in operator.lines()} <= {"info", "warning"}


def test_an_api_server_that_cannot_be_found_is_named(tmp_path: Path) -> None:
    with running(tmp_path / "nowhere", tmp_path / "log", ready=False) as operator:
        assert operator.process.wait(timeout=20) == 1
    assert operator.lines()[-1]["event"] == "ended"
    assert "No such file" in operator.lines()[-1]["error"]


def leader(replicas: list[OperatorProcess]) -> OperatorProcess | None:
    leading = [one for one in replicas if one.process.poll() is None and one.leads()]
    assert len(leading) < 2, "two replicas act"
    return leading[0] if leading else None


def test_of_two_replicas_one_acts_and_the_other_takes_over(
    control_plane: ControlPlane, shop: Scene, tmp_path: Path
) -> None:
    election = f"--leader-election-namespace={shop.namespace}"
    with (
        running(control_plane.kubeconfig, tmp_path / "a", election) as a,
        running(control_plane.kubeconfig, tmp_path / "b", election) as b,  # ready although it waits
    ):
        first = until(lambda: leader([a, b]))
        second = b if first is a else a
        assert first.metric("nova_operator_leader") + second.metric("nova_operator_leader") == 1
        shop.create()
        until(lambda: applied(shop))
        assert second.metric("nova_operator_reconciles_total") == 0
        began = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        until(second.leads)
        assert time.monotonic() - began < SECONDS_TO_HAND_OVER, "the lease was not given back"
        assert first.process.wait(timeout=20) == 0
        shop.change(replicas=2)
        until(lambda: shop.api.deployment(shop.namespace, shop.name)["spec"]["replicas"] == 2)
    lease = shop.api.get(LEASE, shop.namespace, "nova-operator")["spec"]
    assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("", 1)


def test_a_killed_leader_is_replaced_when_its_lease_is_over(
    control_plane: ControlPlane, shop: Scene, tmp_path: Path
) -> None:
    election = f"--leader-election-namespace={shop.namespace}"
    with running(control_plane.kubeconfig, tmp_path / "a", election) as a:
        until(a.leads)
        with running(control_plane.kubeconfig, tmp_path / "b", election) as b:
            began = time.monotonic()
            a.end(signal.SIGKILL)
            shop.create()
            until(lambda: applied(shop), 30)
            assert time.monotonic() - began < SECONDS_TO_TAKE_OVER
            assert b.leads()


def test_a_leader_that_lost_its_lease_stops_at_once(control_plane: ControlPlane, shop: Scene, tmp_path: Path) -> None:
    election = f"--leader-election-namespace={shop.namespace}"
    with running(control_plane.kubeconfig, tmp_path / "a", election) as operator:
        until(operator.leads)
        thief = {"spec": {"holderIdentity": "somebody else"}}
        shop.api.patch(LEASE, shop.namespace, "nova-operator", thief)
        assert operator.process.wait(timeout=10) == 1
    assert operator.said("lease lost")
    assert shop.api.get(LEASE, shop.namespace, "nova-operator")["spec"]["holderIdentity"] == "somebody else"
    shop.api.delete(LEASE, shop.namespace, "nova-operator")


def answers(api: Api) -> bool:
    try:
        return api.call("GET", "/version")["major"] == "1"
    except (ApiError, OSError):
        return False


def test_it_survives_the_api_servers_death(control_plane: ControlPlane, shop: Scene, tmp_path: Path) -> None:
    folder = control_plane.folder
    with running(control_plane.kubeconfig, tmp_path / "log") as operator:
        shop.settle()
        state = states.load(folder / "state.json")
        assert state is not None
        record = state.processes["kube-apiserver"]
        command = Path(f"/proc/{record.pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
        record.signal(signal.SIGKILL)
        until(lambda: not answers(shop.api))
        Launcher(folder, state).start("kube-apiserver", command)
        until(lambda: answers(shop.api), 40)

        def writes() -> None:
            shop.change(backpressure={"maxConcurrency": 7})

        eventually(writes)
        eventually(shop.is_converged, 30)
        shop.api.patch(SERVICE, shop.namespace, shop.name, {"spec": {"sessionAffinity": "ClientIP"}})
        until(lambda: shop.said()["Service"]["spec"]["sessionAffinity"] == "None")  # the watches are back as well
        assert operator.process.poll() is None


def test_it_waits_for_the_definition_and_survives_its_loss(
    control_plane: ControlPlane, api: Api, namespace: str, tmp_path: Path
) -> None:
    api.delete(CRDS, None, "novaservices.nova.dev")
    until(lambda: api.find(CRDS, None, "novaservices.nova.dev") is None)
    with running(control_plane.kubeconfig, tmp_path / "log", ready=False) as operator:
        until(lambda: "install the chart nova-crds" in operator.log.read_text())
        assert operator.http("/readyz")[0] == 503
        api.install()
        until(operator.ready)
        for _ in range(2):  # as it begins, and after the definition was deleted and came back
            works(Scene(api, namespace))
            api.delete(CRDS, None, "novaservices.nova.dev")
            until(lambda: api.find(CRDS, None, "novaservices.nova.dev") is None)
            api.install()
        assert operator.process.poll() is None


def works(shop: Scene) -> None:
    """A service that is made now gets its children."""

    def create() -> None:
        shop.create()

    eventually(create)
    until(lambda: shop.find(CONFIG_MAP))
    shop.api.delete(NOVA_SERVICE, shop.namespace, shop.name)
