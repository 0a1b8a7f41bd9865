"""Starts one node and its control plane: the whole order on one screen, in `Boot.run`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from nova_cli.cluster import containerd, node, oci
from nova_cli.cluster.api import ApiServer
from nova_cli.cluster.cache import cache_root, write_atomically
from nova_cli.cluster.cgroups import Cgroup
from nova_cli.cluster.controlplane import (
    CLUSTER_POD_RANGE,
    Addresses,
    ControlPlane,
    wait_for,
    wait_ready,
    write_kubeconfig,
)
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.mounts import holding, mounts
from nova_cli.cluster.namespaces import HOLD, Namespaces, join
from nova_cli.cluster.network import listener
from nova_cli.cluster.pki import Authority
from nova_cli.cluster.process import run
from nova_cli.cluster.state import State
from nova_cli.cluster.toolchain import Binaries

ADDRESSES = Addresses(host=node.NODE_ADDRESS, api_port=node.API_PORT, etcd_port=2379, etcd_peer_port=2380)
PREFERRED_PORT = 16443
"""Of the API server on 127.0.0.1 of this machine; another one is taken if it is not free."""
AGENTS = ("kubelet", "kube-proxy", "coredns")


class Boot:
    """One start of the cluster in `folder`. Its effects are undone by `LocalCluster.down`, wherever it stopped."""

    def __init__(self, folder: Path, cgroup: Cgroup, binaries: Binaries) -> None:
        self._folder = folder
        self._cgroup = cgroup
        self._binaries = binaries
        self._state = State(mode="node", binaries=str(binaries.folder))
        folder.mkdir(parents=True)

    def run(self, note: Callable[[str], None]) -> None:
        """Everything in order; what needs no other thing is started before what others wait for."""
        note("namespaces")
        self._cgroup.create()
        namespaces = self._open_namespaces()
        here = Launcher(self._folder, self._state, inside=join(self._cgroup.tasks, namespaces.network))
        inside = Launcher(self._folder, self._state, inside=join(self._cgroup.tasks, namespaces.all))
        self._start_forwarder(here)
        self._start_containerd(inside)
        note("control plane")
        control_plane = ControlPlane(self._folder, self._binaries.node)
        self._write_credentials(control_plane.prepare(ADDRESSES, self._state.port))
        control_plane.launch(inside, ADDRESSES, scheduler=True)
        note("node")
        self._start_agents(inside)
        wait_for(inside, "containerd", lambda: containerd_answers(namespaces))
        self._import_pause(namespaces)
        wait_ready(inside, self._pki)
        note("DNS")
        self._apply_dns(inside)
        wait_for(inside, "the node", lambda: node_ready(self._api))
        wait_for(inside, "DNS", lambda: dns_ready(namespaces))
        self._state.complete = True
        inside.save()

    @property
    def _pki(self) -> Path:
        return self._folder / "pki"

    @property
    def _api(self) -> ApiServer:
        return ApiServer(self._state.port, self._pki)

    def _open_namespaces(self) -> Namespaces:
        outside = Launcher(self._folder, self._state, inside=join(self._cgroup.tasks, []))
        namespaces = Namespaces(outside.start("holder", HOLD).pid)
        namespaces.wait()
        namespaces.mount(self._folder / "fs", keep=cache_root())
        namespaces.configure(node.NODE_ADDRESS)
        return namespaces

    def _start_forwarder(self, launcher: Launcher) -> None:
        command = [sys.executable, "-m", "nova_cli.cluster.forward", ADDRESSES.host, str(ADDRESSES.api_port)]
        with listener(PREFERRED_PORT) as opened:
            self._state.port = opened.getsockname()[1]
            launcher.start("forwarder", command, inherit=opened.fileno())

    def _start_containerd(self, launcher: Launcher) -> None:
        snapshotter = containerd.snapshotter_for(holding(self._folder.resolve(), mounts()).kind)
        config = self._write("containerd.toml", containerd.render_config(snapshotter=snapshotter))
        networks = self._folder / "fs" / containerd.CNI_CONFIG.lstrip("/")
        networks.mkdir(parents=True)
        write_atomically(networks / "10-nova.conflist", containerd.render_network(node.POD_RANGE))
        launcher.start("containerd", ["containerd", "--config", str(config)])

    def _write_credentials(self, authority: Authority) -> None:
        names = [f"DNS:{node.NODE_NAME}", f"IP:{node.NODE_ADDRESS}"]
        authority.issue("kubelet", f"system:node:{node.NODE_NAME}", group="system:nodes", names=names)
        authority.issue("kube-proxy", "system:kube-proxy")
        authority.issue("coredns", "system:coredns")
        for user in AGENTS:
            write_kubeconfig(self._folder / f"{user}.kubeconfig", ADDRESSES.api_url, authority, user)
        write_kubeconfig(self._folder / "node.kubeconfig", ADDRESSES.api_url, authority, "admin")

    def _start_agents(self, launcher: Launcher) -> None:
        binary = str(self._binaries.node)
        credentials = {user: self._folder / f"{user}.kubeconfig" for user in AGENTS}
        kubelet = self._write("kubelet.json", node.kubelet_config(self._pki, self._cgroup.name))
        launcher.start("kubelet", [binary, "kubelet", *node.kubelet_flags(kubelet, credentials["kubelet"])])
        proxy = self._write("kube-proxy.json", node.proxy_config(credentials["kube-proxy"], CLUSTER_POD_RANGE))
        launcher.start("kube-proxy", [binary, "kube-proxy", f"--config={proxy}"])
        corefile = self._write("Corefile", node.corefile(credentials["coredns"]))
        self._write("resolv.conf", node.resolv_conf())
        launcher.start("coredns", [binary, "coredns", "-conf", str(corefile)])

    def _import_pause(self, namespaces: Namespaces) -> None:
        archive = self._folder / "pause.tar"
        oci.write_single_file_image(archive, containerd.PAUSE_IMAGE, self._binaries.pause)
        import_image(namespaces, archive)

    def _apply_dns(self, launcher: Launcher) -> None:
        wait_for(launcher, "the API server", lambda: self._api.status("/readyz") == 200)
        for path, document in node.dns_objects():
            self._api.apply(path, document)

    def _write(self, name: str, text: str) -> Path:
        file = self._folder / name
        write_atomically(file, text, mode=0o644)
        return file


def ctr(namespaces: Namespaces, *arguments: str) -> list[str]:
    """containerd's own client, in the namespace that Kubernetes uses."""
    return [*namespaces.all, "ctr", "--address", containerd.SOCKET, "--namespace", "k8s.io", *arguments]


def import_image(namespaces: Namespaces, archive: Path) -> None:
    """Import the images in `archive` under the names it gives them."""
    run(ctr(namespaces, "images", "import", str(archive)))


def containerd_answers(namespaces: Namespaces) -> bool:
    """Whether containerd accepts commands."""
    return run(ctr(namespaces, "version"), check=False).returncode == 0


def node_ready(api: ApiServer) -> bool:
    """Whether the kubelet says that it can run pods, and nothing keeps them off the node."""
    document = api.get(f"/api/v1/nodes/{node.NODE_NAME}")
    if document is None or document["spec"].get("taints"):
        return False
    conditions = {each["type"]: each["status"] for each in document["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def dns_ready(namespaces: Namespaces) -> bool:
    """Whether CoreDNS has seen the cluster's Services; asked from the node's network, where it listens."""
    program = f"import urllib.request as r; r.urlopen('http://{node.NODE_ADDRESS}:8181/ready', timeout=1)"
    return run([*namespaces.network, sys.executable, "-S", "-c", program], check=False).returncode == 0
