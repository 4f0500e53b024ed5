"""Run -> the Markdown of a GitHub job summary, which also fits into a pull request's comment."""

from __future__ import annotations

from harness.records import RecipeResult, Run
from harness.report.json_form import read_report, report_json
from harness.report.markdown import escape as _escape
from harness.report.rows import GateRow, recipe_rows
from harness.report.wording import (
    duration,
    headline,
    integrity_in_words,
    is_ready,
    judge_in_words,
    judge_is_fit,
    judging_in_words,
    moment,
    one_line,
    recipe_headline,
    recipe_is_ready,
)

__all__ = ["LARGEST_SUMMARY", "summary_md"]

# A comment may have 65,536 characters; in bytes and with some room.
LARGEST_SUMMARY = 60_000

_MARKS = {"passed": "✅", "failed": "❌", "inconclusive": "❔", "incomplete": "⚠️", "not applicable": "⏳"}
_LONGEST_PROBLEM = 600
_ROW_LIMITS = (None, 400, 200, 100, 50, 25, 10, 5, 2, 1, 0)


def summary_md(run: Run) -> str:
    """Headline, problems, and a table of gates for each recipe, both with what did not pass first.

    Always under 60,000 bytes in UTF-8: gates that do not fit are counted, passed ones being left out first.
    Text of models and files is shown as text: no markup, mention, link or workflow command comes of it.
    Raises ReportError where report_json does.
    """
    run = read_report(report_json(run))
    # What needs attention first, so that it is not what is cut.
    recipes = sorted(run.recipes, key=recipe_is_ready)
    sections = [(_head(recipe), [_row(row) for row in recipe_rows(recipe)]) for recipe in recipes]
    start, end = _start(run), _end(run)
    for limit in _ROW_LIMITS:
        lines = [*start, *(line for section in sections for line in _section(*section, limit)), *end]
        text = "\n".join(lines).rstrip("\n") + "\n"
        if len(text.encode("utf-8")) < LARGEST_SUMMARY:
            return text
    return _cut(text)


def _start(run: Run) -> list[str]:
    name, started = (_escape(one_line(text, 100)) for text in (run.run_id, moment(run.started_at)))
    lines = [
        f"## {_mark(is_ready(run))} {_escape(headline(run))}",
        "",
        f"Run {name}, started {started}, took {duration(run.duration_seconds)}.",
        "",
    ]
    return [*lines, *map(_problem, run.problems), ""] if run.problems else lines


def _end(run: Run) -> list[str]:
    if not any(recipe.gates for recipe in run.recipes):
        return []
    return [
        "Figures are estimates with their intervals in brackets; for a comparison, the paired difference "
        "to the other view. The full report is `report.html`."
    ]


def _head(recipe: RecipeResult) -> list[str]:
    name = _escape(one_line(recipe.name, 100))
    lines = [f"### {_mark(recipe_is_ready(recipe))} {name}: {_escape(recipe_headline(recipe))}", ""]
    checks = integrity_in_words(recipe)
    if recipe.problem is not None:
        lines.append(_problem(recipe.problem))
    if checks:
        mark = "✅" if all(check.passed for check in recipe.integrity) else "❌"
        lines.append(f"- {mark} Integrity of the adapter: {_escape(one_line(checks, _LONGEST_PROBLEM))}")
    judging = judging_in_words(recipe)
    if judging:
        lines.append(f"- Judging: {_escape(one_line(judging, _LONGEST_PROBLEM))}")
    judge = judge_in_words(recipe)
    if judge:
        lines.append(f"- {'✅' if judge_is_fit(recipe) else '⚠️'} Judge: {_escape(one_line(judge, _LONGEST_PROBLEM))}")
    return [*lines, ""] if lines[-1] else lines


def _section(head: list[str], rows: list[str], limit: int | None) -> list[str]:
    shown = rows if limit is None else rows[:limit]
    lines = list(head)
    if shown:
        lines += ["| Verdict | Measure | Figure | Rule | Reason |", "| :-- | :-- | :-- | :-- | :-- |"]
        lines += [*shown, ""]
    if len(shown) < len(rows):
        lines += [f"{len(rows) - len(shown)} more gates are in report.html.", ""]
    return lines


def _problem(text: str) -> str:
    return f"- **Problem:** {_escape(one_line(text, _LONGEST_PROBLEM))}"


def _row(row: GateRow) -> str:
    cells = [f"{_MARKS[row.verdict]} {row.verdict}"]
    measure = f"{row.measure} {row.slice}".rstrip()
    reason = f"{row.reason} Warning: {row.warning}." if row.warning else row.reason
    cells += [_escape(cell) for cell in (measure, row.value, row.rule, reason)]
    return f"| {' | '.join(cells)} |"


def _mark(ready: bool) -> str:
    return "✅" if ready else "❌"


def _cut(text: str) -> str:
    note = "\nThe rest of this summary did not fit; see `report.html`.\n"
    room = LARGEST_SUMMARY - len(note.encode()) - 1
    kept = text.encode("utf-8")[:room]
    return kept[: kept.rfind(b"\n") + 1].decode("utf-8") + note
