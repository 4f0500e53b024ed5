"""What the commands on earlier runs have in common: the store they look in, and how they name things."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.output import Output
from harness.cli.project import find_project
from harness.cli.usage import CommandError
from harness.errors import StoreError

if TYPE_CHECKING:
    from harness.records import Run
    from harness.store import RunIndex, StoredRun

__all__ = ["add_store", "commit_in_words", "count", "index_of", "record_of", "short", "store_of", "when"]


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", metavar="DIR", type=Path, help="the store to look in (default: the project's, which is .harness)"
    )


def store_of(arguments: Any) -> Path:
    """The store that was named, or the project's."""
    chosen: Path | None = arguments.store
    if chosen is not None and not chosen.is_dir():
        raise CommandError(f"--store {chosen}: there is no such folder; name the folder of a store, e.g. .harness")
    return chosen or find_project(Path.cwd()).folder("store")


def record_of(root: Path, named: str) -> tuple[StoredRun, Run]:
    """The recorded run that was named, and what its report says. Raises CommandError if there is no such run."""
    from harness.pipeline.history import recorded
    from harness.store import find_run

    try:
        run_id = find_run(root, named)
    except StoreError as error:
        raise CommandError(str(error)) from None
    return recorded(root, run_id)


def index_of(root: Path, output: Output) -> RunIndex:
    """The index of the store; what it cannot read is said."""
    from harness.pipeline.history import open_index

    index = open_index(root)
    for problem in index.problems:
        output.problem(f"error: {problem}")
    return index


def count(text: str) -> int:
    """The type of an option that counts. Raises ArgumentTypeError for what is no count from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs; write 1 or more")
    return int(text)


def when(started_at: str) -> str:
    """ "2026-11-23 14:07 UTC", or the text itself where it is no time."""
    try:
        moment = datetime.fromisoformat(started_at)
    except ValueError:
        return started_at
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def short(digest: str | None) -> str:
    return "none" if digest is None else digest[:8]


def commit_in_words(commit: str | None, dirty: bool | None) -> str:
    if commit is None:
        return "no commit"
    return f"{commit[:7]} and changes" if dirty else commit[:7]
