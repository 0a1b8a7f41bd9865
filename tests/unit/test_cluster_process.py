"""Who a recorded process is: no signal may ever reach another one that got its pid."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nova_cli.cluster import state as states
from nova_cli.cluster.process import ProcessRecord, parse_stat, run
from nova_cli.cluster.state import State
from nova_cli.errors import CommandError

STAT = "4711 (a) b (c)) S 1 4711 4711 0 -1 4194560 120 0 0 0 3 1 0 0 20 0 9 0 8154711 1400 300 18446744073709551615"


def test_stat_is_parsed_behind_the_last_parenthesis_of_the_name() -> None:
    stat = parse_stat(STAT)
    assert (stat.state, stat.started) == ("S", 8154711)


def test_this_process_is_alive() -> None:
    assert ProcessRecord.of(os.getpid()).alive()


def test_the_same_pid_with_another_start_time_is_somebody_else() -> None:
    record = ProcessRecord.of(os.getpid())
    assert not replace(record, started=record.started + 1).alive()


def test_the_same_pid_in_another_boot_is_somebody_else() -> None:
    assert not replace(ProcessRecord.of(os.getpid()), boot="another").alive()


def test_somebody_else_is_not_signalled() -> None:
    record = ProcessRecord.of(os.getpid())
    replace(record, started=record.started - 1).signal(9)  # the test would not survive it


def test_a_state_file_tells_the_dead_from_the_living(tmp_path: Path) -> None:
    me = ProcessRecord.of(os.getpid())
    state = State(mode="node", port=1, processes={"etcd": me, "kubelet": replace(me, boot="another")})
    states.save(tmp_path / "state.json", state)
    loaded = states.load(tmp_path / "state.json")
    assert loaded == state
    assert loaded is not None
    assert loaded.dead() == ["kubelet"]


@pytest.mark.parametrize("text", [None, "", "{", '{"mode": "unheard of"}'])
def test_a_missing_or_broken_state_file_is_no_state(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "state.json"
    if text is not None:
        file.write_text(text)
    assert states.load(file) is None


def test_a_failed_command_says_what_it_said() -> None:
    with pytest.raises(CommandError, match=r"(?s)`sh -c .*` failed with exit code 3:\n  no such thing"):
        run(["sh", "-c", "echo no such thing >&2; exit 3"])


def test_a_missing_command_is_named() -> None:
    with pytest.raises(CommandError, match="no-such-command is not installed"):
        run(["no-such-command"])
