"""A wrong document stops a start with the field, the rule and exit code 2, and with nothing else."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from nova_api.proxy import encode

from .support.sidecar import COMMAND, document, inbound, outbound, run_once

APP = ("127.0.0.1", 9)


def good() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(encode(document(inbound(APP), outbound(APP))))
    return config


def changed(path: str, value: Any) -> bytes:
    """The good document with one field replaced; a value of None takes the field out."""
    config: Any = good()
    *above, last = path.split(".")
    place = config
    for step in above:
        place = place[int(step) if step.isdigit() else step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(config).encode()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("service", None, "$: object missing required field service"),
        ("service", 5, "$.service: expected str, got int"),
        ("format", "nova.dev/proxy/v9", "$.format: "),
        ("surprise", 1, "$: object contains unknown field surprise"),
        ("inbound.0.listen.port", 70000, "$.inbound[0].listen.port: expected int <= 65535"),
        ("inbound.0.listen.port", -1, "$.inbound[0].listen.port: expected int >= 0"),
        ("inbound.0.protocol", "smtp", "$.inbound[0].protocol: "),
        ("inbound.0.timeout.request", "0s", "$.inbound[0].timeout: request, attempt, connect and streamIdle must be"),
        ("inbound.0.timeout.request", "soon", "$.inbound[0].timeout.request: expected a duration"),
        ("inbound.0.timeout.request", 5, "$.inbound[0].timeout.request: expected a duration"),
        ("outbound.0.circuitBreaker.successThreshold", 0, "$.outbound[0].circuitBreaker.successThreshold: expected"),
        ("outbound.0.circuitBreaker.openDuration", "1h", "openDuration must not be longer than maxOpenDuration"),
        ("outbound.0.retry.budget", "120%", "$.outbound[0].retry.budget: expected a share"),
        ("outbound.0.retry.when", ["always"], "$.outbound[0].retry.when[0]: "),
        ("outbound.0.pool.size", 0, "$.outbound[0].pool.size: expected int >= 1"),
        ("backpressure.threshold", 0, "$.backpressure.threshold: expected float > 0"),
        ("backpressure.threshold", 1.5, "$.backpressure.threshold: expected float <= 1"),
        ("correlation.header", "X Bad", "$.correlation.header: "),
    ],
    ids=lambda value: value if isinstance(value, str) and value[:1] != "$" else "",
)
def test_a_wrong_field(tmp_path: Path, path: str, value: Any, message: str) -> None:
    ended = run_once(changed(path, value), tmp_path)

    said = ended.stderr + ended.stdout
    assert message in said
    assert ended.returncode == 2
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}" * 2, b"[" * 100_000, b'{"service": "a", "service": 5}'],
    ids=["empty", "unfinished", "array", "null", "string", "not utf-8", "two", "deep", "twice"],
)
def test_not_a_document(tmp_path: Path, text: bytes) -> None:
    ended = run_once(text, tmp_path)

    said = ended.stderr + ended.stdout
    assert "$" in said
    assert "expected" in said or "missing" in said
    assert ended.returncode == 2
    assert "Traceback" not in said


def test_the_same_name_twice(tmp_path: Path) -> None:
    config = good()
    config["inbound"] *= 2

    ended = run_once(json.dumps(config).encode(), tmp_path)

    assert "$: inbound: names must be unique" in ended.stderr + ended.stdout
    assert ended.returncode == 2


def test_no_file(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415 - only here

    missing = tmp_path / "missing.json"
    ended = subprocess.run([COMMAND, "--config", missing], capture_output=True, text=True, timeout=15, check=False)

    assert str(missing) in ended.stderr + ended.stdout
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("where", ["inbound.0.listen.port", "outbound.0.listen.port"])
def test_a_port_that_is_taken(tmp_path: Path, where: str) -> None:
    """Names the field and the port: who reads this has a manifest in front of them, not a stack."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        ended = run_once(changed(where, port), tmp_path)

    said = ended.stderr + ended.stdout
    assert f"${'.inbound' if 'inbound' in where else '.outbound'}[0].listen" in said
    assert str(port) in said
    assert ended.returncode == 1  # the document is good; this machine is not
    assert "Traceback" not in said
