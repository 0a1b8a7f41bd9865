"""Progress for people: a live line with elapsed time on a terminal, plain lines everywhere else.

Long steps (a Go build, an image) may overlap, so a console is shared between threads. Progress goes to standard error:
standard output carries only what a command was asked for, so that `KUBECONFIG=$(nova cluster up --quiet)` works.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

HEARTBEAT_SECONDS = 20.0


class Step(Protocol):
    """One thing that takes time."""

    def note(self, text: str) -> None:
        """Say how far it is; shown beside the title, never logged twice."""


class _LiveStep:
    """A row of rich's live display."""

    def __init__(self, progress: Progress, row: TaskID) -> None:
        self._progress = progress
        self._row = row

    def note(self, text: str) -> None:
        self._progress.update(self._row, note=text)


class _PlainStep:
    """Speaks up every `HEARTBEAT_SECONDS`, so that a log shows a step is alive without being flooded."""

    def __init__(self, console: Console, title: str, started: float) -> None:
        self._console, self._title, self._started = console, title, started
        self._note = ""
        self._over = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def note(self, text: str) -> None:
        self._note = text

    def end(self) -> None:
        self._over.set()

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            note = f", {self._note}" if self._note else ""
            self._console.line(f"  … {self._title} ({time.monotonic() - self._started:.0f} s{note})")


class Console:
    """Where a command says what it is doing. Colour and live lines only when `stream` is a terminal."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._rows = 0
        self.terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.terminal and "NO_COLOR" not in os.environ

    def line(self, text: str) -> None:
        """Print one line; above the live display where there is one."""
        if self._quiet:
            return
        with self._lock:
            if self._progress is not None:
                self._progress.console.print(text, markup=False, highlight=False)
            else:
                print(text, file=self._stream, flush=True)

    def paint(self, text: str, code: str) -> str:
        """`text` in the ANSI colour `code` (`"32"` is green), or as it is when not on a terminal."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show `title` while the block runs, then how long it took or that it failed. Threads may have one each."""
        started = time.monotonic()
        with self._live(title) if self.terminal and not self._quiet else self._plain(title, started) as step:
            try:
                yield step
            except BaseException:
                self._finish("✗", "31", title, started)
                raise
        self._finish("✓", "32", title, started)

    def _finish(self, mark: str, colour: str, title: str, started: float) -> None:
        self.line(f"{self.paint(mark, colour)} {title} ({time.monotonic() - started:.1f} s)")

    @contextmanager
    def _plain(self, title: str, started: float) -> Iterator[Step]:
        step = _PlainStep(self, title, started)
        try:
            yield step
        finally:
            step.end()

    @contextmanager
    def _live(self, title: str) -> Iterator[Step]:
        with self._lock:
            if self._progress is None:
                self._progress = self._open_progress()
            self._rows += 1
            progress = self._progress
            row = progress.add_task(title, total=None, note="")
        try:
            yield _LiveStep(progress, row)
        finally:
            with self._lock:
                progress.remove_task(row)
                self._rows -= 1
                if self._rows == 0:
                    progress.stop()
                    self._progress = None

    def _open_progress(self) -> Progress:
        from rich.console import Console as RichConsole  # noqa: PLC0415 - rich costs 0.1 s, and only terminals need it
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - as above

        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=RichConsole(file=self._stream),
            transient=True,
        )
        progress.start()
        return progress
