"""A process that has imported the sidecar and makes a new one, by a fork, whenever a test wants one.

A sidecar that starts spends most of its time on imports, which are the same each time; a run starts thousands. What a
fork gives is a process of its own like any other: its memory, its descriptors, its signals. What is imported only where
a document asks for it (Redis, signatures, spans) is not there before either. Two things differ: resident memory counts
pages shared with the parent, and interpreter flags are the parent's. Tests that look at those start the command.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NoReturn

_IMPORTED: Final = ("nova_sidecar.runtime", "nova_sidecar.main", "tests.loopback.support.resolving")
_MODULE: Final = "tests.loopback.support.nursery"
_ROOT: Final = Path(__file__).resolve().parents[3]
_PYTHONPATH: Final = os.environ.get("PYTHONPATH")
_LONGEST: Final = 1 << 18
_MISSING: Final = -255
"""Exit code where the nursery itself is gone."""


class Nursery:
    """One for each process of a test run; `born` is what is used of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=_ROOT,
            )
        atexit.register(self.close)

    def born(self, arguments: Sequence[str | os.PathLike[str]], log: IO[bytes], cwd: Path) -> "Child":
        """A sidecar with this command line, name server first where it has one of its own; it writes into `log`."""
        words = [os.fspath(each) for each in arguments]
        wanted = {"arguments": words, "cwd": os.fspath(cwd), "environment": dict(os.environ)}
        pid = self._ask(wanted, log.fileno())
        if pid == _MISSING:
            raise RuntimeError("the process that makes sidecars is gone")
        return Child(self, pid)

    def exit_code(self, pid: int) -> int:
        """Of a child that has ended, as `Popen.returncode`; asked once for each."""
        return self._ask({"reap": pid})

    def close(self) -> None:
        """End it. Children go on."""
        self._end.close()
        self._process.wait(10)

    def _ask(self, question: dict[str, Any], *descriptors: int) -> int:
        with self._lock:
            try:
                socket.send_fds(self._end, [json.dumps(question).encode()], descriptors)
                return int(self._end.recv(_LONGEST) or _MISSING)
            except OSError:
                return _MISSING


class Child:
    """What tests use of `subprocess.Popen`, for a process that is a child of the nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._lock = threading.Lock()
        self._end = os.pidfd_open(pid)

    def __repr__(self) -> str:
        return f"<Child pid {self.pid} exit {self.returncode}>"

    def poll(self) -> int | None:
        """Exit code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Exit code; raises subprocess.TimeoutExpired after so many seconds."""
        with self._lock:
            if self.returncode is None:
                ends = None if timeout is None else timeout * 1000
                poll = select.poll()
                poll.register(self._end, select.POLLIN)
                if not poll.poll(ends):
                    raise subprocess.TimeoutExpired(str(self), timeout or 0)
                self.returncode = self._nursery.exit_code(self.pid)
                os.close(self._end)
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._end, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def forks() -> bool:
    """Whether a sidecar may be a fork: not the compiled one, nor one whose interpreter is told otherwise."""
    return "NOVA_TEST_SIDECAR_PATH" not in os.environ and os.environ.get("PYTHONPATH") == _PYTHONPATH


@cache
def nursery() -> Nursery:
    """The one of this process, started when it is first asked for."""
    return Nursery()


def _serve(end: socket.socket) -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while True:
        text, descriptors, _, _ = socket.recv_fds(end, _LONGEST, 1)
        if not text:
            return
        question = json.loads(text)
        if "reap" in question:
            _, status = os.waitpid(question["reap"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                end.close()
                _live(question, descriptors[0])
            os.close(descriptors[0])
        end.send(str(answer).encode())


def _live(wanted: dict[str, Any], log: int) -> NoReturn:
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir(wanted["cwd"])
    for name in os.environ.keys() - wanted["environment"]:
        del os.environ[name]
    os.environ.update(wanted["environment"])
    warnings.simplefilter("default")
    sys.exit(_run(wanted["arguments"]))


def _run(arguments: list[str]) -> int:
    from nova_sidecar.main import main  # noqa: PLC0415 - only the nursery has it
    from tests.loopback.support.resolving import ask_on  # noqa: PLC0415 - as above

    sys.argv = ["nova-sidecar", *arguments]
    if not arguments[0].startswith("-"):
        ask_on(int(sys.argv.pop(1)))
    return main()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
