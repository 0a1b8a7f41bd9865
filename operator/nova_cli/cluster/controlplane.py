"""etcd, the API server and the controller manager: Kubernetes without a machine to run pods on.

On its own this is what the operator's tests talk to: the real API server with its real admission, started in seconds,
without root. The local cluster runs the same class inside the node's namespaces and adds a node to it.

Nothing is tuned but durability: etcd does not sync to disk, because no cluster here survives its machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nova_cli.cluster import kubeconfig
from nova_cli.cluster import state as states
from nova_cli.cluster.api import ApiServer
from nova_cli.cluster.cache import write_atomically
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.network import free_port
from nova_cli.cluster.pki import Authority
from nova_cli.cluster.process import wait_until
from nova_cli.cluster.state import State
from nova_cli.errors import CommandError

SERVICE_RANGE = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
CLUSTER_POD_RANGE = "10.244.0.0/16"
"""Of which each node has a part, see `node.Node.pod_range`."""
READY_SECONDS = 90.0
ASK_SECONDS = 0.15
"""Between two questions: whoever asks all the time slows down what it waits for."""
STOP_ORDER = ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")


@dataclass(frozen=True)
class Addresses:
    """Where the components find each other."""

    host: str
    """The address the API server announces."""
    api_port: int
    etcd_port: int
    etcd_peer_port: int

    @classmethod
    def loopback(cls) -> Addresses:
        """Free ports of this machine, for a control plane that shares it with others."""
        return cls("127.0.0.1", free_port(), free_port(), free_port())

    @property
    def api_url(self) -> str:
        """What the components' kubeconfigs name."""
        return f"https://{self.host}:{self.api_port}"


class ControlPlane:
    """A control plane in a folder of its own. `start` and `stop` may be called from different processes."""

    def __init__(self, folder: Path, node_binary: Path) -> None:
        """`node_binary` is the multi-call binary of `toolchain.binaries`."""
        self.folder = folder.absolute()
        self.kubeconfig = self.folder / "kubeconfig"
        self._binary = node_binary

    def __repr__(self) -> str:
        state = self._state()
        running = sorted(state.processes) if state else []
        return f"<ControlPlane {self.folder} {' '.join(running) or 'stopped'}>"

    def start(self) -> Path:
        """Start on free loopback ports and wait until it answers. Returns the administrator's kubeconfig."""
        addresses = Addresses.loopback()
        state = State(mode="control-plane", port=addresses.api_port, binaries=str(self._binary.parent))
        launcher = Launcher(self.folder, state)
        try:
            self.prepare(addresses, state.port)
            self.launch(launcher, addresses)
            wait_ready(launcher, self.folder / "pki")
            state.complete = True
            launcher.save()
        except BaseException:
            self.stop()
            raise
        return self.kubeconfig

    def prepare(self, addresses: Addresses, host_port: int) -> Authority:
        """Write certificates and kubeconfigs. `host_port` is where this machine reaches the API server."""
        authority = make_certificates(self.folder / "pki", addresses.host)
        for user in ("kube-controller-manager", "kube-scheduler"):
            write_kubeconfig(self.folder / f"{user}.kubeconfig", addresses.api_url, authority, user)
        write_kubeconfig(self.kubeconfig, f"https://127.0.0.1:{host_port}", authority, "admin")
        return authority

    def launch(self, launcher: Launcher, addresses: Addresses, *, scheduler: bool = False) -> None:
        """Start the processes through `launcher`, which decides where: on this machine or inside the node."""
        binary = str(self._binary)
        launcher.start("etcd", [binary, "etcd", *etcd_flags(self.folder, addresses)])
        launcher.start("kube-apiserver", [binary, "kube-apiserver", *apiserver_flags(self.folder, addresses)])
        wait_for_roles(launcher, self.folder / "pki")
        manager = controller_manager_flags(self.folder)
        launcher.start("kube-controller-manager", [binary, "kube-controller-manager", *manager])
        if scheduler:
            launcher.start("kube-scheduler", [binary, "kube-scheduler", *scheduler_flags(self.folder)])

    def stop(self) -> None:
        """Stop what was started in the folder, by whomever: the state file knows. Harmless when nothing runs."""
        state = self._state()
        if state is not None:
            launcher = Launcher(self.folder, state)
            for name in STOP_ORDER:
                launcher.stop(name)

    def _state(self) -> State | None:
        return states.load(self.folder / "state.json")


