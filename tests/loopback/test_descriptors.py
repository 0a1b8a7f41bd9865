"""Descriptors: none are lost, none are mistaken for another, and the sidecar outlives a time without any."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
from functools import partial
from pathlib import Path

from nova_api.proxy import encode

from .conftest import StartApp, StartSidecar
from .support.message import request
from .support.sidecar import COMMAND, Sidecar, document, inbound
from .support.waiting import eventually

NOVA = COMMAND.with_name("nova")
EXAMPLE = Path(__file__).parents[2] / "examples" / "minimal.yaml"


def open_descriptors(sidecar: Sidecar) -> int:
    return len(os.listdir(f"/proc/{sidecar.process.pid}/fd"))


def test_started_without_standard_output_it_serves_and_logs_nowhere(tmp_path: Path, app: StartApp) -> None:
    """As `nova-sidecar >&-` in a shell: the first socket would be descriptor 1, and get the log lines."""
    config = document(inbound(app().address))
    (tmp_path / "config.json").write_bytes(encode(config))
    process = subprocess.Popen(["sh", "-c", 'exec "$0" --config config.json <&- >&- 2>&-', COMMAND], cwd=tmp_path)
    try:
        address = (config.inbound[0].listen.host, config.inbound[0].listen.port)
        answer = eventually(lambda: _first_answer(address), within=15)
        assert answer.startswith(b"HTTP/1.1 200 ")
        standard = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        assert standard == [os.devnull] * 3
    finally:
        process.terminate()
        assert process.wait(10) == 0


def _refusals_reach(sidecar: Sidecar, count: int) -> bool:
    return sidecar.metric("nova_config_reloads_total", result="refused") >= count


def _first_answer(address: tuple[str, int]) -> bytes:
    with contextlib.suppress(ConnectionError), socket.create_connection(address, timeout=5) as client:
        client.sendall(request())
        return client.recv(4096)
    return b""


def test_nova_without_standard_streams_ends_as_usual() -> None:
    command = 'exec "$0" render -f "$1" <&- >&-'
    ended = subprocess.run(["sh", "-c", command, NOVA, EXAMPLE], stderr=subprocess.PIPE, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_nova_whose_output_has_no_room_says_so() -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [NOVA, "render", "-f", EXAMPLE], stdout=full, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == b"nova: the output cannot be written: No space left on device\n"


def test_a_directory_in_place_of_the_document_costs_no_descriptors(tmp_path: Path, app: StartApp) -> None:
    sidecar = Sidecar.start(document(inbound(app().address)), tmp_path)
    try:
        before = open_descriptors(sidecar)
        (tmp_path / "config.json").unlink()
        (tmp_path / "config.json").mkdir()
        for refused in range(1, 21):
            (tmp_path / "config.json" / str(refused)).touch()
            sidecar.process.send_signal(signal.SIGHUP)
            eventually(partial(_refusals_reach, sidecar, refused))
        assert open_descriptors(sidecar) <= before + 1  # the question about the metrics
    finally:
        assert sidecar.stop() == 0


def test_out_of_descriptors_it_waits_without_turning_and_comes_back(start: StartSidecar, app: StartApp) -> None:
    sidecar = start(document(inbound(app().address)))
    spare = 8
    highest = max(map(int, os.listdir(f"/proc/{sidecar.process.pid}/fd")))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (highest + 1 + spare, hard))
    clients = [socket.create_connection(sidecar.address()) for _ in range(60)]
    try:
        eventually(lambda: open_descriptors(sidecar) >= highest + spare - 2)
        began = sidecar.cpu_seconds
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(request())
        with contextlib.suppress(OSError):
            clients[-1].settimeout(1.0)
            clients[-1].recv(1)
        assert sidecar.cpu_seconds - began < 0.5
    finally:
        for client in clients:
            client.close()
    eventually(lambda: _first_answer(sidecar.address()).startswith(b"HTTP/1.1 200 "))
