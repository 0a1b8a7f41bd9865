"""Starts the processes of one cluster, and remembers each of them in the state file before doing anything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nova_cli.cluster import state as states
from nova_cli.cluster.process import ProcessRecord, spawn
from nova_cli.cluster.state import State

TAIL_LINES = 15


class Launcher:
    """One log file per process in FOLDER/log, one record per process in FOLDER/state.json."""

    def __init__(self, folder: Path, state: State, *, inside: Sequence[str] = ()) -> None:
        """`inside` is put before every command: what it takes to run in the node's namespaces, or nothing."""
        self.folder = folder
        self.state = state
        self._inside = list(inside)
        (folder / "log").mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], *, inherit: int | None = None) -> ProcessRecord:
        """Start `command` under `name`."""
        record = spawn([*self._inside, *command], self.folder / "log" / f"{name}.log", inherit=inherit)
        self.state.processes[name] = record
        self.save()
        return record

    def stop(self, name: str, grace: float = 5.0) -> None:
        """Stop one process, if it runs, and forget it."""
        record = self.state.processes.get(name)
        if record is not None:
            record.stop(grace)
            del self.state.processes[name]
            self.save()

    def save(self) -> None:
        """Write the state file."""
        states.save(self.folder / "state.json", self.state)

    def epitaph(self) -> str:
        """What the processes that ended by themselves said last; empty when all run."""
        return "".join(f"\n{name} ended, its last words:\n{self._tail(name)}" for name in self.state.dead())

    def _tail(self, name: str) -> str:
        log = self.folder / "log" / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(f"  {line[:300]}" for line in lines[-TAIL_LINES:])
