"""A document that changes while the sidecar runs: taken over whole, or refused whole."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nova_api.policies import BackpressurePolicy
from nova_api.proxy import Address, Admin, Inbound, ProxyConfig, digest, encode

from .support.app import App
from .support.message import request
from .support.sidecar import Sidecar, document, inbound, outbound, with_fields
from .support.waiting import eventually, holds


@pytest.fixture
def app() -> Iterator[App]:
    with App() as running:
        yield running


@pytest.fixture
def sidecar(tmp_path: Path, app: App) -> Iterator[Sidecar]:
    """Its log may hold refusals: that is what is tested here."""
    running = Sidecar.start(document(inbound(app.address)), tmp_path)
    yield running
    assert running.stop() == 0
    assert not [line for line in running.complaints() if "configuration refused" not in line]


def status(sidecar: Sidecar) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sidecar.status("/status")[1])
    return found


def runs(sidecar: Sidecar, config: ProxyConfig) -> Callable[[], bool]:
    return lambda: status(sidecar)["configHash"] == digest(encode(config))


def limited(config: ProxyConfig, places: int) -> ProxyConfig:
    return with_fields(config, backpressure=BackpressurePolicy(max_concurrency=places))


def served(sidecar: Sidecar) -> int:
    with sidecar.connect() as client:
        return client.exchange(request()).status


def test_a_good_document_is_taken_over_in_under_a_second(sidecar: Sidecar) -> None:
    changed = limited(sidecar.config, 7)
    sidecar.reload(changed)

    eventually(runs(sidecar, changed), within=1)

    assert json.loads(sidecar.control("GET", "/config")[1])["backpressure"]["maxConcurrency"] == 7
    assert sidecar.metric("nova_limiter_max_concurrency") == 7
    assert status(sidecar)["generation"] == 2
    assert sidecar.metric("nova_config_reloads_total", result="applied") == 1
    assert sidecar.metric("nova_config_info", hash=digest(encode(changed))) == 1


def test_a_config_map_is_taken_over_when_the_kubelet_swaps_it(tmp_path: Path, app: App) -> None:
    """The mounted file is reached through the link ..data, and only that link is replaced (atomic_writer.go)."""
    (tmp_path / "..1").mkdir()
    (tmp_path / "..2").mkdir()
    data = tmp_path / "..data"
    data.symlink_to("..1")
    sidecar = Sidecar.start(document(inbound(app.address)), data)
    try:
        changed = limited(sidecar.config, 7)
        (tmp_path / "..2" / "config.json").write_bytes(encode(changed))
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(data)
        eventually(runs(sidecar, changed), within=1)
    finally:
        sidecar.stop()


def test_a_file_written_in_place(tmp_path: Path, sidecar: Sidecar) -> None:
    """Half of it is not a mistake yet: nothing is refused while an editor is writing."""
    changed = limited(sidecar.config, 7)
    text = encode(changed)
    with (tmp_path / "config.json").open("wb", buffering=0) as file:
        for start in range(0, len(text), 100):
            file.write(text[start : start + 100])
    eventually(runs(sidecar, changed), within=1)
    assert sidecar.metric("nova_config_reloads_total", result="refused") == 0


def test_every_change_of_many_ends_with_the_last(sidecar: Sidecar) -> None:
    last = sidecar.config
    for places in range(1, 60):
        last = limited(last, places)
        sidecar.reload(last)
    eventually(runs(sidecar, last), within=2)
    assert sidecar.metric("nova_config_reloads_total", result="refused") == 0


def test_the_same_content_again_is_no_reload(sidecar: Sidecar) -> None:
    sidecar.reload(sidecar.config)
    sidecar.process.send_signal(signal.SIGHUP)
    holds(lambda: status(sidecar)["generation"] == 1, for_seconds=0.6)
    assert sidecar.metric("nova_config_reloads_total", result="applied") == 0


REFUSED = {
    "not a document": (b"{", "$", "expected a document"),
    "a wrong field": (b"backpressure", "$.backpressure.maxConcurrency", "expected int >= 1"),
    "nothing": (b"", "$", "expected a document"),
    "too long": (b" " * (1 << 21), "$", "expected at most 1048576 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_document_is_refused_counted_logged_and_the_old_one_kept(sidecar: Sidecar, name: str) -> None:
    text, field, rule = REFUSED[name]
    before = status(sidecar)["configHash"]
    if text == b"backpressure":
        text = encode(sidecar.config).replace(b'"maxConcurrency":512', b'"maxConcurrency":0')
    sidecar.reload_text(text)

    error = eventually(lambda: status(sidecar)["lastError"], within=2)

    assert error["field"] == field
    assert rule in error["rule"]
    assert error["hash"] == (None if name == "too long" else digest(text))
    assert sidecar.metric("nova_config_reloads_total", result="refused") == 1
    assert sidecar.metric("nova_config_stale") == 1
    (line,) = [line for line in sidecar.log if line["event"].startswith("configuration refused")]
    assert (line["level"], line["field"], line["hash"]) == ("error", field, before)
    assert line["file"].endswith("config.json")
    assert status(sidecar)["configHash"] == before
    assert served(sidecar) == 200
    assert sidecar.status("/readyz")[0] == 200


def test_it_is_said_once(sidecar: Sidecar) -> None:
    sidecar.reload_text(b"{")
    eventually(lambda: status(sidecar)["lastError"], within=2)
    holds(lambda: sidecar.metric("nova_config_reloads_total", result="refused") == 1, for_seconds=1)


def test_a_file_that_vanished(tmp_path: Path, sidecar: Sidecar) -> None:
    os.unlink(tmp_path / "config.json")
    error = eventually(lambda: status(sidecar)["lastError"], within=2)
    assert "No such file" in error["rule"]
    assert error["hash"] is None
    assert served(sidecar) == 200


def test_the_old_document_back_in_place_ends_the_error(sidecar: Sidecar) -> None:
    good = sidecar.config
    sidecar.reload_text(b"{")
    eventually(lambda: status(sidecar)["lastError"], within=2)
    sidecar.reload(good)
    eventually(lambda: status(sidecar)["lastError"] is None, within=2)
    assert status(sidecar)["generation"] == 1
    assert sidecar.metric("nova_config_stale") == 0
    assert [line["hash"] for line in sidecar.log if line["event"] == "configuration is the one in force again"] == [
        digest(encode(good))
    ]


def test_a_good_one_after_a_bad_one(sidecar: Sidecar) -> None:
    changed = limited(sidecar.config, 7)
    sidecar.reload_text(b"{")
    eventually(lambda: status(sidecar)["lastError"], within=2)
    sidecar.reload(changed)
    eventually(runs(sidecar, changed), within=2)
    assert status(sidecar)["lastError"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service", "other"),
        ("namespace", "elsewhere"),
        ("resolver", "dns"),
        ("admin", Admin(status=Address(host="127.0.0.1", port=1), control=Address(host="127.0.0.1", port=2))),
    ],
)
def test_what_only_a_restart_can_change(sidecar: Sidecar, field: str, value: object) -> None:
    sidecar.reload(with_fields(good := sidecar.config, **{field: value}))
    sidecar.config = good
    error = eventually(lambda: status(sidecar)["lastError"], within=2)
    assert error["field"] == f"$.{field}"
    assert "restart" in error["rule"]


def test_a_listener_that_cannot_be_opened_refuses_the_whole_document(sidecar: Sidecar, app: App) -> None:
    good = sidecar.config
    there = Address(host="127.0.0.1", port=app.address[1])
    taken = Inbound(name="second", listen=there, app=there)
    sidecar.reload(limited(with_fields(good, inbound=(*good.inbound, taken)), 7))
    sidecar.config = good

    error = eventually(lambda: status(sidecar)["lastError"], within=2)

    assert error["field"].startswith("$.inbound[1].listen")
    assert str(app.address[1]) in error["rule"]
    assert sidecar.metric("nova_limiter_max_concurrency") == 512
    assert served(sidecar) == 200


def test_ports_come_and_go(sidecar: Sidecar, app: App) -> None:
    first = sidecar.config
    more = with_fields(
        first, inbound=(*first.inbound, inbound(app.address, "second")), outbound=(outbound(app.address),)
    )
    sidecar.reload(more)
    eventually(runs(sidecar, more), within=1)
    for name in ("web", "second", "db"):
        with sidecar.connect(name) as client:
            assert client.exchange(request()).status == 200
    gone = sidecar.address("second")

    sidecar.reload(first)
    eventually(runs(sidecar, first), within=1)

    assert served(sidecar) == 200
    assert set(sidecar.stats()["inbound"]) == {"web"}
    with pytest.raises(ConnectionRefusedError), socket.create_connection(gone, timeout=5):
        pass


def test_the_log_level_changes_at_once(sidecar: Sidecar) -> None:
    quiet = with_fields(sidecar.config, log_level="error")
    sidecar.reload(quiet)
    eventually(runs(sidecar, quiet), within=1)
    lines = len(sidecar.log)
    louder = limited(quiet, 7)
    sidecar.reload(louder)
    eventually(runs(sidecar, louder), within=1)
    assert len(sidecar.log) == lines


def test_hup_reads_again_at_once(tmp_path: Path, sidecar: Sidecar) -> None:
    """A refused document is reported again: somebody is asking."""
    sidecar.reload_text(b"{")
    eventually(lambda: sidecar.metric("nova_config_reloads_total", result="refused") == 1, within=2)
    sidecar.process.send_signal(signal.SIGHUP)
    eventually(lambda: sidecar.metric("nova_config_reloads_total", result="refused") == 2, within=1)


def test_requests_in_flight_do_not_notice(sidecar: Sidecar, app: App) -> None:
    with sidecar.connect() as client:
        assert client.exchange(request()).status == 200
        changed = limited(sidecar.config, 7)
        sidecar.reload(changed)
        eventually(runs(sidecar, changed), within=1)
        assert client.exchange(request()).status == 200
    assert len(app.requests) == 2


def test_a_sidecar_that_cannot_use_its_document_starts_with_the_last_good_one(tmp_path: Path, app: App) -> None:
    good = document(inbound(app.address))
    bad = limited(good, 7)
    (tmp_path / "last-good.json").write_bytes(encode(good))
    wrong = encode(bad).replace(b'"maxConcurrency":7', b'"maxConcurrency":-7')
    running = Sidecar.start(good, tmp_path, text=wrong)
    try:
        eventually(lambda: status(running)["lastError"])
        said = status(running)
        assert said["configHash"] == digest(encode(good))
        assert said["lastError"]["field"] == "$.backpressure.maxConcurrency"
        assert said["lastError"]["hash"] == digest(wrong)
        assert served(running) == 200
        running.reload(bad)  # with the mistake repaired
        eventually(runs(running, bad))
        assert status(running)["lastError"] is None
    finally:
        assert running.stop() == 0
