"""The end of a run in a terminal: one table of gates, and why those that did not pass did not.

The plugin prints it in colours when the run ends, and `harness show` again without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.records import Run
from harness.report.rows import GateRow, gates_table
from harness.report.wording import headline, integrity_in_words, judging_in_words, recipe_headline

__all__ = ["SummaryLine", "terminal_summary"]

_LONGEST_NAME = 44
_MOST_WARNINGS = 8
_COLOURS = {"passed": "green", "failed": "red", "not applicable": "cyan"}


class SummaryLine(NamedTuple):
    """A line: its text, its first characters that have a colour of their own, and the colour or "bold" of these.

    coloured: how many characters, or None for all.
    """

    text: str
    style: str = ""
    coloured: int | None = None


def terminal_summary(run: Run, problems: Sequence[str]) -> Iterator[SummaryLine]:
    """problems: what else to say, beside what the run's recipes have."""
    rows = gates_table(run)
    headline_of = {recipe.name: recipe_headline(recipe) for recipe in run.recipes}
    rows = [row._replace(measure=f"{_clipped(row.measure)} {row.slice}".rstrip()) for row in rows]
    widths = [max((len(cell) for cell in column), default=0) for column in zip(*rows, strict=True)]
    shown = None
    for row in rows:
        if row.recipe != shown:  # the recipe heads its rows: as a column it would push them past 100 characters
            yield SummaryLine(f"{row.recipe}: {headline_of[row.recipe]}", "bold")
            shown = row.recipe
        verdict = f"  {row.verdict.ljust(widths[4])}"
        cells = f"  {row.measure.ljust(widths[1])}  {row.value.ljust(widths[2])}  {row.rule}"
        yield SummaryLine(verdict + cells, _COLOURS.get(row.verdict, "yellow"), len(verdict))
    for row in rows:
        if row.verdict != "passed":
            yield SummaryLine("")
            yield SummaryLine(f"{row.recipe}  {row.measure}: {row.reason}")
    yield from _warnings([row for row in rows if row.warning])
    for recipe in run.recipes:
        if not all(check.passed for check in recipe.integrity):
            yield SummaryLine("")
            yield SummaryLine(f"{recipe.name}: integrity of the adapter: {integrity_in_words(recipe)}", "yellow")
        if recipe.judging is not None:
            yield SummaryLine("")
            yield SummaryLine(f"{recipe.name}: judge {judging_in_words(recipe)}")
        if recipe.problem:
            yield SummaryLine("")
            yield SummaryLine(f"{recipe.name}: {recipe.problem}", "yellow")
    for problem in problems:
        yield SummaryLine(problem, "yellow")
    yield SummaryLine("")
    yield SummaryLine(headline(run), "bold")


def _warnings(rows: Sequence[GateRow]) -> Iterator[SummaryLine]:
    """Gates that were asked more than their examples can be expected to decide, passed ones too."""
    if not rows:
        return
    gates = "1 gate asks" if len(rows) == 1 else f"{len(rows)} gates ask"
    yield SummaryLine("")
    yield SummaryLine(f"{gates} more than the test set is likely to decide; plan with `harness plan`", "yellow")
    for row in rows[:_MOST_WARNINGS]:
        yield SummaryLine(f"  {row.recipe}  {row.measure}: {row.warning}")
    if len(rows) > _MOST_WARNINGS:
        yield SummaryLine(f"  and {len(rows) - _MOST_WARNINGS} more, in the report")


def _clipped(name: str) -> str:
    """A measure's name may hold a regular expression; the report has it whole."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 2]}…]"
