"""The sidecar as a process: how it starts, what it weighs, how it is told to leave."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from nova_api.proxy import DrainPolicy, encode
from nova_api.units import Duration

from .conftest import StartApp, StartSidecar
from .support.message import request, response
from .support.nursery import environment
from .support.peer import Listener
from .support.sidecar import COMMAND, Sidecar, document, inbound, outbound
from .support.waiting import eventually

APP = ("127.0.0.1", 9)
MIB = 1 << 20
RSS_BUDGET = (37 if "NOVA_TEST_SIDECAR_PATH" in os.environ else 34) * MIB
"""Paid once per pod: the interpreter 8, asyncio 7 (ssl is 4 of it), the data path 4 (compiled 7), msgspec 2, re and
argparse 2, the model of the document 2, uvloop 1, c-ares 1, structlog 1, …"""

AS_IN_THE_IMAGE = """
import sys
sys.modules["rich"] = None  # a tool for developers, which structlog imports where it finds it
from nova_sidecar.main import main
sys.exit(main(sys.argv[1:]))
"""


def command(*arguments: str | Path, timeout: float = 15) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def test_an_idle_sidecar_keeps_its_memory_budget(tmp_path: Path) -> None:
    """Counted after a scrape, which loads the last of what it needs."""
    config = document(inbound(APP), outbound(APP))
    (tmp_path / "config.json").write_bytes(encode(config))
    process = subprocess.Popen(
        [sys.executable, "-c", AS_IN_THE_IMAGE, "--config", tmp_path / "config.json"],
        stdout=subprocess.DEVNULL,
        env=environment(),
    )
    sidecar = Sidecar.__new__(Sidecar)
    sidecar.config, sidecar.process = config, process
    try:
        eventually(lambda: _answers(sidecar), within=15)
        assert sidecar.metric("nova_build_info") == 1
        assert sidecar.rss <= RSS_BUDGET, f"{sidecar.rss / MIB:.1f} MiB"
    finally:
        process.terminate()
        assert process.wait(10) == 0


def _answers(sidecar: Sidecar) -> bool:
    try:
        return sidecar.status("/readyz")[0] == 200
    except OSError:
        return False


def test_version_and_help() -> None:
    assert re.fullmatch(rf"nova-sidecar {re.escape(version('nova'))} (compiled|pure)\n", command("--version").stdout)
    text = command("--help").stdout
    assert "examples:" in text
    assert "exit codes:" in text
    assert "--timeout" in command("drain", "--help").stdout


def test_wrong_usage() -> None:
    ended = command("--konfig", "x")
    assert ended.returncode == 2
    assert "usage:" in ended.stderr


def test_check_says_whether_a_document_is_good(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(encode(document(inbound(APP))))
    good = command("--config", path, "--check")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith(f"{path}: good, service shop, hash ")

    path.write_bytes(b"{}")
    bad = command("--config", path, "--check")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == f"{path}: $: object missing required field service\n"


def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    """Process 1 of a container has no default action: unhandled, TERM would be ignored."""
    path = tmp_path / "config.json"
    path.write_bytes(encode(document(inbound(APP))))
    for delay in (0.03, 0.08, 0.15, 0.25, 0.4):
        process = subprocess.Popen([COMMAND, "--config", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        line = Path(f"/proc/{process.pid}/cmdline")
        eventually(lambda: b"nova-sidecar" in line.read_bytes())  # noqa: B023 - called before the loop goes on
        time.sleep(delay)  # a different moment of the start each time
        process.terminate()
        _, said = process.communicate(timeout=10)
        assert process.returncode in (0, -signal.SIGTERM), said  # the latter before Python ran a line of ours
        assert said == b""


def test_a_second_interrupt_ends_at_once(start: StartSidecar, listener: Listener, tmp_path: Path) -> None:
    sidecar = Sidecar.start(document(inbound(listener.address), drain=DrainPolicy(delay=Duration(30))), tmp_path)
    sidecar.process.send_signal(signal.SIGINT)
    eventually(lambda: sidecar.status("/readyz")[0] == 503)
    sidecar.process.send_signal(signal.SIGINT)
    assert sidecar.wait(2) == 130
    sidecar.kill()


def test_the_hook_drains_and_says_how_it_goes(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address), drain=DrainPolicy(delay=Duration(0.2), timeout=Duration(20))))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        hook = subprocess.Popen(_hook(sidecar), stdout=subprocess.PIPE, text=True)
        assert hook.stdout is not None
        assert hook.stdout.readline().startswith("leaving: 1 in flight, at most ")

        app.send(response(body=b"last"))

        assert client.response().body == b"last"
        rest = hook.stdout.read()
        assert hook.wait(5) == 0
        assert rest.splitlines()[-1] == "drained: 0 in flight, at most 0.0 s left"
        hook.stdout.close()
    began = time.monotonic()
    sidecar.terminate()
    assert sidecar.wait() == 0
    assert time.monotonic() - began < 1, "the hook has drained it, TERM has nothing to wait for"


def _hook(sidecar: Sidecar, *arguments: str) -> list[str | Path]:
    control = sidecar.config.admin.control
    return [COMMAND, "drain", "--address", f"{control.host}:{control.port}", *arguments]


def test_the_hook_reports_what_was_cut(start: StartSidecar, listener: Listener) -> None:
    sidecar = start(document(inbound(listener.address), drain=DrainPolicy(delay=Duration(0), timeout=Duration(0.3))))
    with sidecar.connect() as client:
        client.send(request())
        app = listener.accept()
        app.request()
        ended = command(*_hook(sidecar)[1:])
    assert ended.returncode == 1
    assert "drained: 1 in flight" in ended.stdout


def test_the_hook_keeps_its_own_deadline(start: StartSidecar) -> None:
    sidecar = start(document(inbound(APP), drain=DrainPolicy(delay=Duration(3), timeout=Duration(5))))
    ended = command(*_hook(sidecar, "--timeout", "0.3")[1:])
    assert ended.returncode == 1
    assert "not drained within 0.3 s" in ended.stderr


def test_the_hook_without_a_sidecar() -> None:
    ended = command("drain", "--address", "127.0.0.1:9")
    assert ended.returncode == 1
    assert ended.stderr.startswith("nova-sidecar drain: 127.0.0.1:9: ")


def test_the_hook_with_somebody_else_there(app: StartApp) -> None:
    host, port = app().address
    ended = command("drain", "--address", f"{host}:{port}")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("address", ["15021", "localhost", "localhost:x"])
def test_the_hook_with_a_wrong_address(address: str) -> None:
    ended = command("drain", "--address", address)
    assert ended.returncode == 2
    assert "expected HOST:PORT" in ended.stderr


def test_the_hook_loads_no_proxy() -> None:
    """It runs on a node that is busy with ending pods."""
    program = (
        "import sys; from nova_sidecar.main import main; main(['drain', '--address', '127.0.0.1:9']); "
        "print(*sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=True)
    modules = set(loaded.stdout.split())
    assert not modules & {"asyncio", "aiohttp", "msgspec", "uvloop", "structlog", "prometheus_client", "nova_api"}


def test_what_no_port_speaks_is_not_imported() -> None:
    """Memory is paid per pod: see pipeline.protocols. Spans are an extra, and so large that they are loaded when on."""
    program = "import sys, nova_sidecar.runtime, nova_sidecar.pipeline.proxy; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=True)
    modules = loaded.stdout.split()
    assert "nova_sidecar.pipeline.exchange" in modules
    assert [name for name in modules if re.search(r"http2|\brelay\b|opentelemetry|aiohttp|prometheus", name)] == []


def test_the_collector_of_garbage_leaves_requests_alone(start: StartSidecar) -> None:
    """The start is frozen out of its sight: see runtime.settle_memory."""
    program = (
        "import gc; from nova_sidecar.runtime import settle_memory; settle_memory(); "
        "print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=True)
    assert ended.stdout.split() == ["True", "70000"]


def test_a_log_reader_that_stalls_stops_no_request(tmp_path: Path, app: StartApp) -> None:
    config = document(inbound(app().address))
    (tmp_path / "config.json").write_bytes(encode(config))
    reader, writer = os.pipe()
    process = subprocess.Popen([COMMAND, "--config", tmp_path / "config.json"], stdout=writer)
    os.close(writer)
    sidecar = Sidecar.__new__(Sidecar)
    sidecar.config, sidecar.process, sidecar._clients = config, process, []
    try:
        eventually(lambda: _answers(sidecar), within=15)
        with sidecar.connect() as client:
            for _ in range(6):
                client.send(request("GET", "/" + "a" * 2000) * 60)
                for _ in range(60):
                    assert client.response().status == 200
        assert sidecar.metric("nova_requests_total", code="2xx") == 360
    finally:
        process.terminate()
        with os.fdopen(reader, "rb") as log:
            lines = log.read().splitlines()
        assert process.wait(10) == 0
    paths = [json.loads(line).get("path") for line in lines]
    assert len([path for path in paths if path]) == 360
