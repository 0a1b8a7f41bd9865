import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nova_api.hygiene import visible
from nova_sidecar.telemetry.accesslog import BATCH, PERIOD, AccessLogWriter
from nova_sidecar.telemetry.entry import AccessEntry
from nova_sidecar.telemetry.sink import LineSink
from tests.secrets import TABLE, Secret

MOMENT = 1_769_850_000.2504  # 2026-01-31T09:00:00.250Z


def entry(**fields: Any) -> AccessEntry:
    normal: dict[str, Any] = {
        "time": MOMENT, "direction": "inbound", "name": "http", "method": "GET", "path": "/items", "status": 200,
        "reason": "", "duration_ms": 1.23456, "upstream_ms": 0.98765, "attempts": 1, "bytes_in": 0, "bytes_out": 512,
        "correlation_id": "c-1", "downstream": "10.0.0.9", "upstream": "127.0.0.1:8080",
    }  # fmt: skip
    return AccessEntry(**(normal | fields))


class Timer:
    def __init__(self, delay: float, callback: Callable[[], None]) -> None:
        self.delay, self.fire, self.cancelled = delay, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Log:
    """An access log into a pipe, with timers that the test fires."""

    def __init__(self) -> None:
        self.reader, self.descriptor = os.pipe()
        os.set_blocking(self.reader, False)
        self.timers: list[Timer] = []
        self.sink = LineSink(self.descriptor)
        self.writer = AccessLogWriter(self.sink, self._later, service='sh"op', namespace="market")

    def _later(self, delay: float, callback: Callable[[], None]) -> Any:
        self.timers.append(Timer(delay, callback))
        return self.timers[-1]

    def lines(self) -> list[dict[str, Any]]:
        try:
            text = os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return []
        assert text.endswith(b"\n")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    os.close(made.reader)
    os.close(made.descriptor)


def test_a_line(log: Log) -> None:
    log.writer.record(entry())
    log.writer.close()
    assert log.lines() == [
        {
            "time": "2026-01-31T09:00:00.250Z", "level": "info", "event": "exchange", "service": 'sh"op',
            "namespace": "market", "direction": "inbound", "name": "http", "method": "GET", "path": "/items",
            "status": 200, "reason": "", "duration_ms": 1.234, "upstream_ms": 0.987, "attempts": 1, "bytes_in": 0,
            "bytes_out": 512, "correlation_id": "c-1", "downstream": "10.0.0.9", "upstream": "127.0.0.1:8080",
        }
    ]  # fmt: skip


@pytest.mark.parametrize("text", ['"}\n{"level":"critical"', "a\\", "\x00\x1f\x7f", "ü\u2028"])
def test_what_a_client_sends_cannot_forge_a_line(log: Log, text: str) -> None:
    log.writer.record(entry(path=text, method=text, correlation_id=text))
    log.writer.close()
    (line,) = log.lines()
    assert (line["path"], line["method"], line["correlation_id"]) == (visible(text), "_OTHER", text)
    assert line["path"].isprintable()


@pytest.mark.parametrize("secret", TABLE, ids=lambda one: f"{one.kind} {one.text[:24]}")
def test_what_a_client_puts_into_a_path_or_a_method_is_not_written(log: Log, secret: Secret) -> None:
    log.writer.record(entry(path=f"/a/{secret.text}"))
    log.writer.record(entry(method=secret.text))
    log.writer.record(entry(path=f"/a/{secret.text}"))  # remembered now
    log.writer.close()
    lines = log.lines()
    assert len(lines) == 3
    assert secret.found_in(json.dumps(lines, ensure_ascii=False)) == []


def test_written_in_batches_after_a_moment(log: Log) -> None:
    for number in range(3):
        log.writer.record(entry(status=200 + number))
    assert log.lines() == []
    (timer,) = log.timers

    timer.fire()

    assert timer.delay == PERIOD
    assert [line["status"] for line in log.lines()] == [200, 201, 202]


def test_a_full_batch_does_not_wait(log: Log) -> None:
    for _ in range(BATCH + 1):
        log.writer.record(entry())
    assert len(log.lines()) == BATCH
    log.timers[0].fire()
    assert len(log.lines()) == 1


def test_the_timer_starts_again_after_it_fired(log: Log) -> None:
    log.writer.record(entry())
    log.timers[0].fire()
    log.writer.record(entry())
    assert len(log.timers) == 2


def test_closing_writes_what_is_left(log: Log) -> None:
    log.writer.record(entry())
    log.writer.close()
    assert len(log.lines()) == 1
    assert log.timers[0].cancelled


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (MOMENT + 0.7495, "2026-01-31T09:00:00.999Z"),
        (MOMENT + 0.75, "2026-01-31T09:00:01.000Z"),
    ],
)
def test_times_are_cut_to_milliseconds(log: Log, moment: float, text: str) -> None:
    log.writer.record(entry(time=moment))
    log.writer.close()
    assert log.lines()[0]["time"] == text


def test_every_entry_has_its_own_time(log: Log) -> None:
    for seconds in (0.0, 0.5, 1.0, 0.9):
        log.writer.record(entry(time=MOMENT + seconds))
    log.writer.close()
    assert [line["time"][17:23] for line in log.lines()] == ["00.250", "00.750", "01.250", "01.150"]


def test_what_the_reader_does_not_take_is_counted(log: Log) -> None:
    for _ in range(BATCH * 100):
        log.writer.record(entry(path="/" * 400))
    log.writer.close()
    assert log.sink.dropped > 0
