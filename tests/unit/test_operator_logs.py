"""The operator's log lines, as a process writes them: `logs.configure` is for the whole process."""

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import logging, structlog
from nova_operator import logs

logs.configure("info")
log = structlog.get_logger()
log.debug("too quiet")
log.info("child applied", service="shop", namespace="market")
try:
    password = "hunter2"
    raise ValueError("boom")
except ValueError as error:
    log.exception("work failed", service="shop")
    log.exception("work failed", service="shop", exc_info=error)
logging.getLogger("kopf.objects").warning("Lost %s", "the watch", exc_info=ValueError("gone"))
logging.getLogger("kopf.objects").info("a step")
"""


def lines() -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert "hunter2" not in done.stdout
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_lines_speak_the_common_vocabulary() -> None:
    applied, bare, given, foreign = lines()
    assert list(applied) == ["time", "level", "event", "service", "namespace"]
    assert applied["time"].endswith("Z")
    assert (applied["level"], applied["event"]) == ("info", "child applied")
    for failed in (bare, given):
        assert (failed["level"], failed["error"]) == ("error", "ValueError: boom")
        assert failed["stack"][-1].endswith(" <module>")
    assert (foreign["event"], foreign["logger"]) == ("library message", "kopf.objects")
    assert (foreign["message"], foreign["error"]) == ("Lost the watch", "ValueError: gone")
