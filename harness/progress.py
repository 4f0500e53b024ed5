"""How long work shows where it is."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Receives what long work has done so far. Implementations must not raise and must be cheap."""

    def start(self, task: str, total: int) -> None:
        """A piece of work of `total` units begins."""

    def advance(self, done: int, note: str = "") -> None:
        """`done` units in all are done; note holds figures such as loss and tokens/s."""

    def finish(self, note: str = "") -> None:
        """The piece of work ended."""

    def message(self, line: str) -> None:
        """A line worth reading on its own."""


class Silent:
    """Shows nothing."""

    def start(self, task: str, total: int) -> None: ...
    def advance(self, done: int, note: str = "") -> None: ...
    def finish(self, note: str = "") -> None: ...
    def message(self, line: str) -> None: ...
