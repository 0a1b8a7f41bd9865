"""What runs on every node, in namespaces and a cgroup of the node's own: containerd, kubelet and kube-proxy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nova_cli.cluster import containerd, node, oci
from nova_cli.cluster.api import ApiServer
from nova_cli.cluster.cache import cache_root, write_atomically
from nova_cli.cluster.cgroups import Cgroup
from nova_cli.cluster.controlplane import CLUSTER_POD_RANGE, Addresses, wait_for, write_kubeconfig
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.mounts import holding, mounts
from nova_cli.cluster.namespaces import HOLD, Namespaces, join
from nova_cli.cluster.node import FIRST, Node
from nova_cli.cluster.pki import Authority
from nova_cli.cluster.process import run
from nova_cli.cluster.state import State
from nova_cli.cluster.toolchain import Binaries

ADDRESSES = Addresses(host=FIRST.address, api_port=node.API_PORT, etcd_port=2379, etcd_peer_port=2380)
STOP_ORDER = ("kubelet", "kube-proxy", "containerd")


class Agents:
    """One node's processes: state, logs and files in `folder`, certificates in `pki`, all of it born into `cgroup`."""

    def __init__(self, which: Node, folder: Path, pki: Path, cgroup: Cgroup, binaries: Binaries) -> None:
        self.node = which
        self.state = State(mode="node", binaries=str(binaries.folder))
        self._folder = folder
        self._pki = pki
        self._cgroup = cgroup
        self._binaries = binaries

    def open_namespaces(self) -> Namespaces:
        """Make the cgroup and the namespaces; their network is still empty."""
        self._cgroup.create()
        namespaces = Namespaces(self.launcher([]).start("holder", HOLD).pid)
        namespaces.wait()
        namespaces.mount(self._folder / "fs", keep=cache_root())
        return namespaces

    def launcher(self, inside: Sequence[str]) -> Launcher:
        """Starts processes of this node; `inside` is what it takes to run where they shall."""
        return Launcher(self._folder, self.state, inside=join(self._cgroup.tasks, inside))

    def start_containerd(self, launcher: Launcher) -> None:
        """With folders and a pod network of the node."""
        snapshotter = containerd.snapshotter_for(holding(self._folder.resolve(), mounts()).kind)
        config = self.write("containerd.toml", containerd.render_config(snapshotter=snapshotter))
        networks = self._folder / "fs" / containerd.CNI_CONFIG.lstrip("/")
        networks.mkdir(parents=True)
        write_atomically(networks / "10-nova.conflist", containerd.render_network(self.node.pod_range))
        launcher.start("containerd", ["containerd", "--config", str(config)])

    def write_credentials(self, authority: Authority) -> None:
        """Of the kubelet and kube-proxy."""
        names = [f"DNS:{self.node.name}", f"IP:{self.node.address}"]
        kubelet = node.credentials(self.node)
        authority.issue(kubelet, f"system:node:{self.node.name}", group="system:nodes", names=names)
        write_kubeconfig(self._folder / "kubelet.kubeconfig", ADDRESSES.api_url, authority, kubelet)
        authority.issue("kube-proxy", "system:kube-proxy")
        write_kubeconfig(self._folder / "kube-proxy.kubeconfig", ADDRESSES.api_url, authority, "kube-proxy")

    def start_agents(self, launcher: Launcher) -> None:
        """The kubelet, which needs a containerd only after a while, and kube-proxy."""
        binary = str(self._binaries.node)
        config = self.write("kubelet.json", node.kubelet_config(self.node, self._pki, self._cgroup.name))
        flags = node.kubelet_flags(self.node, config, self._folder / "kubelet.kubeconfig")
        launcher.start("kubelet", [binary, "kubelet", *flags])
        text = node.proxy_config(self.node, self._folder / "kube-proxy.kubeconfig", CLUSTER_POD_RANGE)
        launcher.start("kube-proxy", [binary, "kube-proxy", f"--config={self.write('kube-proxy.json', text)}"])

    def import_pause(self, launcher: Launcher, namespaces: Namespaces) -> None:
        """Wait for containerd and give it the image that every pod needs."""
        wait_for(launcher, "containerd", lambda: containerd_answers(namespaces))
        archive = self._folder / "pause.tar"
        oci.write_single_file_image(archive, containerd.PAUSE_IMAGE, self._binaries.pause)
        import_image(namespaces, archive)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the node's folder."""
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


def node_ready(api: ApiServer, which: Node) -> bool:
    """Whether the kubelet says that it can run pods, and nothing keeps them off the node."""
    document = api.get(f"/api/v1/nodes/{which.name}")
    if document is None or document["spec"].get("taints"):
        return False
    conditions = {each["type"]: each["status"] for each in document["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def dns_ready(namespaces: Namespaces) -> bool:
    """Whether CoreDNS has seen the cluster's Services; asked from the first node's network, where it listens."""
    program = f"import urllib.request as r; r.urlopen('http://{FIRST.address}:8181/ready', timeout=1)"
    return run([*namespaces.network, sys.executable, "-S", "-c", program], check=False).returncode == 0
