"""The cluster where Docker answers: kind, through pytest-kind.

pytest-kind keeps its files below the current folder unless told otherwise, so it is told: they go to the cache.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nova_cli.cluster import toolchain
from nova_cli.cluster.cache import cache_root
from nova_cli.cluster.process import run
from nova_cli.cluster.provider import Status
from nova_cli.console import Console

if TYPE_CHECKING:
    from pytest_kind import KindCluster

KIND_VERSION = "v0.30.0"
"""Its nodes run Kubernetes 1.34, as the local cluster does; pytest-kind's default predates native sidecars."""


class KindProvider:
    """A kind cluster of one node."""

    def __init__(self, name: str, console: Console) -> None:
        self.name = name
        self._console = console
        self._folder = cache_root() / "clusters" / name

    def __repr__(self) -> str:
        return f"<KindProvider {self.name}>"

    @property
    def kubeconfig(self) -> Path:
        """Written by kind."""
        return self._folder / "kubeconfig"

    def prepare(self) -> None:
        """Download kind."""
        with self._console.step("prepare kind"):
            self._cluster().ensure_kind()

    def up(self) -> Path:
        """Create the cluster, or take the one that exists."""
        if self.status().running:
            self._console.line(f"cluster {self.name} is already running (kind)")
        else:
            with self._console.step(f"create the kind cluster {self.name}"):
                self._cluster().create()
        return self.kubeconfig

    def down(self) -> None:
        """Delete the cluster; kind removes its container, network and volumes."""
        if not self._node_runs():
            self._console.line(f"cluster {self.name} is not running")
            return
        with self._console.step(f"delete the kind cluster {self.name}"):
            self._cluster().delete()

    def status(self) -> Status:
        """Running means that the node's container runs and we hold a kubeconfig for it."""
        runs = self._node_runs()
        parts = {self._node: "running" if runs else "stopped"}
        return Status(self.name, "kind", runs and self.kubeconfig.exists(), self.kubeconfig, parts)

    def load(self, archives: Sequence[Path]) -> None:
        """`kind load image-archive` for each."""
        cluster = self._cluster()
        cluster.ensure_kind()
        for archive in archives:
            with self._console.step(f"load {archive.name}"):
                run([cluster.kind_path, "load", "image-archive", "--name", self.name, archive])

    def inside(self, command: Sequence[str]) -> list[str]:
        """Runs in the node's container, so with the node's programs (it has curl), not with this machine's."""
        return ["docker", "exec", "--interactive", self._node, *command]

    @property
    def _node(self) -> str:
        return f"{self.name}-control-plane"

    def _node_runs(self) -> bool:
        answer = run(["docker", "inspect", "--format", "{{.State.Running}}", self._node], check=False)
        return answer.stdout.strip() == "true"

    def _cluster(self) -> KindCluster:
        os.environ.setdefault("KIND_VERSION", KIND_VERSION)  # read by pytest-kind when it is imported
        from pytest_kind import KindCluster  # noqa: PLC0415 - see above

        version = os.environ["KIND_VERSION"]
        tools = cache_root() / "tools"
        for folder in (self._folder, tools):
            folder.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(self._folder):
            return KindCluster(
                self.name,
                kubeconfig=self.kubeconfig,
                kind_path=tools / f"kind-{version}",
                kubectl_path=toolchain.kubectl(self._console),
            )
