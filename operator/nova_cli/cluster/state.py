"""What is known about a cluster between two commands: which processes were started, and how to reach the API server."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from nova_cli.cluster.cache import write_atomically
from nova_cli.cluster.process import ProcessRecord

Mode = Literal["node", "control-plane"]


class State(msgspec.Struct, kw_only=True, forbid_unknown_fields=False):
    """Written after every start of a process, before anything else may fail."""

    mode: Mode
    port: int = 0
    """Where the API server listens on 127.0.0.1 of this machine."""
    binaries: str = ""
    """The folder the running binaries came from, which `nova cluster status` shows."""
    complete: bool = False
    """Whether the start came to its end; a cluster that stopped halfway is as good as none."""
    processes: dict[str, ProcessRecord] = {}
    """By name, in the order of their start."""
    loaded: list[str] = []
    """The image archives that containerd has, by path, size and time."""

    def dead(self) -> list[str]:
        """The processes that should run and do not."""
        return [name for name, record in self.processes.items() if not record.alive()]


def load(file: Path) -> State | None:
    """The state in `file`; None when there is none, or when another version wrote something else there."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=State)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def save(file: Path, state: State) -> None:
    """Write it so that a crash leaves the old state or the new one."""
    write_atomically(file, msgspec.json.format(msgspec.json.encode(state), indent=2).decode() + "\n")
