"""The cluster where there is no Docker: nodes as processes of this machine, in namespaces and cgroups of their own.

Starting: namespaces, then containerd and the control plane side by side, then the node's agents, then DNS; then further
nodes, one after the other. Those may be lost without the cluster being lost: only they are started again. Last comes
what enforces NetworkPolicies, where that is wanted.
Stopping is the reverse, and trusts nothing but the kernel: whatever the state file says, the cgroup lists every process
of the cluster, and the namespaces take mounts, devices and packet filters with them. So a start first stops what it
finds broken, and comes to the same place after a crash as after a clean stop.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nova_cli.cluster import agents, mounts, packages, policies, toolchain
from nova_cli.cluster import state as states
from nova_cli.cluster.agents import import_image, node_ready
from nova_cli.cluster.api import ApiServer
from nova_cli.cluster.boot import Boot
from nova_cli.cluster.cache import cache_root, locked
from nova_cli.cluster.cgroups import Cgroup
from nova_cli.cluster.controlplane import STOP_ORDER, ControlPlane
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.member import Member
from nova_cli.cluster.namespaces import Namespaces, join
from nova_cli.cluster.node import FIRST, MOST_NODES, Node
from nova_cli.cluster.process import wait_until
from nova_cli.cluster.provider import Status
from nova_cli.cluster.requirements import require_root
from nova_cli.cluster.state import State
from nova_cli.cluster.toolchain import Binaries
from nova_cli.console import Console
from nova_cli.errors import CommandError, MissingRequirementError

POD_GRACE_SECONDS = 1
PODS_GONE_SECONDS = 15.0
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")


class LocalCluster:
    """The cluster NAME, in the folder clusters/NAME of the cache."""

    def __init__(self, name: str, console: Console) -> None:
        if not NAME.fullmatch(name):
            raise MissingRequirementError(f"{name!r} cannot name a cluster: use up to 30 of a-z, 0-9 and -")
        self.name = name
        self.folder = cache_root() / "clusters" / name
        self._console = console

    def __repr__(self) -> str:
        state = self._state()
        return f"<LocalCluster {self.name} {state.mode if state else 'stopped'}>"

    @property
    def kubeconfig(self) -> Path:
        """For this machine; the API server is reached through the forwarder."""
        return self.folder / "kubeconfig"

    # ---- up

    def prepare(self, *, network_policies: bool = False) -> None:
        """Compile the binaries; with root, install packages meanwhile."""
        self._binaries()
        if network_policies:
            toolchain.policies(self._console)

    def _binaries(self) -> Binaries:
        with ThreadPoolExecutor() as pool:
            root = os.geteuid() == 0
            installing = pool.submit(packages.require, packages.NODE, self._console) if root else None
            binaries = toolchain.binaries(self._console)
            if installing:
                installing.result()
        return binaries

    def up(self, nodes: int = 1, *, network_policies: bool = False) -> Path:
        """Start the cluster, or find that it runs. One that enforces policies goes on doing so, after a crash as well.
        Raises MissingRequirementError before touching anything."""
        require_root()
        if not 1 <= nodes <= MOST_NODES:
            raise CommandError(f"a cluster has 1 to {MOST_NODES} nodes, not {nodes}")
        with locked(self._lock):
            state = self._state()
            enforcing = network_policies or (state is not None and policies.NAME in state.processes)
            if not self._runs("node"):
                self._start()
            elif not self._absent(nodes):
                self._console.line(f"cluster {self.name} is already running")
            for member in self._absent(nodes):
                self._join(member)
            if enforcing:
                self._enforce()
        return self.kubeconfig

    def up_control_plane(self) -> Path:
        """Start a control plane only: no node, no pods, no root."""
        with locked(self._lock):
            if self._runs("control-plane"):
                self._console.line(f"control plane {self.name} is already running")
                return self.kubeconfig
            binaries = toolchain.binaries(self._console)
            self._remove()
            with self._console.step("start the control plane"):
                return ControlPlane(self.folder, binaries.node).start()

    def _runs(self, mode: states.Mode) -> bool:
        """Whether it runs and answers. Raises CommandError if it runs in the other mode."""
        state = self._state()
        if state is None or not state.complete or state.dead() or self._api(state).status("/readyz") != 200:
            return False
        if state.mode != mode:
            raise CommandError(
                f"{self.name} runs as a {state.mode}: stop it with `nova cluster down --name {self.name}`, "
                "or choose another --name"
            )
        return True

    def _start(self) -> None:
        binaries = self._binaries()
        self._remove()
        with self._console.step(f"start the cluster {self.name}") as step:
            try:
                Boot(self.folder, self._cgroup, binaries).run(step.note)
            except CommandError as error:
                raise CommandError(f"{error}\nlogs are in {self.folder}/log; `nova cluster up` starts over") from error

    def _absent(self, nodes: int) -> list[Member]:
        """The further nodes that should run and do not: up to the number `nodes`, and any that was started before."""
        return [m for m in self._members() if not m.runs() and (m.node.number <= nodes or m.folder.exists())]

    def _join(self, member: Member) -> None:
        state, bridge = self._running()
        api = self._api(state)

        def load(namespaces: Namespaces, has: list[str]) -> list[str]:
            still = [key for key in state.loaded if (archive := _archive(key)).exists() and _identity(archive) == key]
            lacking = [key for key in still if key not in has]
            for key in lacking:
                import_image(namespaces, _archive(key))
            return [*has, *lacking]

        with self._console.step(f"join {member.node.name} to the cluster {self.name}"):
            try:
                member.start(self._binaries(), bridge, api, load)
            except CommandError as error:
                raise CommandError(
                    f"{error}\nlogs are in {member.folder}/log; `nova cluster up` joins it anew"
                ) from error

    def _enforce(self) -> None:
        """Have every node that runs enforce NetworkPolicies; those that do already are left alone."""
        program = toolchain.policies(self._console)
        for path, document in policies.access_objects():
            self._api(self._running()[0]).apply(path, document)
        for node, folder, cgroup, state, namespaces in self._places():
            if policies.NAME not in state.processes:
                with self._console.step(f"enforce NetworkPolicies on {node.name}"):
                    launcher = Launcher(folder, state, inside=join(cgroup.tasks, namespaces.all))
                    policies.enforce(node, program, launcher, namespaces, self.folder / "pki")

    # ---- down

    def down(self) -> None:
        """Stop the cluster and remove all it made. Harmless when it does not run."""
        with locked(self._lock):
            state = self._state()
            if state is None and not self.folder.exists():
                self._console.line(f"cluster {self.name} is not running")
                return
            if state is None or state.mode == "node":
                require_root()
            with self._console.step(f"stop the cluster {self.name}"):
                if state and state.mode == "node" and not state.dead():
                    self._delete_pods(state)
                self._remove()

    def _delete_pods(self, state: State) -> None:
        """Let pods end in order, without controllers that would make new ones."""
        launcher = Launcher(self.folder, state)
        for name in ("kube-controller-manager", "kube-scheduler"):
            launcher.stop(name)
        api = self._api(state)
        pods = (api.get("/api/v1/pods") or {}).get("items", [])
        for namespace in {pod["metadata"]["namespace"] for pod in pods}:
            api.delete(f"/api/v1/namespaces/{namespace}/pods?gracePeriodSeconds={POD_GRACE_SECONDS}")
        groups = [self._cgroup, *(member.cgroup for member in self._members() if member.runs())]
        wait_until(lambda: not any(group.pids("kubepods") for group in groups), PODS_GONE_SECONDS)

    def _remove(self) -> None:
        """Stop everything that is left and delete the folder. Needs no state file, only uses one."""
        if (state := self._state()) is not None:
            if state.mode == "node":
                for member in self._members():
                    member.stop()
            launcher = Launcher(self.folder, state)
            for name in ("coredns", *agents.STOP_ORDER, *STOP_ORDER, *state.processes):
                launcher.stop(name, grace=3)
        if os.geteuid() == 0:
            cgroup = self._cgroup
            cgroup.kill()
            cgroup.remove()
            mounts.unmount_below(self.folder)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    # ---- use

    def status(self) -> Status:
        """Each process, the node and the API server."""
        state = self._state()
        if state is None:
            return Status(self.name, "local", False, self.kubeconfig)
        dead = set(state.dead())
        parts = {
            name: "stopped" if name in dead else f"running, pid {record.pid}"
            for name, record in state.processes.items()
        }
        parts["binaries"] = state.binaries
        answers = self._api(state).status("/readyz") == 200
        parts["api"] = f"https://127.0.0.1:{state.port} " + ("ready" if answers else "does not answer")
        if state.mode == "node":
            parts |= self._node_parts(state, answers)
        return Status(self.name, f"local {state.mode}", state.complete and not dead and answers, self.kubeconfig, parts)

    def _node_parts(self, state: State, answers: bool) -> dict[str, str]:
        """What there is to say of each node: whether it runs, and whether the API server thinks so."""
        joined = [member for member in self._members() if member.folder.exists()]
        parts = {}
        for which, runs in [(FIRST, True), *((member.node, member.runs()) for member in joined)]:
            if not runs:
                parts[which.name] = "stopped; `nova cluster up` starts it again"
            elif answers:
                parts[which.name] = "Ready" if node_ready(self._api(state), which) else "NotReady"
        return parts

    @property
    def nodes(self) -> list[str]:
        """The first, and those that were joined to it, whether they run or not."""
        return [FIRST.name, *(member.node.name for member in self._members() if member.folder.exists())]

    def load(self, archives: Sequence[Path]) -> None:
        """Import the images into each node's containerd, each archive once."""
        state, namespaces = self._running()
        self._load(archives, namespaces, state, self._state_file, "")
        for member in self._members():
            if member.runs() and (their := member.state) and (inside := member.namespaces):
                self._load(archives, inside, their, member.folder / "state.json", f" into {member.node.name}")

    def _load(self, archives: Sequence[Path], namespaces: Namespaces, state: State, file: Path, where: str) -> None:
        wanted = {_identity(archive): archive for archive in archives}
        fresh = {key: archive for key, archive in wanted.items() if key not in state.loaded}

        def load(archive: Path) -> None:
            with self._console.step(f"load {archive.name}{where}"):
                import_image(namespaces, archive.absolute())

        # images share their base: side by side each would unpack it, after the first, the smallest, none has to
        ordered = sorted(fresh.values(), key=lambda archive: archive.stat().st_size)
        for archive in ordered[:1]:
            load(archive)
        with ThreadPoolExecutor() as pool:
            list(pool.map(load, ordered[1:]))
        state.loaded.extend(fresh)
        states.save(file, state)

    def lose(self, name: str) -> None:
        """Kill all that a further node consists of. The first cannot be lost: the control plane runs there."""
        self._member(name).lose()

    def inside(self, command: Sequence[str], *, node: str = "") -> list[str]:
        """Runs this machine's programs in the node's network, with the cluster's DNS and a kubeconfig for there."""
        _, namespaces = self._running()
        if node not in ("", FIRST.name):
            member = self._member(node)
            if (elsewhere := member.namespaces) is None:
                raise CommandError(f"{node} does not run; `nova cluster up --name {self.name}` starts it again")
            namespaces = elsewhere
        resolver = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        private = ["unshare", "--mount", "--", "sh", "-c", resolver, str(self.folder / "resolv.conf")]
        return [*namespaces.network, "env", f"KUBECONFIG={self.folder / 'node.kubeconfig'}", *private, *command]

    def _running(self) -> tuple[State, Namespaces]:
        require_root()
        state = self._state()
        if state is None or state.mode != "node" or "holder" in state.dead():
            raise CommandError(
                f"cluster {self.name} is not running; start it with `nova cluster up --name {self.name}`"
            )
        return state, Namespaces(state.processes["holder"].pid)

    def _places(self) -> Iterator[tuple[Node, Path, Cgroup, State, Namespaces]]:
        """The nodes that run, each with its folder and what lives there."""
        state, namespaces = self._running()
        yield FIRST, self.folder, self._cgroup, state, namespaces
        for member in self._members():
            if member.runs() and (their := member.state) and (inside := member.namespaces):
                yield member.node, member.folder, member.cgroup, their, inside

    def _member(self, name: str) -> Member:
        found = [member for member in self._members() if member.node.name == name and member.folder.exists()]
        if not found:
            raise CommandError(f"{self.name} has no further node {name}; it has {', '.join(self.nodes)}")
        return found[0]

    def _members(self) -> Iterator[Member]:
        """All further nodes that there may be."""
        cgroup = self._cgroup
        return (Member(Node(number), self.folder, cgroup) for number in range(2, MOST_NODES + 1))

    # ---- places

    @property
    def _lock(self) -> Path:
        return self.folder.parent / f".{self.name}.lock"

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def _cgroup(self) -> Cgroup:
        """Named after the folder as well: the same name in another cache is another cluster."""
        return Cgroup(f"nova-{self.name}-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}")

    def _state(self) -> State | None:
        return states.load(self._state_file)

    def _api(self, state: State) -> ApiServer:
        return ApiServer(state.port, self.folder / "pki")


def _identity(archive: Path) -> str:
    """Tells one content of an archive from another without reading it."""
    file = archive.stat()
    return f"{archive.absolute()} {file.st_size} {file.st_mtime_ns}"


def _archive(identity: str) -> Path:
    """Where the archive of an identity was."""
    return Path(identity.rsplit(" ", 2)[0])
