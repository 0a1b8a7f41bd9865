"""The access log: one JSON line per exchange, cheap enough for the request path.

`record` only appends. Lines are made and written in batches, at most `PERIOD` later, so that a request pays neither
for formatting while its client waits nor for a system call of its own. Strings are escaped by msgspec's encoder, the
fields that are the same on every line are rendered once. Methods and paths, which clients choose, are brought into
their clean form (`nova_api.hygiene`) there too; correlation ids were judged when they were taken over, and what else is
in an entry is Nova's own.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from nova_api.hygiene import Cleaned, clean_method, clean_path, spotless
from nova_sidecar.telemetry.entry import AccessEntry
from nova_sidecar.telemetry.sink import LineSink
from nova_sidecar.telemetry.stamp import Stamper

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]

PERIOD: Final = 0.05
BATCH: Final = 64

_USUAL: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "-"))
_FIRST_OWN: Final = b'"direction":'


class AccessLogWriter:
    """Writes the entries of the data path to a `LineSink`. Belongs to the event loop's thread.

    `call_later` is the loop's.
    """

    __slots__ = (
        "_call_later",
        "_encode_lines",
        "_entries",
        "_methods",
        "_paths",
        "_same",
        "_sink",
        "_stamper",
        "_timer",
    )

    def __init__(self, sink: LineSink, call_later: CallLater, *, service: str, namespace: str) -> None:
        self._sink = sink
        self._call_later = call_later
        self._stamper = Stamper()
        self._methods = Cleaned(clean_method)
        self._paths = Cleaned(clean_path)
        self._encode_lines = msgspec.json.Encoder().encode_lines
        self._same = b'"level":"info","event":"exchange","service":%b,"namespace":%b,%b' % (
            msgspec.json.encode(service),
            msgspec.json.encode(namespace),
            _FIRST_OWN,
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
        """The lines of a batch, all encoded by one call.

        Durations are cut to microseconds by way of an int, which takes a third of the time of `round`. What is the same
        on every line is put in front of `direction`: no text can look like that key, since its quotes are escaped.
        """
        stamp, last, text = self._stamper.stamp, -1, ""
        for entry in entries:
            seconds = entry.time
            millis = int(seconds * 1000)
            if millis != last:
                last, text = millis, stamp(seconds)
            entry.time = text  # type: ignore[assignment]  # the entry is over; the encoder takes what is there
            entry.duration_ms = int(entry.duration_ms * 1000) / 1000
            entry.upstream_ms = int(entry.upstream_ms * 1000) / 1000
        self._clean(entries)
        return self._encode_lines(entries).replace(_FIRST_OWN, self._same)

    def _clean(self, entries: list[AccessEntry]) -> None:
        """Bring methods and paths into their clean form."""
        if not _USUAL.issuperset([entry.method for entry in entries]):
            for entry in entries:
                entry.method = self._methods[entry.method]
        if not spotless([entry.path for entry in entries]):
            for entry in entries:
                entry.path = self._paths[entry.path]
