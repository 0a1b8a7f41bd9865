"""`nova services`: real servers that outlive the command, and go when they are told to."""

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

NAMES = ("postgres", "redis")
"""Kafka is started in the same way, and its start is what the fixture `kafka` does."""


def services(*words: str, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nova_cli.main", "services", *words, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def port_of(line: str) -> int:
    return int(line.partition("127.0.0.1:")[2].partition("/")[0])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(120)
def test_up_status_down() -> None:
    data = Path(tempfile.mkdtemp(prefix="nova-services-"))
    data.chmod(0o755)  # pytest's folders are closed to PostgreSQL's user
    try:
        first = services("up", *NAMES, data=data)
        assert first.returncode == 0, first.stderr
        database, store = first.stdout.splitlines()
        assert database.startswith("export DATABASE_URL=postgresql://nova@127.0.0.1:")
        assert store.startswith("export REDIS_URL=redis://127.0.0.1:")
        ports = port_of(database), port_of(store)
        assert [listens(port) for port in ports] == [True, True]
        again = services("up", *NAMES, data=data)
        assert again.stdout == first.stdout
        assert "start" not in again.stderr
        assert services("status", *NAMES, data=data).returncode == 0
        with psycopg.connect(database.partition("=")[2]):
            assert services("down", "postgres", data=data).stdout == "postgres: stopped\n"
        assert not (data / "postgres" / "data" / "postmaster.pid").exists()  # as it does where it had to be killed
        assert services("up", "postgres", data=data).stdout == f"{database}\n"
        down = services("down", *NAMES, "--delete", data=data)
        assert down.stdout == "redis: stopped\npostgres: stopped\n"
        assert [listens(port) for port in ports] == [False, False]
        assert not (data / "postgres").exists()
        assert services("status", *NAMES, data=data).returncode == 3
        assert services("down", *NAMES, data=data).stdout == "redis: did not run\npostgres: did not run\n"
    finally:
        services("down", "--delete", data=data)
        shutil.rmtree(data)


def test_a_folder_that_cannot_be_made_is_named() -> None:
    done = services("up", "redis", data=Path("/proc/nova"))
    assert done.returncode == 2
    assert done.stderr.startswith("nova: the folder /proc/nova cannot be written (")
    assert done.stderr.endswith("); name one that can with --data\n")


def test_what_is_no_service_is_refused(tmp_path: Path) -> None:
    done = services("up", "mysql", data=tmp_path)
    assert done.returncode == 2
    assert "mysql: expected postgres, redis, kafka" in done.stderr
