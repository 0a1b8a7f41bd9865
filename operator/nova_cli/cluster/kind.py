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
from nova_cli.errors import CommandError

if TYPE_CHECKING:
    from pytest_kind import KindCluster

KIND_VERSION = "v0.30.0"
"""Its nodes run Kubernetes 1.34, as the local cluster does; pytest-kind's default predates native sidecars."""


CONFIG_HEAD = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    kubeadmConfigPatches:
      - |
        kind: InitConfiguration
        nodeRegistration: {taints: []}
"""
"""Left to itself, kind keeps pods off the control plane as soon as there is another node."""
CONFIG_WORKER = "  - role: worker\n"


class KindProvider:
    """A kind cluster; a node is a container, named after the cluster and its role."""

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

    def prepare(self, *, network_policies: bool = False) -> None:
        """Download kind, whose nodes have all they need to enforce policies."""
        del network_policies
        with self._console.step("prepare kind"):
            self._cluster().ensure_kind()

    def up(self, nodes: int = 1, *, network_policies: bool = False) -> Path:
        """Create the cluster, or take the one that exists; kind cannot add nodes to it, but can start one again. Its
        nodes enforce policies (kindnet)."""
        del network_policies
        if not self.status().running:
            with self._console.step(f"create the kind cluster {self.name}"):
                self._create(nodes)
        elif nodes > len(self.nodes):
            raise CommandError(
                f"{self.name} has {len(self.nodes)} node(s), and kind adds none to a cluster that runs: "
                f"`nova cluster down --name {self.name}` first"
            )
        else:
            self._console.line(f"cluster {self.name} is already running (kind)")
            run(["docker", "start", *self.nodes])
        return self.kubeconfig

    def _create(self, nodes: int) -> None:
        cluster = self._cluster()
        config = self._folder / "kind.yaml"
        config.write_text(config_of(nodes))
        cluster.create(config)

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
        parts = {node: "running" if _runs(node) else "stopped" for node in self.nodes or [self._node]}
        return Status(self.name, "kind", runs and self.kubeconfig.exists(), self.kubeconfig, parts)

    def load(self, archives: Sequence[Path]) -> None:
        """`kind load image-archive` for each."""
        cluster = self._cluster()
        cluster.ensure_kind()
        for archive in archives:
            with self._console.step(f"load {archive.name}"):
                run([cluster.kind_path, "load", "image-archive", "--name", self.name, archive])

    def inside(self, command: Sequence[str], *, node: str = "") -> list[str]:
        """Runs in the node's container, so with the node's programs (it has curl), not with this machine's."""
        return ["docker", "exec", "--interactive", node or self._node, *command]

    @property
    def nodes(self) -> list[str]:
        """The containers that kind made for the cluster, running or not, the control plane's first."""
        label = f"label=io.x-k8s.kind.cluster={self.name}"
        answer = run(["docker", "ps", "--all", "--filter", label, "--format", "{{.Names}}"], check=False)
        return sorted(answer.stdout.split(), key=lambda name: (name != self._node, name))

    def lose(self, name: str) -> None:
        """Kill the container of a worker."""
        if name not in self.nodes[1:]:
            raise CommandError(f"{self.name} has no further node {name}; it has {', '.join(self.nodes)}")
        run(["docker", "kill", name])

    @property
    def _node(self) -> str:
        return f"{self.name}-control-plane"

    def _node_runs(self) -> bool:
        return _runs(self._node)

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


def config_of(nodes: int) -> str:
    """kind's configuration for so many nodes, all of which take pods."""
    return CONFIG_HEAD + CONFIG_WORKER * (nodes - 1)


def _runs(container: str) -> bool:
    answer = run(["docker", "inspect", "--format", "{{.State.Running}}", container], check=False)
    return answer.stdout.strip() == "true"
