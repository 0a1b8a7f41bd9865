"""Processes that have imported a program and make a new one, by a fork, whenever a test wants one.

A program that starts spends most of its time on imports, which are the same each time; a run starts thousands. What a
fork gives is a process of its own like any other: its memory, its descriptors, its signals. What is imported only where
it is asked for (in the sidecar Redis, signatures, spans) is not there before either. Two things differ: resident memory
counts pages shared with the parent, and interpreter flags are the parent's. Tests that look at those start the command.

With `pytest --compiled` the sidecar is the compiled one, by an interpreter with the flags of the image.
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
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final, Literal, NamedTuple, NoReturn

Name = Literal["sidecar", "operator", "services", "data"]


class Program(NamedTuple):
    """The module with a `main` that reads the command line, and what is imported before it is asked for."""

    module: str
    ahead: tuple[str, ...] = ()


_PROGRAMS: Final[dict[Name, Program]] = {
    "sidecar": Program("nova_sidecar.main", ("nova_sidecar.runtime", "tests.loopback.support.resolving")),
    "operator": Program("nova_operator.main"),
    # what all of them share: each imports its own modules and no other's
    "services": Program(
        "nova_services.__main__",
        (
            "google.protobuf.timestamp_pb2",
            "joserfc.jwk",
            "nova_data.cache.read_through",
            "nova_data.pool.database",
            "nova_data.schema.soft_delete.erasure",
            "nova_services.backing",
            "nova_services.consuming",
            "nova_services.rpc",
            "nova_services.web",
            "strawberry",
        ),
    ),
    "data": Program("nova_data.main", ("asyncpg", "nova_data.commands.applying")),
}
_MODULE: Final = "tests.loopback.support.nursery"
_ROOT: Final = Path(__file__).resolve().parents[3]
_PYTHONPATH: Final = os.environ.get("PYTHONPATH")
_LONGEST: Final = 1 << 18
_MISSING: Final = -255
"""Exit code where the nursery itself is gone."""


def environment() -> dict[str, str]:
    """For the process of a sidecar: warnings are shown, and with `pytest --compiled` it is the compiled one,
    without docstrings and assertions, as in the image."""
    path = os.environ.get("NOVA_TEST_SIDECAR_PATH")
    variables = {"PYTHONWARNINGS": "default", "PYTHONUNBUFFERED": "1"}
    return os.environ | variables | ({"PYTHONPATH": path, "PYTHONOPTIMIZE": "2"} if path else {})


class Nursery:
    """One of a program for each process of a test run; `born` is what is used of it."""

    def __init__(self, name: Name) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, name, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=_ROOT,
                env=environment() if name == "sidecar" else None,
            )
        atexit.register(self.close)

    def born(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        output: int,
        *,
        errors: int | None = None,
        cwd: Path = _ROOT,
        variables: Mapping[str, str] = os.environ,
    ) -> "Child":
        """A process with this command line, for a sidecar with its name server before it where it has one of its own.
        It writes into the descriptor `output`, what goes to standard error into `errors` where that is another one."""
        words = [os.fspath(each) for each in arguments]
        wanted = {"arguments": words, "cwd": os.fspath(cwd), "environment": dict(variables)}
        pid = self._ask(wanted, output, output if errors is None else errors)
        if pid == _MISSING:
            raise RuntimeError(f"the process that makes processes of {self._name} is gone")
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
    """Whether a sidecar may be a fork: not one whose interpreter is told otherwise."""
    return os.environ.get("PYTHONPATH") == _PYTHONPATH


@cache
def nursery(name: Name) -> Nursery:
    """The one of this process, started when it is first asked for."""
    return Nursery(name)


def run(name: Name, *words: str, variables: Mapping[str, str], timeout: float) -> "subprocess.CompletedProcess[str]":
    """A process from beginning to end, as by `subprocess.run` with its output captured and nothing to read.

    Raises subprocess.TimeoutExpired after so many seconds.
    """
    with TemporaryFile() as output, TemporaryFile() as errors:
        child = nursery(name).born(words, output.fileno(), errors=errors.fileno(), variables=variables)
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise
        return subprocess.CompletedProcess(words, code, *(_text(file) for file in (output, errors)))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _serve(program: Program, end: socket.socket) -> None:
    for name in (*program.ahead, program.module):
        importlib.import_module(name)
    if "NOVA_TEST_SIDECAR_PATH" in os.environ and program is _PROGRAMS["sidecar"]:
        _require_compiled()
    gc.collect()
    gc.freeze()
    while True:
        text, descriptors, _, _ = socket.recv_fds(end, _LONGEST, 2)
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
                _live(program, question, *descriptors)
            for each in descriptors:
                os.close(each)
        end.send(str(answer).encode())


def _require_compiled() -> None:
    from nova_sidecar.build import build  # noqa: PLC0415 - only one nursery has it

    if build() != "compiled":
        raise RuntimeError("the sidecar that was imported is not the compiled one")


def _live(program: Program, wanted: dict[str, Any], output: int, errors: int) -> NoReturn:
    for each, number in ((output, 1), (errors, 2)):
        os.dup2(each, number)
        os.close(each)
    os.chdir(wanted["cwd"])
    for name in os.environ.keys() - wanted["environment"]:
        del os.environ[name]
    os.environ.update(wanted["environment"])
    sys.argv = [program.module, *wanted["arguments"]]
    if program is _PROGRAMS["sidecar"]:
        _prepare_sidecar()
    sys.exit(sys.modules[program.module].main())


def _prepare_sidecar() -> None:
    from tests.loopback.support.resolving import ask_on  # noqa: PLC0415 - only one nursery has it

    warnings.simplefilter("default")
    if not sys.argv[1].startswith("-"):
        ask_on(int(sys.argv.pop(1)))


if __name__ == "__main__":
    _serve(_PROGRAMS[sys.argv[1]], socket.socket(fileno=int(sys.argv[2])))  # type: ignore[index]  # one of its names
