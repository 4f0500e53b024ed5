"""Progress of long work: a line that changes in a terminal, a line each 10 % elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator

import pytest

from harness.progress import Progress, Silent

__all__ = ["TerminalProgress", "WorkerProgress", "progress_for"]

_SECONDS_BETWEEN = 0.2


def progress_for(config: pytest.Config) -> Progress:
    """Where the user looks: the terminal, which a worker of pytest-xdist shares with all others."""
    if hasattr(config, "workerinput"):
        return WorkerProgress(config, config.workerinput["workerid"])
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return Silent() if reporter is None else TerminalProgress(config, reporter)


class _Lines(ABC):
    """Says where a task is, with the time that is left."""

    changing: bool
    """Whether a line can be written over by the next."""

    def __init__(self) -> None:
        self._task = ""
        self._total = 0
        self._started = 0.0
        self._shown = 0.0
        self._tenths = 0

    def start(self, task: str, total: int) -> None:
        self._task, self._total = task, total
        self._started = time.monotonic()
        self._shown = 0.0
        self._tenths = 0
        self.advance(0)

    def advance(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        tenths = 10 * done // self._total if self._total else 0
        if self.changing and (now - self._shown < _SECONDS_BETWEEN and done != self._total):
            return
        if not self.changing and tenths <= self._tenths:
            return
        self._shown, self._tenths = now, tenths
        text = f"{self._task}  {done}/{self._total}" if self._total else f"{self._task}  {done}"
        left = self._left(done, now - self._started)
        self._write("  ".join(filter(None, (text, note, left))), changing=self.changing)

    def finish(self, note: str = "") -> None:
        seconds = f"{time.monotonic() - self._started:.0f} s"
        self._write("  ".join(filter(None, (self._task, note, seconds))), changing=False)

    def message(self, line: str) -> None:
        self._write(line, changing=False)

    def _left(self, done: int, elapsed: float) -> str:
        if not self._total or not done or done >= self._total:
            return ""
        left = elapsed / done * (self._total - done)
        return f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left"

    @abstractmethod
    def _write(self, line: str, *, changing: bool) -> None:
        """Show a line. changing: the next one takes its place."""


class TerminalProgress(_Lines):
    """Writes past pytest's capturing, to where pytest itself reports."""

    def __init__(self, config: pytest.Config, reporter: pytest.TerminalReporter) -> None:
        super().__init__()
        self._config = config
        self._reporter = reporter
        self._open = False
        self.changing = bool(reporter.isatty)

    def _write(self, line: str, *, changing: bool) -> None:
        with _uncaptured(self._config):
            stream = self._reporter._tw._file
            if self._open:
                stream.write("\r\x1b[2K")
            elif self._reporter.currentfspath is not None or self._reporter.isatty:
                self._reporter.ensure_newline()
            stream.write(line if changing else f"{line}\n")
            stream.flush()
        self._open = changing


class WorkerProgress(_Lines):
    """Whole lines with the worker's name on the error stream, the one thing of a worker that reaches the terminal."""

    changing = False

    def __init__(self, config: pytest.Config, worker: str) -> None:
        super().__init__()
        self._config = config
        self._worker = worker

    def _write(self, line: str, *, changing: bool) -> None:
        with _uncaptured(self._config), contextlib.suppress(OSError):  # the terminal may be closed by now
            sys.stderr.write(f"[{self._worker}] {line}\n")
            sys.stderr.flush()


@contextlib.contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    capture = config.pluginmanager.get_plugin("capturemanager")
    suspended = capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext()
    with suspended:
        yield
