"""The container runtime of the node, with every folder its own: the machine may run another containerd."""

from __future__ import annotations

import json

SOCKET = "/run/containerd/containerd.sock"
ROOT = "/var/lib/containerd"
PAUSE_IMAGE = "localhost/nova/pause:1"
CNI_CONFIG = "/run/nova/cni"


def render_config(*, snapshotter: str) -> str:
    """The configuration file. Paths are those that the node sees, see `namespaces.OWN_FOLDERS`."""
    return f"""\
version = 2
root = "{ROOT}"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # without CAP_SYS_RESOURCE nobody may lower oom_score_adj, and runc fails over it
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{CNI_CONFIG}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
"""


def render_network(pod_range: str) -> str:
    """How pods are connected: a routed pair of devices each, as in kind, so that all packets pass the node's rules.

    On a bridge, replies between two pods would bypass kube-proxy's address translation where br_netfilter is missing.
    """
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": pod_range}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "nova", "plugins": plugins}, indent=2) + "\n"


def snapshotter_for(file_system: str) -> str:
    """overlayfs cannot be stacked on itself: where the cache lies on one (a container's disk), layers are copied."""
    return "native" if file_system == "overlay" else "overlayfs"
