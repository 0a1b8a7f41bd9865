"""NetworkPolicies, enforced on a node: what the kernel asks the program in `policies/`, and what that may know.

    through the node   to a pod or from one, after kube-proxy has chosen a pod: policies see its address and port
    to the node        from a pod: the name server and the API server are processes of the first node
    from the node      nothing is asked: neither the kubelet's probes nor the API server's calls of webhooks are kept
                       out by policies. Every process of a node is root's, and of a pod none is in the node's network

It is asked of the first packet of a connection; what may begin may go on, whatever becomes of the policies. When the
program is gone nothing begins: a cluster that stopped enforcing in silence would pass for one that allows.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nova_cli.cluster.agents import ADDRESSES
from nova_cli.cluster.controlplane import CLUSTER_POD_RANGE, wait_for, write_kubeconfig
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.namespaces import Namespaces
from nova_cli.cluster.node import Node
from nova_cli.cluster.pki import Authority
from nova_cli.cluster.process import run

NAME = "network-policies"
"""Of the process, its log and its kubeconfig."""
QUEUE = 100
"""Number of the kernel's queue; each node has queues of its own."""
_USER = f"system:{NAME}"

Document = dict[str, Any]


def enforce(which: Node, program: Path, launcher: Launcher, namespaces: Namespaces, pki: Path) -> None:
    """Start the program on a node, whose `launcher` starts it in `namespaces`, and have it asked from then on. Raises
    CommandError where the kernel cannot do that."""
    authority = Authority(pki)
    authority.issue(NAME, _USER)
    kubeconfig = launcher.folder / f"{NAME}.kubeconfig"
    write_kubeconfig(kubeconfig, ADDRESSES.api_url, authority, NAME)
    launcher.start(NAME, [str(program), *flags(which, kubeconfig)])
    try:
        wait_for(launcher, "what enforces NetworkPolicies", lambda: _listens(namespaces))
        run([*namespaces.network, "iptables-restore", "--noflush"], stdin=rules())
    except BaseException:  # an interrupt, too: a program that nobody asks would pass for one that enforces
        launcher.stop(NAME)
        raise


def flags(which: Node, kubeconfig: Path) -> list[str]:
    """What the program is told."""
    return [f"--kubeconfig={kubeconfig}", f"--node={which.name}", f"--queue={QUEUE}"]


def rules() -> str:
    """What iptables-restore adds to the node's rules."""
    ask = f"-m conntrack --ctstate NEW -j NFQUEUE --queue-num {QUEUE}"
    return f"""\
*mangle
-A POSTROUTING -m owner --uid-owner 0 -j RETURN
-A POSTROUTING {ask}
-A INPUT -s {CLUSTER_POD_RANGE} {ask}
COMMIT
"""


def access_objects() -> list[tuple[str, Document]]:
    """What lets the program know pods, namespaces and policies, each with the path to apply it to."""
    group = "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list", "watch"]},
    ]
    common = {"apiVersion": f"{group}/v1", "metadata": {"name": _USER}}
    role = {**common, "kind": "ClusterRole", "rules": rules}
    binding = {
        **common,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": _USER},
        "subjects": [{"apiGroup": group, "kind": "User", "name": _USER}],
    }
    return [
        (f"/apis/{group}/v1/clusterroles/{_USER}", role),
        (f"/apis/{group}/v1/clusterrolebindings/{_USER}", binding),
    ]


def _listens(namespaces: Namespaces) -> bool:
    """Whether somebody answers for the queue; each line of the file begins with a queue's number."""
    found = run([*namespaces.network, "cat", "/proc/net/netfilter/nfnetlink_queue"], check=False)
    return any(line.split()[0] == str(QUEUE) for line in found.stdout.splitlines() if line.strip())
