"""The nodes: kubelet, kube-proxy, and on the first CoreDNS as a process of the node. Here are their names and addresses
and what they are told, nothing runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nova_cli.cluster import containerd

MOST_NODES = 9
DNS_ADDRESS = "10.96.0.10"
API_PORT = 6443

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """One node, by its number: 1 to `MOST_NODES`. Names, addresses and pod ranges follow from it, so no node has to
    be told of another that joins or leaves."""

    number: int

    @property
    def name(self) -> str:
        """Of the Node object, and of the node's folder, cgroup and device on the first one's bridge."""
        return f"node-{self.number}"

    @property
    def address(self) -> str:
        """On the bridge."""
        return f"10.77.0.{9 + self.number}"

    @property
    def pod_range(self) -> str:
        """Where its pods get their addresses from, a part of `controlplane.CLUSTER_POD_RANGE`."""
        return f"10.244.{self.number - 1}.0/24"

    @property
    def others(self) -> list[Node]:
        """All that there may be beside it."""
        return [Node(number) for number in range(1, MOST_NODES + 1) if number != self.number]


FIRST = Node(1)
"""It also runs the control plane and DNS, and has the bridge that the others are joined to."""


def kubelet_config(node: Node, pki: Path, cgroup: str) -> str:
    """KubeletConfiguration; https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/."""
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / f"{credentials(node)}.crt"),
            "tlsPrivateKeyFile": str(pki / f"{credentials(node)}.key"),
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": "/dev/null",  # the names of the machine's network mean nothing in here
            "containerRuntimeEndpoint": f"unix://{containerd.SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "podCIDR": node.pod_range,
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            # a developer's disk is often nearly full, and images must not vanish over that
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi"},
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
        }
    )


def credentials(node: Node) -> str:
    """What the kubelet's certificate is called; each node has its own (NodeRestriction)."""
    return f"kubelet-{node.name}"


def kubelet_flags(node: Node, config: Path, kubeconfig: Path) -> list[str]:
    """What cannot be said in the configuration file."""
    return [
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        "--root-dir=/var/lib/kubelet",
    ]


def proxy_config(node: Node, kubeconfig: Path, pod_range: str) -> str:
    """KubeProxyConfiguration. conntrack limits belong to the machine, so they are left alone."""
    return _json(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": pod_range,
            "hostnameOverride": node.name,
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
    )


def corefile(kubeconfig: Path) -> str:
    """CoreDNS answers for the cluster's names only: there is nothing else to reach."""
    return f"""\
.:53 {{
  errors
  health {FIRST.address}:8080
  ready {FIRST.address}:8181
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
  cache 5
}}
"""


def resolv_conf() -> str:
    """For commands that run beside the pods: Service names work as they do in the namespace `default`."""
    return (
        f"nameserver {DNS_ADDRESS}\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )


def dns_objects() -> list[tuple[str, Document]]:
    """What makes CoreDNS, a process outside of any pod, the cluster's DNS, each with the path to apply it to."""
    system = {"namespace": "kube-system"}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", **system, "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": DNS_ADDRESS, "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns-node", **system, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [FIRST.address], "conditions": {"ready": True}}],
    }
    rbac = "rbac.authorization.k8s.io"
    role = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "namespaces", "pods"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:coredns"}],
    }
    return [
        (f"/apis/{rbac}/v1/clusterroles/system:coredns", role),
        (f"/apis/{rbac}/v1/clusterrolebindings/system:coredns", binding),
        ("/api/v1/namespaces/kube-system/services/kube-dns", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-node", endpoints),
    ]


def _json(document: Document) -> str:
    """JSON is YAML too, and needs no library to write."""
    return json.dumps(document, indent=2) + "\n"
