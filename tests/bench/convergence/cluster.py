"""The control plane of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nova_cli.cluster import state as states
from nova_cli.cluster.controlplane import ControlPlane, controller_manager_flags
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.state import State
from nova_cli.cluster.toolchain import binaries
from nova_cli.console import Console
from nova_operator.desired.defaults import Platform
from tests.cluster.api import Api

from .client import Client
from .workload import NAMESPACES

MANAGER: Final = "kube-controller-manager"
_HURRY: Final = ("--kube-api-qps=300", "--kube-api-burst=600", "--concurrent-namespace-syncs=20")


class Plane:
    """etcd, API server and controller manager, started by `running`."""

    def __init__(self, folder: Path, binary: Path, state: State) -> None:
        self._folder = folder
        self._binary = binary
        self._launcher = Launcher(folder, state)

    @property
    def pids(self) -> dict[str, int]:
        """Whose CPU time is counted."""
        return {name.removeprefix("kube-"): record.pid for name, record in self._launcher.state.processes.items()}

    async def hurry(self) -> None:
        """Let the controller manager ask as often as it likes, to have done with what the rounds left it to do; by
        itself it asks 20 times a second."""
        await self._restart(*_HURRY)

    async def usual(self) -> None:
        """The controller manager as it is shipped, for a round."""
        await self._restart()

    async def _restart(self, *flags: str) -> None:
        self._launcher.stop(MANAGER)
        command = [str(self._binary), MANAGER, *controller_manager_flags(self._folder), *flags]
        self._launcher.start(MANAGER, command)
        await asyncio.sleep(2)  # its caches fill; nothing tells when they have


@contextmanager
def running(folder: Path) -> Iterator[tuple[Plane, Path]]:
    """The control plane with NovaServices in it, and its kubeconfig; stopped in the end."""
    binary = binaries(Console()).node
    control_plane = ControlPlane(folder, binary)
    try:
        kubeconfig = control_plane.start()
        Api(kubeconfig).install()
        state = states.load(folder / "state.json")
        assert state is not None
        yield Plane(folder, binary, state), kubeconfig
    finally:
        control_plane.stop()


async def platform(client: Client) -> Platform:
    """What the API server can do, as the operator finds out."""
    version = await client.document("/version")
    return Platform.of(version["major"], version["minor"])


async def remove_all(client: Client) -> None:
    """Delete the namespaces of all rounds, also of one that broke off, and wait until they are empty."""
    while True:
        left = [item for item in await client.items(NAMESPACES) if item["metadata"]["name"].startswith("bench-")]
        if not left:
            return
        for item in left:
            if "deletionTimestamp" not in item["metadata"]:
                await client.call("DELETE", f"{NAMESPACES}/{item['metadata']['name']}")
        await asyncio.sleep(0.5)
