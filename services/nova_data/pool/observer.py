"""What is noted of a database while it works, and told where it should not be so: metrics, leaks, slow statements."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from nova_data.pool.leaks import Hold, LeakWatch, calls
from nova_data.pool.metrics import DatabaseMetrics
from nova_data.pool.slow import SlowLog, SlowStatement

OnLeak = Callable[[Hold], None]
OnSlow = Callable[[SlowStatement], None]
_log: Final = logging.getLogger("nova_data.pool")


class Observer:
    """Of one database. `leak_after` and `slow_after` in seconds; `on_leak` and `on_slow` take the log's place."""

    def __init__(
        self,
        name: str,
        leak_after: float,
        slow_after: float,
        *,
        clock: Callable[[], float],
        metrics: DatabaseMetrics | None = None,
        on_leak: OnLeak | None = None,
        on_slow: OnSlow | None = None,
    ) -> None:
        self.leaks = LeakWatch(leak_after)
        self.slow = SlowLog(slow_after)
        self._name = name
        self._clock = clock
        self._series = None if metrics is None else metrics.show(name, lambda: self.leaks.missing)
        self._on_leak = on_leak or self._tell_leak
        self._on_slow = on_slow or self._tell_slow

    def waited(self, began: float) -> None:
        """A wait for a connection, which began then, is over."""
        if self._series is not None:
            self._series.wait.observe(self._clock() - began)

    def refused(self) -> None:
        """A tenant has its share."""
        if self._series is not None:
            self._series.refused.inc()

    def took(self) -> Hold:
        """A connection is in use, by who called; give it back with `gave_back`."""
        return self.leaks.took(self._clock(), calls())

    def gave_back(self, hold: Hold) -> None:
        """It is back."""
        self.leaks.gave_back(hold)
        if self._series is not None:
            self._series.held.observe(self._clock() - hold.since)

    def ran(self, record: Any) -> None:
        """A statement was run; `record` is asyncpg's LoggedQuery."""
        seconds: float = record.elapsed
        if self._series is not None:
            self._series.ran(seconds, slow=seconds >= self.slow.after)
        told = self.slow.record(record.query, seconds, self._clock())
        if told is not None:
            with self._telling():
                self._on_slow(told)

    async def watch(self) -> None:
        """Tell of connections that do not come back, until cancelled."""
        while True:
            for hold in self.leaks.overdue(self._clock()):
                if self._series is not None:
                    self._series.leaks.inc()
                with self._telling():
                    self._on_leak(hold)
            await asyncio.sleep(self.leaks.pause(self._clock()))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What a listener does wrong is its own: watching goes on."""
        try:
            yield
        except Exception:
            _log.exception("whoever is told of the pool %s failed", self._name)

    def _tell_leak(self, hold: Hold) -> None:
        seconds = self._clock() - hold.since
        _log.warning("a connection of the pool %s is held for %.1f s, taken in %s", self._name, seconds, hold.stack)

    def _tell_slow(self, slow: SlowStatement) -> None:
        _log.warning(
            "a statement of the pool %s took %.3f s (%d slow ones since it was told last, the longest %.3f s): %s",
            self._name,
            slow.seconds,
            slow.count,
            slow.longest,
            slow.statement,
        )
