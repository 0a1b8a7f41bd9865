"""A further node: namespaces of its own, joined by a cable to the first node's bridge.

It has a folder, a state file, logs and a cgroup inside of the cluster's, and everything else that makes a node; but no
control plane. It may go at any time, as machines do: all that holds it is in its cgroup, and its network vanishes with
the last of its processes, as if somebody had pulled the plug. Like a machine it has its images and its pods again when
it starts anew; whatever else is left of it is removed before.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from nova_cli.cluster import containerd, mounts, network
from nova_cli.cluster import state as states
from nova_cli.cluster.agents import STOP_ORDER, Agents, node_ready
from nova_cli.cluster.api import ApiServer
from nova_cli.cluster.cgroups import Cgroup
from nova_cli.cluster.controlplane import wait_for
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.namespaces import Namespaces
from nova_cli.cluster.node import Node
from nova_cli.cluster.pki import Authority
from nova_cli.cluster.process import run
from nova_cli.cluster.state import State
from nova_cli.cluster.toolchain import Binaries


class Member:
    """The node `which` of the cluster in `cluster`, whose cgroup is `cgroup`. There need not be such a node yet."""

    def __init__(self, which: Node, cluster: Path, cgroup: Cgroup) -> None:
        self.node = which
        self.folder = cluster / which.name
        self.cgroup = cgroup.inner(which.name)
        self._pki = cluster / "pki"

    def __repr__(self) -> str:
        return f"<Member {self.node.name} {'runs' if self.runs() else 'stopped'}>"

    @property
    def state(self) -> State | None:
        """What is known of its processes; None when there is no such node."""
        return states.load(self.folder / "state.json")

    def runs(self) -> bool:
        """Whether its start came to its end, and every process is there."""
        state = self.state
        return state is not None and state.complete and not state.dead()

    @property
    def namespaces(self) -> Namespaces | None:
        """Those it lives in, while it does."""
        state = self.state
        if state is None or "holder" not in state.processes or not state.processes["holder"].alive():
            return None
        return Namespaces(state.processes["holder"].pid)

    def start(
        self, binaries: Binaries, bridge: Namespaces, api: ApiServer, load: Callable[[Namespaces, list[str]], list[str]]
    ) -> None:
        """Join it to the `bridge` in the first node's network. Before the kubelet and its pods come, `load` gives
        its containerd the images that it lacks, being told which it has, and says which it has then."""
        images = self._clear(api)
        agents = Agents(self.node, self.folder, self._pki, self.cgroup, binaries)
        namespaces = agents.open_namespaces()
        run([*bridge.network, "ip", "-batch", "-"], stdin=network.cable_script(self.node, namespaces.holder))
        namespaces.configure(network.further_script(self.node))
        inside = agents.launcher(namespaces.all)
        agents.start_containerd(inside)
        agents.write_credentials(Authority(self._pki))
        agents.import_pause(inside, namespaces)
        agents.state.loaded = load(namespaces, images)
        agents.start_agents(inside)
        wait_for(inside, self.node.name, lambda: node_ready(api, self.node))
        agents.state.complete = True
        inside.save()

    def stop(self) -> None:
        """Stop its processes in order, those that are on record."""
        if (state := self.state) is not None:
            launcher = Launcher(self.folder, state)
            for name in (*STOP_ORDER, *state.processes):
                launcher.stop(name, grace=3)

    def lose(self) -> None:
        """Kill everything that it consists of at once, its network too: what the others see when a machine dies."""
        self.cgroup.kill()

    def _clear(self, api: ApiServer) -> list[str]:
        """Remove all that is left of it but its images, and say which those are. The Node object goes too, or it would
        look as ready as it was when the node was lost; a kubelet makes it anew."""
        self.cgroup.kill()
        self.cgroup.remove()
        mounts.unmount_below(self.folder)
        images = state.loaded if (state := self.state) is not None and state.complete else []
        disk = self.folder / "fs" / containerd.ROOT.lstrip("/")
        aside = self.folder.with_name(f".{self.node.name}-images")
        shutil.rmtree(aside, ignore_errors=True)
        if images and disk.exists():
            disk.rename(aside)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        disk.parent.mkdir(parents=True)
        if aside.exists():
            aside.rename(disk)
        api.delete(f"/api/v1/nodes/{self.node.name}")
        return images
