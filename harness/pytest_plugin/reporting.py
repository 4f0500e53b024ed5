"""The end of a run: report files, and the table of gates in the terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.records import Run
from harness.report import (
    GateRow,
    gates_table,
    headline,
    integrity_in_words,
    judging_in_words,
    recipe_headline,
    report_html,
    report_json,
    summary_md,
)

__all__ = ["print_summary", "write_report"]

_LONGEST_NAME = 44
_MOST_WARNINGS = 8
_COLOURS = {"passed": "green", "failed": "red", "inconclusive": "yellow", "incomplete": "yellow"}


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
    rows = gates_table(run)
    headline_of = {recipe.name: recipe_headline(recipe) for recipe in run.recipes}
    reporter.section("adapter harness")
    rows = [row._replace(measure=f"{_clipped(row.measure)} {row.slice}".rstrip()) for row in rows]
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*rows, strict=True)]
    inconclusive = sum(row.verdict == "inconclusive" for row in rows)
    shown = None
    for row in rows:
        if row.recipe != shown:  # the recipe heads its rows: as a column it would push them past 100 characters
            reporter.write_line(f"{row.recipe}: {headline_of[row.recipe]}", bold=True)
            shown = row.recipe
        reporter.write(f"  {row.verdict.ljust(widths[4])}", **{_COLOURS[row.verdict]: True})
        reporter.write_line(f"  {row.measure.ljust(widths[1])}  {row.value.ljust(widths[2])}  {row.rule}")
    for row in rows:
        if row.verdict != "passed":
            reporter.write_line("")
            reporter.write_line(f"{row.recipe}  {row.measure}: {row.reason}")
    _print_warnings([row for row in rows if row.warning], reporter)
    for recipe in run.recipes:
        if not all(check.passed for check in recipe.integrity):
            reporter.write_line("")
            reporter.write_line(f"{recipe.name}: integrity of the adapter: {integrity_in_words(recipe)}", yellow=True)
        if recipe.judging is not None:
            reporter.write_line("")
            reporter.write_line(f"{recipe.name}: judge {judging_in_words(recipe)}")
        if recipe.problem:
            reporter.write_line("")
            reporter.write_line(f"{recipe.name}: {recipe.problem}", yellow=True)
    for problem in problems:
        reporter.write_line(problem, yellow=True)
    if warned and inconclusive:
        gates = "1 gate is" if inconclusive == 1 else f"{inconclusive} gates are"
        reporter.write_line("")
        reporter.write_line(
            f"{gates} inconclusive. --harness-inconclusive=warn keeps that from failing a test; the run is "
            f"{run.outcome}, not passed.",
            yellow=True,
        )
    reporter.write_line("")
    reporter.write_line(headline(run), bold=True)
    if folder is not None:
        reporter.write_line(f"report: {_shown(folder / 'report.html')}")


def _print_warnings(rows: Sequence[GateRow], reporter: pytest.TerminalReporter) -> None:
    """Gates that were asked more than their examples can be expected to decide, passed ones too."""
    if not rows:
        return
    gates = "1 gate asks" if len(rows) == 1 else f"{len(rows)} gates ask"
    reporter.write_line("")
    reporter.write_line(f"{gates} more than the test set is likely to decide; plan with `harness plan`", yellow=True)
    for row in rows[:_MOST_WARNINGS]:
        reporter.write_line(f"  {row.recipe}  {row.measure}: {row.warning}")
    if len(rows) > _MOST_WARNINGS:
        reporter.write_line(f"  and {len(rows) - _MOST_WARNINGS} more, in the report")


def _clipped(name: str) -> str:
    """A measure's name may hold a regular expression; the report has it whole."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 2]}…]"


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
