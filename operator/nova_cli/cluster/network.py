"""Ports of this machine, and the networks of the nodes.

The nodes share one Ethernet: a bridge on the first, which the others are joined to by a pair of devices each, one end
`eth0` in the node and the other, named after it, on the bridge. Pods are reached by routes, one for each node that
there may be. So who wants to cut a node off takes its device down, and who wants it back takes it up again.

The scripts are commands for `ip -batch`.
"""

from __future__ import annotations

import socket

from nova_cli.cluster.node import FIRST, Node

BRIDGE = "node0"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on. It stays free only as long as nobody else takes it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listener(preferred: int) -> socket.socket:
    """A listening socket on 127.0.0.1, on `preferred` if that is free: kubeconfigs then stay valid across starts."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(("127.0.0.1", preferred))
    except OSError:
        opened.bind(("127.0.0.1", 0))
    opened.listen(128)
    return opened


def first_script() -> str:
    """The network of the first node: its address on a bridge, since not every kernel has dummy devices. Service
    addresses need a route to be routed at all."""
    return f"""\
link set lo up
link add {BRIDGE} type bridge
address add {FIRST.address}/24 dev {BRIDGE}
link set {BRIDGE} up
route add default dev {BRIDGE}
{_pod_routes(FIRST)}"""


def cable_script(node: Node, holder: int) -> str:
    """In the first node's network: a pair of devices to the node whose network the process `holder` keeps open."""
    return f"link add {node.name} type veth peer name eth0 netns {holder}\nlink set {node.name} master {BRIDGE} up\n"


def further_script(node: Node) -> str:
    """The network of a further node, once the cable is in."""
    return f"""\
link set lo up
address add {node.address}/24 dev eth0
link set eth0 up
route add default via {FIRST.address}
{_pod_routes(node)}"""


def _pod_routes(node: Node) -> str:
    return "".join(f"route add {other.pod_range} via {other.address}\n" for other in node.others)
