"""What `nova-data` takes on its command line: good values in one unit, bad ones refused with the rule."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from nova_data.commands import options, relay


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("24h", 86400.0), ("7d", 604800.0), ("1.5s", 1.5)],
)
def test_times_are_seconds(text: str, seconds: float) -> None:
    assert options.seconds(text) == seconds


@pytest.mark.parametrize(
    ("read", "text", "rule"),
    [
        (options.seconds, "5", "expected a time such as 500ms"),
        (options.seconds, "0s", "expected a time such as 500ms"),
        (options.seconds, "nans", "expected a time such as 500ms"),
        (options.seconds, "-1s", "expected a time such as 500ms"),
        (options.positive, "0", "expected a whole number from 1"),
        (options.positive, "²", "expected a whole number from 1"),
        (options._setting, "ssl", "expected NAME=VALUE, got 'ssl'"),
        (options._setting, "=hunter2", "expected NAME=VALUE, got ''"),
        (relay._attempts, "1", "expected at least 2"),
        (relay._batch, "15", "expected 16 to 50000"),
        (relay._prefix, "a/b", "expected at most 48 letters"),
        (relay._port, "65536", "expected a port"),
    ],
)
def test_others_are_refused_with_the_rule(read: Callable[[str], Any], text: str, rule: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refusal:
        read(text)
    assert rule in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_help_needs_no_driver() -> None:
    hidden = "import sys; sys.modules['asyncpg'] = sys.modules['confluent_kafka'] = None; "
    for words in (["--help"], ["outbox", "--help"], ["relay", "--help"]):
        code = f"{hidden}from nova_data.main import main; main({words!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
        assert "examples:" in done.stdout


def test_without_a_database_the_command_says_which_option_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if name != options.DATABASE_VARIABLE}
    words = [sys.executable, "-m", "nova_data.main", "outbox", "status"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False, env=environment)
    assert done.returncode == 2
    assert "--database" in done.stderr
