import ast
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import nova_sidecar
from nova_api.hygiene import visible
from nova_sidecar.telemetry.entry import AffinityEntry
from nova_sidecar.telemetry.logs import VOCABULARY, Logs, get_logger
from nova_sidecar.telemetry.sink import LineSink

LEVELS = ("debug", "info", "warning", "error", "critical")


class Written:
    """Installed logging whose lines a test can read."""

    def __init__(self, reader: int, logs: Logs) -> None:
        self._reader = reader
        self.logs = logs

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self._reader, 1 << 16).splitlines()]

    def line(self) -> dict[str, Any]:
        (found,) = self.lines()
        return found


@pytest.fixture
def written() -> Iterator[Written]:
    reader, writer = os.pipe()
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    logs = Logs(LineSink(writer), service="shop", namespace="market")
    logs.install()
    yield Written(reader, logs)
    structlog.reset_defaults()
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    os.close(reader)
    os.close(writer)


def test_a_line_says_when_what_and_whose(written: Written) -> None:
    get_logger().info("serving", version="1.2.3")

    line = written.line()

    assert list(line) == ["time", "level", "event", "service", "namespace", "version"]
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-31T09:00:00.250Z")
    assert (line["level"], line["event"], line["service"], line["namespace"]) == ("info", "serving", "shop", "market")


@pytest.mark.parametrize("threshold", LEVELS[:4])
def test_only_lines_from_the_level_on(written: Written, threshold: Any) -> None:
    written.logs.set_level(threshold)
    for level in LEVELS:
        getattr(get_logger(), level)("spoke")
    assert [line["level"] for line in written.lines()] == list(LEVELS[LEVELS.index(threshold) :])


@pytest.mark.parametrize("text", ['a"}\n{"level":"critical"', "\r\n\x00\x1b[31m", "\u2028\u2029", "ü😀"])
def test_no_value_can_end_a_line(written: Written, text: str) -> None:
    get_logger().warning("odd", error=text)
    assert written.line()["error"] == visible(text)


def test_what_is_no_text_at_all_is_still_logged(written: Written) -> None:
    get_logger().warning("odd", file=os.fsdecode(b"caf\xe9.json"))
    assert written.line()["file"] == r"caf\udce9.json"


def test_an_exception_is_one_line_without_values_of_variables(written: Written) -> None:
    def fail(password: str) -> None:
        raise ValueError("no such\nthing")

    try:
        fail("hunter2")
    except ValueError as error:
        get_logger().error("failed", exc_info=error)

    line = written.line()
    assert line["error"] == "ValueError: no such\\nthing"
    assert line["stack"][-1].endswith(" fail")
    assert "hunter2" not in json.dumps(line)


def test_an_uncaught_exception_is_a_line(written: Written) -> None:
    error = RuntimeError("boom")
    sys.excepthook(RuntimeError, error, None)
    line = written.line()
    assert (line["level"], line["event"], line["error"]) == ("critical", "crash", "RuntimeError: boom")


def test_lines_of_libraries_are_taken_over(written: Written) -> None:
    logging.getLogger("aiohttp.server").error("Error handling request from %s", "10.0.0.1")
    line = written.line()
    assert (line["level"], line["logger"]) == ("error", "aiohttp.server")
    assert line["message"] == "Error handling request from 10.0.0.1"


def test_a_library_message_and_its_exception_are_both_kept(written: Written) -> None:
    logging.getLogger("aiohttp.server").error("Unhandled", exc_info=ValueError("boom"))
    line = written.line()
    assert (line["message"], line["error"]) == ("Unhandled", "ValueError: boom")


def test_secrets_do_not_pass(written: Written) -> None:
    get_logger().error("failed", error="GET /login?password=hunter2 with Bearer abc123def")
    assert "hunter2" not in json.dumps(line := written.line())
    assert "abc123def" not in line["error"]


def _log_calls() -> Iterator[tuple[str, ast.Call]]:
    root = Path(next(iter(nova_sidecar.__path__)))
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                owner = ast.unparse(node.func.value)
                if "log" in owner.lower():
                    yield f"{file.relative_to(root)}:{node.lineno}", node


CALLS = dict(_log_calls())


def test_there_are_log_calls_to_check() -> None:
    assert len(CALLS) >= 8


@pytest.mark.parametrize("where", CALLS)
def test_every_field_is_in_the_vocabulary(where: str) -> None:
    """One name per thing: dashboards and searches are written against these names."""
    fields = {keyword.arg for keyword in CALLS[where].keywords} - {"exc_info"}
    assert fields <= set(VOCABULARY)


@pytest.mark.parametrize("where", CALLS)
def test_what_varies_is_in_fields(where: str) -> None:
    assert all(isinstance(argument, ast.Constant) for argument in CALLS[where].args)


def test_the_access_log_speaks_the_vocabulary() -> None:
    assert set(AffinityEntry.__struct_fields__) <= set(VOCABULARY)


def test_every_word_of_the_vocabulary_is_spoken() -> None:
    """A field that no line carries would be waited for in vain."""
    spoken = {keyword.arg for call in CALLS.values() for keyword in call.keywords}
    of_every_line, of_exceptions = {"time", "level", "event", "service", "namespace"}, {"error", "stack"}
    of_libraries, of_exchanges = {"logger", "message"}, set(AffinityEntry.__struct_fields__)
    assert set(VOCABULARY) == spoken - {"exc_info"} | of_every_line | of_exceptions | of_libraries | of_exchanges
