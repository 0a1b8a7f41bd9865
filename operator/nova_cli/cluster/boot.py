"""Starts the first node and its control plane: the whole order on one screen, in `Boot.run`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from nova_cli.cluster import network, node
from nova_cli.cluster.agents import ADDRESSES, Agents, dns_ready, node_ready
from nova_cli.cluster.api import ApiServer
from nova_cli.cluster.cgroups import Cgroup
from nova_cli.cluster.controlplane import ControlPlane, wait_for, wait_ready, write_kubeconfig
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.node import FIRST
from nova_cli.cluster.pki import Authority
from nova_cli.cluster.toolchain import Binaries

PREFERRED_PORT = 16443
"""Of the API server on 127.0.0.1 of this machine; another one is taken if it is not free."""


class Boot:
    """One start of the cluster in `folder`. Its effects are undone by `LocalCluster.down`, wherever it stopped."""

    def __init__(self, folder: Path, cgroup: Cgroup, binaries: Binaries) -> None:
        self._folder = folder
        self._binaries = binaries
        self._agents = Agents(FIRST, folder, folder / "pki", cgroup, binaries)
        folder.mkdir(parents=True)

    def run(self, note: Callable[[str], None]) -> None:
        """Everything in order; what needs no other thing is started before what others wait for."""
        agents = self._agents
        note("namespaces")
        namespaces = agents.open_namespaces()
        namespaces.configure(network.first_script())
        here, inside = agents.launcher(namespaces.network), agents.launcher(namespaces.all)
        self._start_forwarder(here)
        agents.start_containerd(inside)
        note("control plane")
        control_plane = ControlPlane(self._folder, self._binaries.node)
        self._write_credentials(control_plane.prepare(ADDRESSES, agents.state.port))
        control_plane.launch(inside, ADDRESSES, scheduler=True)
        note("node")
        agents.start_agents(inside)
        self._start_dns(inside)
        agents.import_pause(inside, namespaces)
        wait_ready(inside, self._folder / "pki")
        note("DNS")
        api = ApiServer(agents.state.port, self._folder / "pki")
        for path, document in node.dns_objects():
            api.apply(path, document)
        wait_for(inside, "the node", lambda: node_ready(api, FIRST))
        wait_for(inside, "DNS", lambda: dns_ready(namespaces))
        agents.state.complete = True
        inside.save()

    def _start_forwarder(self, launcher: Launcher) -> None:
        command = [sys.executable, "-m", "nova_cli.cluster.forward", ADDRESSES.host, str(ADDRESSES.api_port)]
        with network.listener(PREFERRED_PORT) as opened:
            self._agents.state.port = opened.getsockname()[1]
            launcher.start("forwarder", command, inherit=opened.fileno())

    def _write_credentials(self, authority: Authority) -> None:
        self._agents.write_credentials(authority)
        authority.issue("coredns", "system:coredns")
        for user, name in (("coredns", "coredns"), ("admin", "node")):
            write_kubeconfig(self._folder / f"{name}.kubeconfig", ADDRESSES.api_url, authority, user)

    def _start_dns(self, launcher: Launcher) -> None:
        corefile = self._agents.write("Corefile", node.corefile(self._folder / "coredns.kubeconfig"))
        self._agents.write("resolv.conf", node.resolv_conf())
        launcher.start("coredns", [str(self._binaries.node), "coredns", "-conf", str(corefile)])
