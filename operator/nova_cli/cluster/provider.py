"""What a cluster is to everybody else, and which kind this machine gets."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nova_cli.cluster.process import run
from nova_cli.console import Console
from nova_cli.errors import CommandError

DEFAULT_NAME = "nova"
DOCKER_SECONDS = 10.0


@dataclass(frozen=True)
class Status:
    """What `nova cluster status` shows."""

    name: str
    kind: str
    running: bool
    kubeconfig: Path
    parts: dict[str, str] = field(default_factory=dict)
    """A word or two for each thing it consists of."""


class Provider(Protocol):
    """A cluster that can be started, stopped and asked. Every method may be called again, and from another process."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig for this machine; there while the cluster runs."""

    def prepare(self, *, network_policies: bool = False) -> None:
        """Get what a start needs onto this machine, as far as it can: minutes the first time, nothing later."""

    def up(self, nodes: int = 1, *, network_policies: bool = False) -> Path:
        """Start it, with at least so many nodes, unless it runs; put right what a crash left, be it of the cluster or
        of one node. With `network_policies` they are enforced from now on, also where it runs already; kind always
        does. Returns `kubeconfig`. Raises CommandError where a running cluster cannot get more nodes."""

    def down(self) -> None:
        """Stop it and remove everything it made outside of the cache."""

    def status(self) -> Status:
        """How it is, right now."""

    def load(self, archives: Sequence[Path]) -> None:
        """Make the images in these archives, as `nova images` writes them, available to pods."""

    def inside(self, command: Sequence[str], *, node: str = "") -> list[str]:
        """The command that runs `command` where Service and pod addresses can be reached: in the network of `node`, one
        of `nodes`, else of the first."""

    @property
    def nodes(self) -> list[str]:
        """The names of its nodes, the first of which has the control plane."""

    def lose(self, name: str) -> None:
        """Kill a node other than the first as if its power failed; `up` starts it again."""


@functools.cache
def docker_answers() -> bool:
    """Whether there is a Docker daemon to talk to."""
    if not shutil.which("docker"):
        return False
    try:
        return run(["docker", "info"], check=False, timeout=DOCKER_SECONDS).returncode == 0
    except CommandError:
        return False


def provider(console: Console, name: str = DEFAULT_NAME) -> Provider:
    """kind where Docker answers, else the local cluster."""
    if docker_answers():
        from nova_cli.cluster.kind import KindProvider  # noqa: PLC0415 - pytest-kind is slow to import, rarely needed

        return KindProvider(name, console)
    from nova_cli.cluster.local import LocalCluster  # noqa: PLC0415 - the same reason

    return LocalCluster(name, console)
