"""How problems of data files are collected and shown."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from harness.errors import DataError

__all__ = ["MAX_PROBLEMS", "location", "nearest", "raise_problems", "shown"]

MAX_PROBLEMS = 20
_MAX_SHOWN = 60


def raise_problems(problems: list[str]) -> None:
    """Raises DataError if there are problems: the first 20, and how many more there are."""
    if not problems:
        return
    more = len(problems) - MAX_PROBLEMS
    raise DataError([*problems[:MAX_PROBLEMS], *([f"... and {more} more"] if more > 0 else [])])


def location(path: Path) -> str:
    """A path as messages name it: relative to the working directory where it lies below that."""
    path = Path(os.path.abspath(path))
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return path.as_posix()


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of the names, or None if none is similar."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return close[0] if close else None


def shown(value: object) -> str:
    """A JSON value on one line, and not too long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
