"""The access log: one JSON line per exchange, cheap enough for the request path.

`record` only appends. Lines are made and written in batches, at most `PERIOD` later, so that a request pays neither
for formatting while its client waits nor for a system call of its own. Strings are escaped by msgspec's encoder, the
fields that are the same on every line are rendered once.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from nova_sidecar.telemetry.entry import AccessEntry
from nova_sidecar.telemetry.sink import LineSink
from nova_sidecar.telemetry.stamp import Stamper

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]

PERIOD: Final = 0.05
BATCH: Final = 64


class AccessLogWriter:
    """Writes the entries of the data path to a `LineSink`. Belongs to the event loop's thread.

    `call_later` is the loop's.
    """

    __slots__ = ("_call_later", "_encode", "_entries", "_middle", "_sink", "_stamper", "_timer")

    def __init__(self, sink: LineSink, call_later: CallLater, *, service: str, namespace: str) -> None:
        self._sink = sink
        self._call_later = call_later
        self._stamper = Stamper()
        self._encode = msgspec.json.Encoder().encode
        self._middle = b'","level":"info","event":"exchange","service":%b,"namespace":%b' % (
            msgspec.json.encode(service),
            msgspec.json.encode(namespace),
        )
        self._entries: list[AccessEntry] = []
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<AccessLogWriter pending={len(self._entries)}>"

    def record(self, entry: AccessEntry) -> None:
        """Keep an entry; it is written within `PERIOD` seconds, or at once with the batch it fills."""
        entries = self._entries
        entries.append(entry)
        if len(entries) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = self._call_later(PERIOD, self._expire)

    def flush(self) -> None:
        """Hand every kept entry to the sink."""
        if self._entries:
            entries, self._entries = self._entries, []
            self._sink.write(self._lines(entries), len(entries))

    def close(self) -> None:
        """Flush and stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def _expire(self) -> None:
        self._timer = None
        self.flush()

    def _lines(self, entries: list[AccessEntry]) -> bytes:
        """The lines of a batch, in one loop because a call per line would cost a fifth more.

        The encoder writes the time, the first field, as a number: it is replaced by its text. Durations are cut to
        microseconds by way of an int, which takes a third of the time of `round`.
        """
        encode, stamp, middle = self._encode, self._stamper.stamp, self._middle
        parts: list[bytes] = []
        for entry in entries:
            entry.duration_ms = int(entry.duration_ms * 1000) / 1000
            entry.upstream_ms = int(entry.upstream_ms * 1000) / 1000
            line = encode(entry)
            parts += (b'{"time":"', stamp(entry.time), middle, line[line.index(b",") :], b"\n")
        return b"".join(parts)
