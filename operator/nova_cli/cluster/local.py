"""The cluster where there is no Docker: one node, as processes of this machine in namespaces and a cgroup of their own.

Starting: namespaces, then containerd and the control plane side by side, then the node's agents, then DNS.
Stopping is the reverse, and trusts nothing but the kernel: whatever the state file says, the cgroup lists every process
of the cluster, and the namespaces take mounts, devices and packet filters with them. So a start first stops what it
finds broken, and comes to the same place after a crash as after a clean stop.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nova_cli.cluster import mounts, node, packages, toolchain
from nova_cli.cluster import state as states
from nova_cli.cluster.api import ApiServer
from nova_cli.cluster.boot import AGENTS, Boot, import_image, node_ready
from nova_cli.cluster.cache import cache_root, locked
from nova_cli.cluster.cgroups import Cgroup
from nova_cli.cluster.controlplane import STOP_ORDER, ControlPlane
from nova_cli.cluster.launcher import Launcher
from nova_cli.cluster.namespaces import Namespaces
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

    def prepare(self) -> None:
        """Compile the binaries; with root, install packages meanwhile."""
        self._binaries()

    def _binaries(self) -> Binaries:
        with ThreadPoolExecutor() as pool:
            root = os.geteuid() == 0
            installing = pool.submit(packages.require, packages.NODE, self._console) if root else None
            binaries = toolchain.binaries(self._console)
            if installing:
                installing.result()
        return binaries

    def up(self) -> Path:
        """Start the cluster, or find that it runs. Raises MissingRequirementError before touching anything."""
        require_root()
        with locked(self._lock):
            if self._runs("node"):
                self._console.line(f"cluster {self.name} is already running")
            else:
                self._start()
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
        wait_until(lambda: not self._cgroup.pids("kubepods"), PODS_GONE_SECONDS)

    def _remove(self) -> None:
        """Stop everything that is left and delete the folder. Needs no state file, only uses one."""
        if (state := self._state()) is not None:
            launcher = Launcher(self.folder, state)
            for name in (*AGENTS, "containerd", *STOP_ORDER, *state.processes):
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
        if state.mode == "node" and answers:
            parts[node.NODE_NAME] = "Ready" if node_ready(self._api(state)) else "NotReady"
        return Status(self.name, f"local {state.mode}", state.complete and not dead and answers, self.kubeconfig, parts)

    def load(self, archives: Sequence[Path]) -> None:
        """Import the images into the node's containerd, each archive once."""
        state, namespaces = self._running()
        wanted = {_identity(archive): archive for archive in archives}
        fresh = {key: archive for key, archive in wanted.items() if key not in state.loaded}

        def load(archive: Path) -> None:
            with self._console.step(f"load {archive.name}"):
                import_image(namespaces, archive.absolute())

        # images share their base: side by side each would unpack it, after the first, the smallest, none has to
        ordered = sorted(fresh.values(), key=lambda archive: archive.stat().st_size)
        for archive in ordered[:1]:
            load(archive)
        with ThreadPoolExecutor() as pool:
            list(pool.map(load, ordered[1:]))
        state.loaded.extend(fresh)
        states.save(self._state_file, state)

    def inside(self, command: Sequence[str]) -> list[str]:
        """Runs this machine's programs in the node's network, with the cluster's DNS and a kubeconfig for there."""
        _, namespaces = self._running()
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
