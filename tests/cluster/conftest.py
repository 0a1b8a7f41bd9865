"""A real API server for the whole session: etcd, kube-apiserver with its default admission, kube-controller-manager.

No kubelet and no root: pods stay Pending, everything else is as in any cluster. Tests share the server, so each makes a
namespace of its own. The binaries are compiled before the first test starts, because the first time takes minutes, and
a test's timeout covers its fixtures.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_cli.cluster.controlplane import ControlPlane
from nova_cli.cluster.toolchain import Binaries, binaries
from nova_cli.console import Console
from nova_cli.errors import CommandError
from tests.cluster.api import Api
from tests.cluster.operator_process import OperatorProcess, running


@functools.cache
def _binaries() -> Binaries | str:
    """The binaries, or why there are none."""
    try:
        return binaries(Console())
    except CommandError as error:
        return str(error)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile now, outside of any test, when a test that will run needs it."""
    wanted = any("programs" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            _binaries()


@pytest.fixture(scope="session")
def programs() -> Binaries:
    """What an API server is started with, for tests that have one of their own."""
    found = _binaries()
    if isinstance(found, str):
        pytest.skip(f"no API server: {found}")
    return found


@pytest.fixture(scope="session")
def apiserver(programs: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The administrator's kubeconfig of a running API server, stopped at the end of the session."""
    control_plane = ControlPlane(tmp_path_factory.mktemp("control-plane"), programs.node)
    try:
        yield control_plane.start()
    finally:
        control_plane.stop()


@pytest.fixture(scope="module")
def api(apiserver: Path) -> Api:
    """The API server with NovaServices in it."""
    client = Api(apiserver)
    client.install()
    return client


@pytest.fixture(scope="module")
def namespace(api: Api) -> Iterator[str]:
    """A namespace of the module's own."""
    with api.namespace() as name:
        yield name


@pytest.fixture(scope="module")
def operator(
    apiserver: Path, api: Api, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator for the module's namespace; modules that need other options have their own."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with running(apiserver, log, f"--namespace={namespace}", "--sidecar-image=sidecar:test") as process:
        yield process