def write_kubeconfig(file: Path, url: str, authority: Authority, user: str) -> None:
    """Write the kubeconfig of `user`, who has a certificate, for the API server at `url`."""
    write_atomically(file, kubeconfig.render(url, authority.folder, user))


def make_certificates(folder: Path, host: str) -> Authority:
    """The authority, the server's certificate and one client certificate per component."""
    authority = Authority.create(folder)
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
    addresses = sorted({"127.0.0.1", SERVICE_ADDRESS, host})
    authority.issue(
        "apiserver", "kube-apiserver", names=[*(f"DNS:{name}" for name in names), *(f"IP:{ip}" for ip in addresses)]
    )
    authority.issue("admin", "admin", group="system:masters")
    authority.issue("kube-controller-manager", "system:kube-controller-manager")
    authority.issue("kube-scheduler", "system:kube-scheduler")
    authority.key_pair("service-account")
    return authority


def etcd_flags(folder: Path, addresses: Addresses) -> list[str]:
    """One member, loopback only."""
    client = f"http://127.0.0.1:{addresses.etcd_port}"
    peer = f"http://127.0.0.1:{addresses.etcd_peer_port}"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_flags(folder: Path, addresses: Addresses) -> list[str]:
    """The API server with its default admission plugins and NodeRestriction, as kubeadm runs it."""
    pki = folder / "pki"
    shared = addresses.host != "127.0.0.1"
    return [
        f"--etcd-servers=http://127.0.0.1:{addresses.etcd_port}",
        f"--advertise-address={addresses.host}",
        f"--bind-address={'0.0.0.0' if shared else '127.0.0.1'}",  # noqa: S104 - all of the node's own namespace
        f"--endpoint-reconciler-type={'lease' if shared else 'none'}",
        f"--secure-port={addresses.api_port}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={pki / 'admin.crt'}",
        f"--kubelet-client-key={pki / 'admin.key'}",
        # without this exec and logs look the node's name up in DNS, where it is not
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def controller_manager_flags(folder: Path) -> list[str]:
    """All controllers, so that Deployments make pods and owned objects are collected. No port, so none to clash. Which
    node has which addresses for pods is not left to it, see `node.Node.pod_range`."""
    pki = folder / "pki"
    return [
        f"--kubeconfig={folder / 'kube-controller-manager.kubeconfig'}",
        f"--service-account-private-key-file={pki / 'service-account.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
        # two renewals of a kubelet's lease; with the usual 50 s whoever tries out the loss of a node waits for a minute
        "--node-monitor-grace-period=24s",
        # it makes this folder, by default in /usr/libexec
        f"--flex-volume-plugin-dir={folder / 'volume-plugins'}",
    ]


def scheduler_flags(folder: Path) -> list[str]:
    """The default scheduler, alone."""
    return [f"--kubeconfig={folder / 'kube-scheduler.kubeconfig'}", "--leader-elect=false", "--secure-port=0"]


def wait_for_roles(launcher: Launcher, pki: Path) -> None:
    """Wait until the API server has written the roles of its components. The controller manager gives up when it may
    not read /healthz within ten seconds, which on a busy machine can be over before its role is there."""
    server = ApiServer(launcher.state.port, pki)
    wait_for(launcher, "the API server", lambda: server.status("/readyz/poststarthook/rbac/bootstrap-roles") == 200)


def wait_ready(launcher: Launcher, pki: Path) -> None:
    """Wait until the API server is ready and pods may be created, which takes the default service account."""
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    server = ApiServer(launcher.state.port, pki)
    wait_for(launcher, "the API server", lambda: server.status("/readyz") == 200 and server.status(account) == 200)


def wait_for(launcher: Launcher, what: str, condition: Callable[[], bool]) -> None:
    """Wait for `condition`. Raises CommandError as soon as a process has died, or after `READY_SECONDS`."""
    deadline = time.monotonic() + READY_SECONDS
    while not wait_until(condition, 1.0, every=ASK_SECONDS):
        if launcher.state.dead():
            raise CommandError(f"the cluster did not start{launcher.epitaph()}")
        if time.monotonic() > deadline:
            raise CommandError(f"{what} is not ready after {READY_SECONDS:.0f} s; see {launcher.folder}/log")
