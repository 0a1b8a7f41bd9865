"""Spans on their way to the collector, without ever holding up the data path.

    exchange over ── record: append ──▶ kept ── every PERIOD, or BATCH full ──▶ queue ──▶ thread: SDK, HTTP

The data path appends a tuple; everything else (the SDK's objects, protobuf, HTTP, waiting) happens in one thread of
its own, which the OpenTelemetry packages are also imported in, since that takes a third of a second. At most `LIMIT`
spans wait; what comes beyond that, and what the collector does not take within `EXPORT_TIMEOUT`, is dropped and
counted. A collector that is down is said once in the log, and once when it is back.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

from nova_sidecar.telemetry.entry import SpanEntry
from nova_sidecar.telemetry.logs import get_logger

PERIOD: Final = 0.5
"""Longest time a span waits before it is handed to the thread, seconds."""
BATCH: Final = 128
LIMIT: Final = 2048
"""Most spans kept, waiting and under way together."""
EXPORT_TIMEOUT: Final = 3.0
"""Seconds for one batch, the exporter's own repetitions included."""
FLUSH_TIMEOUT: Final = 2.0
"""Longest wait at the end of the process for what is left."""
SWITCH_INTERVAL: Final = 0.0005
"""Seconds after which the exporting thread gives the interpreter back; Python's own 5 ms would be seen in latency."""

_USUAL_INTERVAL: Final = 0.005
_PACKAGE: Final = "opentelemetry.exporter.otlp.proto.http"


class Exporter(Protocol):
    """Sends spans; belongs to the exporting thread."""

    def export(self, entries: Sequence[SpanEntry]) -> bool:
        """Whether the collector took them; waits at most `EXPORT_TIMEOUT`, never raises."""

    def shutdown(self) -> None:
        """Give up what is under way. May be called from another thread."""


MakeExporter = Callable[[str], Exporter]
"""Makes the exporter for an endpoint; called in the thread."""


def available() -> bool:
    """Whether the OpenTelemetry packages are installed (``nova[tracing]``); none of them is imported."""
    with suppress(ImportError):
        return find_spec(_PACKAGE) is not None
    return False


class Tracer:
    """Takes the spans of the data path. Belongs to the event loop's thread; counters may be read at any time."""

    __slots__ = (
        "_entries", "_failing", "_loop", "_make", "_timer", "_worker", "dropped", "exported", "failed", "taken",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, make: MakeExporter) -> None:
        self._loop = loop
        self._make = make
        self._entries: list[SpanEntry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._worker: _Worker | None = None
        self._failing = False
        self.taken = 0
        """Spans handed over by the data path and kept."""
        self.exported = 0
        """Spans that the collector took."""
        self.failed = 0
        """Spans that it did not take."""
        self.dropped = 0
        """Spans that were not kept, because too many were waiting."""

    def configure(self, endpoint: str | None) -> None:
        """Export to this collector from now on; None: not at all. What waits for a former one goes there, or fails."""
        worker = self._worker
        if endpoint == (None if worker is None else worker.endpoint):
            return
        self._flush()
        self._worker = None
        if worker is not None:
            worker.leave()
        if endpoint is not None:
            self._worker = _Worker(endpoint, self._make, self._done)
            self._worker.start()
        sys.setswitchinterval(_USUAL_INTERVAL if endpoint is None else SWITCH_INTERVAL)

    def record(self, entry: SpanEntry) -> None:
        """Keep a span, or drop it where too many wait; it is handed on within `PERIOD` seconds."""
        if self._worker is None or self.pending >= LIMIT:
            self.dropped += 1
            return
        self.taken += 1
        entries = self._entries
        entries.append(entry)
        if len(entries) >= BATCH:
            self._flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(PERIOD, self._flush)

    @property
    def pending(self) -> int:
        """Spans that wait or are under way."""
        return self.taken - self.exported - self.failed

    def close(self) -> None:
        """Send what is left, waiting `FLUSH_TIMEOUT` at most. Blocks; for the end of the process."""
        self._flush()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.leave()
            worker.join(FLUSH_TIMEOUT)
            worker.give_up()
            sys.setswitchinterval(_USUAL_INTERVAL)

    def snapshot(self) -> dict[str, Any]:
        """For ``/stats``."""
        return {
            "enabled": self._worker is not None,
            "exported": self.exported,
            "failed": self.failed,
            "dropped": self.dropped,
            "pending": self.pending,
        }

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._entries and self._worker is not None:
            entries, self._entries = self._entries, []
            self._worker.queue.put(entries)

    def _done(self, count: int, why: str) -> None:
        """A batch is over; called in the worker's thread. An empty `why` means that the collector took it."""
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._count, count, why)

    def _count(self, count: int, why: str) -> None:
        if why:
            self.failed += count
        else:
            self.exported += count
        if bool(why) != self._failing:
            self._failing = bool(why)
            if why:
                get_logger().warning("spans are not exported", rule=why)
            else:
                get_logger().info("spans are exported again")

    def __repr__(self) -> str:
        return f"<Tracer pending={self.pending} exported={self.exported} failed={self.failed} dropped={self.dropped}>"


class _Worker(Thread):
    """The exporting thread of one endpoint. It ends after what was in the queue when it was told to leave."""

    def __init__(self, endpoint: str, make: MakeExporter, done: Callable[[int, str], None]) -> None:
        super().__init__(name="nova-spans", daemon=True)  # a collector that hangs must not hold up the exit
        self.endpoint = endpoint
        self.queue: SimpleQueue[list[SpanEntry] | None] = SimpleQueue()
        self._make = make
        self._done = done
        self._exporter: Exporter | None = None

    def run(self) -> None:
        """Export batch after batch."""
        why = ""
        try:
            self._exporter = self._make(self.endpoint)
        except Exception as error:  # a fault of the packages must end in a count, not in a thread that died
            why = f"the exporter could not be made: {type(error).__name__}"
        while (batch := self.queue.get()) is not None:
            self._done(len(batch), why or self._export(batch))
        self.give_up()

    def _export(self, batch: list[SpanEntry]) -> str:
        try:
            taken = self._exporter is not None and self._exporter.export(batch)
        except Exception as error:  # as above
            return f"expected a batch that can be exported, got {type(error).__name__}"
        return "" if taken else "expected a collector that takes spans at tracing.endpoint"

    def leave(self) -> None:
        """End after what is in the queue."""
        self.queue.put(None)

    def give_up(self) -> None:
        """Wait for the collector no longer."""
        if self._exporter is not None:
            self._exporter.shutdown()
