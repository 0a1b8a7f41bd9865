"""The way of a span from the data path to the exporting thread: bounded, counted, never in anybody's way."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from nova_api.errors import ConfigError
from nova_api.policies import TracingPolicy
from nova_api.proxy import ProxyConfig, encode
from nova_sidecar import config
from nova_sidecar.policy.trace import Span
from nova_sidecar.telemetry.entry import SpanEntry
from nova_sidecar.telemetry.tracing import BATCH, LIMIT, Tracer
from tests.crowd import CROWD

ENTRY = SpanEntry(
    Span(b"1" * 32, b"2" * 16, None), 1e9, 5.0, 0.5, "inbound", "web", ("127.0.0.1", 80), "GET", "/", 200, "", 1, "id",
    "127.0.0.1", "127.0.0.1:80",
)  # fmt: skip


class Exporter:
    """Takes what it is given once `open` is set; `shut` is set when it is told to give up."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.open = threading.Event()
        self.shut = threading.Event()
        self.batches: list[int] = []
        self.answer: bool | Exception = True

    def export(self, entries: Sequence[SpanEntry]) -> bool:
        self.open.wait(10)
        self.batches.append(len(entries))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def shutdown(self) -> None:
        self.shut.set()
        self.open.set()


@pytest.fixture
def made() -> Iterator[list[Exporter]]:
    """Every exporter that was made; none is left waiting."""
    exporters: list[Exporter] = []
    yield exporters
    for exporter in exporters:
        exporter.shutdown()


async def tracer(made: list[Exporter]) -> Tracer:
    def make(endpoint: str) -> Exporter:
        made.append(Exporter(endpoint))
        return made[-1]

    return Tracer(asyncio.get_running_loop(), make)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10 * CROWD):
        while not condition():  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.005)


async def until_empty(of: Tracer) -> None:
    await until(lambda: not of.pending)


def test_a_full_batch_goes_at_once_and_is_counted(made: list[Exporter]) -> None:
    async def scene() -> None:
        spans = await tracer(made)
        spans.configure("http://a")
        for _ in range(BATCH):
            spans.record(ENTRY)
        assert spans.pending == BATCH
        await exporter_of(made)
        made[0].open.set()
        await until_empty(spans)
        assert (spans.exported, spans.failed, spans.dropped) == (BATCH, 0, 0)
        assert made[0].batches == [BATCH]
        spans.close()

    asyncio.run(scene())


async def exporter_of(made: list[Exporter]) -> None:
    await until(lambda: made)


def test_what_the_collector_does_not_take_is_bounded(made: list[Exporter]) -> None:
    async def scene() -> None:
        spans = await tracer(made)
        spans.configure("http://a")
        for _ in range(LIMIT + 100):
            spans.record(ENTRY)
        assert (spans.pending, spans.dropped) == (LIMIT, 100)
        await exporter_of(made)
        made[0].open.set()
        await until_empty(spans)
        assert spans.exported == LIMIT
        spans.record(ENTRY)
        assert spans.dropped == 100
        spans.close()

    asyncio.run(scene())


@pytest.mark.parametrize("answer", [False, ValueError("boom")])
def test_failures_are_counted_and_the_thread_lives(made: list[Exporter], answer: bool | Exception) -> None:
    async def scene() -> None:
        spans = await tracer(made)
        spans.configure("http://a")
        await exporter_of(made)
        made[0].answer = answer
        made[0].open.set()
        for _ in range(2):
            for _ in range(BATCH):
                spans.record(ENTRY)
            await until_empty(spans)
        assert (spans.exported, spans.failed) == (0, 2 * BATCH)
        made[0].answer = True
        for _ in range(BATCH):
            spans.record(ENTRY)
        await until_empty(spans)
        assert spans.exported == BATCH
        spans.close()

    asyncio.run(scene())


def test_an_exporter_that_cannot_be_made_fails_spans_only() -> None:
    def make(_: str) -> Exporter:
        raise ImportError("no such package")

    async def scene() -> None:
        spans = Tracer(asyncio.get_running_loop(), make)
        spans.configure("http://a")
        for _ in range(BATCH):
            spans.record(ENTRY)
        await until_empty(spans)
        assert spans.failed == BATCH
        spans.close()

    asyncio.run(scene())


def test_another_collector_takes_over_and_off_ends_the_thread(made: list[Exporter]) -> None:
    async def scene() -> None:
        usual = sys.getswitchinterval()
        before = threading.active_count()
        spans = await tracer(made)
        spans.record(ENTRY)
        assert spans.dropped == 1
        spans.configure("http://a")
        spans.record(ENTRY)
        await exporter_of(made)
        made[0].open.set()
        spans.configure("http://b")
        await until_empty(spans)
        assert made[0].shut.wait(10)
        assert made[0].batches == [1]
        spans.configure("http://b")
        assert sys.getswitchinterval() < usual
        spans.configure(None)
        await until(lambda: threading.active_count() <= before)
        assert [each.endpoint for each in made] == ["http://a", "http://b"]
        assert sys.getswitchinterval() == pytest.approx(usual)

    asyncio.run(scene())


def test_the_end_gives_up_a_collector_that_hangs(made: list[Exporter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nova_sidecar.telemetry.tracing.FLUSH_TIMEOUT", 0.05)

    async def scene() -> None:
        spans = await tracer(made)
        spans.configure("http://a")
        await exporter_of(made)
        spans.record(ENTRY)
        spans.close()
        assert made[0].shut.is_set()

    asyncio.run(scene())


def test_a_document_that_wants_spans_is_refused_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    text = encode(ProxyConfig(service="shop", tracing=TracingPolicy(mode="Enforce")))
    config.document(text)
    monkeypatch.setattr(config, "available", lambda: False)

    with pytest.raises(ConfigError, match=r"^\$\.tracing\.mode: expected Off, since OpenTelemetry is not installed"):
        config.document(text)
    config.document(encode(ProxyConfig(service="shop")))
