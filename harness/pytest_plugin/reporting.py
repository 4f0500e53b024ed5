"""The end of a run: report files, and the summary in the terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import StoreError
from harness.records import Outcome, Run
from harness.report import report_html, report_json, summary_md, terminal_summary
from harness.report.wording import one_line

if TYPE_CHECKING:
    from harness.tracking import Note

__all__ = ["print_summary", "print_tracking", "write_report"]

_LONGEST_NOTE = 500


def write_report(run: Run, reports: Path) -> Path:
    """reports/<run id>/ with report.json, report.html and summary.md; reports/latest points there.

    Raises StoreError if the files cannot be written.
    """
    folder = reports / run.run_id
    partial = reports / f".{run.run_id}"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("summary.md", summary_md(run)),
            ("report.html", report_html(run)),
            ("report.json", report_json(run)),
        ):
            (partial / name).write_text(text, encoding="utf-8")
        os.replace(partial, folder)
        latest = reports / f".latest-{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            latest.unlink()
        latest.symlink_to(run.run_id, target_is_directory=True)
        os.replace(latest, reports / "latest")
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StoreError(
            f"{folder}: the report cannot be written ({error.strerror}). Choose a folder with --harness-report-dir."
        ) from error
    return folder


def print_summary(
    run: Run, folder: Path | None, problems: Sequence[str], reporter: pytest.TerminalReporter, *, warned: bool = False
) -> None:
    """One table of gates, why those that did not pass did not, and where the report is.

    warned: inconclusive gates did not fail their tests, so that what pytest counts as passed is no verdict.
    """
    inconclusive = sum(g.verdict.outcome is Outcome.INCONCLUSIVE for r in run.recipes for g in r.gates)
    more = list(problems)
    if warned and inconclusive:
        gates = "1 gate is" if inconclusive == 1 else f"{inconclusive} gates are"
        more += [
            "",
            f"{gates} inconclusive. --harness-inconclusive=warn keeps that from failing a test; the run is "
            f"{run.outcome}, not passed.",
        ]
    reporter.section("adapter harness")
    reporter.ensure_newline()  # else pytest ends the line of the last test after the first piece that is written
    for line in terminal_summary(run, more):
        style = {line.style: True} if line.style else {}
        reporter.write(line.text[: line.coloured], **style)
        reporter.write_line("" if line.coloured is None else line.text[line.coloured :])
    if folder is not None:
        reporter.write_line(f"report: {_shown(folder / 'report.html')}")


def print_tracking(notes: Iterable[Note], reporter: pytest.TerminalReporter) -> None:
    """Where each tracker keeps its copy of the run, or why it has none."""
    for note in notes:
        text = one_line(note.text, _LONGEST_NOTE)
        if note.ok:
            reporter.write_line(f"{note.tracker}: {text}")
        else:
            reporter.write_line(f"{note.tracker} has no copy of this run, whose verdict stands: {text}", yellow=True)


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
