"""Start processes that outlive the command which started them, and stop exactly those, even much later.

A pid alone is no identity: the kernel gives it to somebody else once its owner is gone. A `ProcessRecord` therefore
keeps the start time and the boot as well, and every signal is sent through it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

from nova_cli.errors import CommandError

POLL_SECONDS = 0.02
TAIL_LINES = 12


@dataclass(frozen=True)
class ProcessRecord:
    """One process, told apart from any other that ever had or will have its pid."""

    pid: int
    started: int
    """Clock ticks after boot, field 22 of /proc/PID/stat (proc(5))."""
    boot: str
    """/proc/sys/kernel/random/boot_id of the boot it ran in."""

    @classmethod
    def of(cls, pid: int) -> ProcessRecord:
        """The process that has `pid` now. Raises ProcessLookupError when there is none."""
        stat = read_stat(pid)
        if stat is None:
            raise ProcessLookupError(pid)
        return cls(pid, stat.started, boot_id())

    def alive(self) -> bool:
        """Whether this very process still runs. A zombie has ended."""
        if self.boot != boot_id():
            return False
        _reap(self.pid)
        stat = read_stat(self.pid)
        return stat is not None and stat.started == self.started and stat.state not in "ZX"

    def signal(self, number: int) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, grace: float, asked: Signals = SIGTERM) -> bool:
        """End it: the signal `asked`, up to `grace` seconds, then SIGKILL. Returns whether it went without that."""
        self.signal(asked)
        if wait_until(lambda: not self.alive(), grace):
            return True
        self.signal(SIGKILL)
        wait_until(lambda: not self.alive(), 5)
        return False


@dataclass(frozen=True)
class Stat:
    """The part of /proc/PID/stat that tells processes apart."""

    state: str
    started: int


def parse_stat(text: str) -> Stat:
    """Parse /proc/PID/stat. The name, field 2, may itself hold blanks and parentheses, so the last one counts."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(state=fields[0], started=int(fields[19]))


def read_stat(pid: int) -> Stat | None:
    """The stat of a process, or None when there is no such process."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


@cache
def boot_id() -> str:
    """Names the current boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def spawn(command: Sequence[str], log: Path, *, inherit: int | None = None) -> ProcessRecord:
    """Start `command` in a session of its own, output to `log`, and let go of it.

    `inherit` is a file descriptor that the process gets as number 3 (the convention of systemd's socket activation).
    posix_spawn and not subprocess.Popen: nobody will wait for this process here, and Popen objects complain about that.
    """
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    if inherit is not None:
        actions.append((os.POSIX_SPAWN_DUP2, inherit, 3))
    try:
        pid = os.posix_spawnp(command[0], list(command), os.environ, file_actions=actions, setsid=True)
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]} is not installed") from error
    return ProcessRecord.of(pid)


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, output captured; with `check`, a failure is a CommandError with its last lines."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and every word is ours or a path of this machine
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=None if env is None else {**os.environ, **env},
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"`{' '.join(words[:4])} …` took longer than {timeout:.0f} s") from error
    if check and done.returncode != 0:
        raise CommandError(failure(words, done.returncode, done.stderr or done.stdout))
    return done


def failure(words: Sequence[str], code: int, output: str) -> str:
    """The message for a command that failed: its name, its exit code and the end of what it said."""
    tail = "\n".join(f"  {line}" for line in output.strip().splitlines()[-TAIL_LINES:])
    return f"`{' '.join(words[:4])}{' …' if len(words) > 4 else ''}` failed with exit code {code}:\n{tail}"


def wait_until(condition: Callable[[], bool], timeout: float, *, every: float = POLL_SECONDS) -> bool:
    """Poll `condition` until it is true or `timeout` seconds are over. Returns its last answer."""
    deadline = time.monotonic() + timeout
    while not (holds := condition()):
        if time.monotonic() >= deadline:
            break
        time.sleep(every)
    return holds


def _reap(pid: int) -> None:
    """Collect a dead child of this process, so that it does not stay a zombie while we live."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
