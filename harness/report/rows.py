"""The gates of a run as a table of plain strings, for terminals and for Markdown."""

from __future__ import annotations

from typing import NamedTuple

from harness.records import ADAPTER, RecipeResult, RuleKind, Run, Verdict
from harness.report.wording import (
    NOT_MEASURED,
    VERDICT_WORDS,
    correction_in_words,
    digits_of,
    drivers_in_words,
    failed_first,
    interval,
    named_right,
    number,
    one_line,
    signed,
    slice_in_words,
    stand_in,
    target,
    used_in_words,
    view_title,
)

__all__ = ["GateRow", "gates_table", "recipe_rows"]

_LONGEST_NAME = 120
_LONGEST_REASON = 800


class GateRow(NamedTuple):
    """One gate: plain text on one line each, no hidden characters, no markup escaped.

    measure: its name, and the view where it is not the adapter. value: "0.912 [0.880, 0.938]", for a
    comparison "0.912, +0.034 [+0.010, +0.058] vs base"; and " (23 of 60 examples)"
    where it stopped early. verdict: passed, failed, inconclusive, incomplete.
    reason: with what drove the verdict, and notes. slice: "where plan=free", "" for the whole test set.
    warning: why the examples are unlikely to decide what is asked, else "".
    """

    recipe: str
    measure: str
    value: str
    rule: str
    verdict: str
    reason: str
    slice: str
    warning: str


def gates_table(run: Run) -> list[GateRow]:
    """The run's gates, recipe by recipe, what did not pass first."""
    return [row for recipe in run.recipes for row in recipe_rows(recipe)]


def recipe_rows(recipe: RecipeResult) -> list[GateRow]:
    rows = []
    for gate in failed_first(recipe.gates):
        verdict = gate.verdict
        measure = verdict.measure
        if verdict.view != ADAPTER:
            measure += f" ({view_title(verdict.view)})"
        reason = " ".join(filter(None, (verdict.reason, correction_in_words(verdict), drivers_in_words(verdict))))
        if verdict.note and verdict.note not in reason:
            reason = f"{reason} Note: {verdict.note}".strip()
        rows.append(
            GateRow(
                one_line(recipe.name, _LONGEST_NAME),
                one_line(measure, _LONGEST_NAME),
                one_line(_value_text(verdict), _LONGEST_NAME),
                one_line(verdict.rule, _LONGEST_NAME),
                VERDICT_WORDS[verdict.outcome],
                one_line(reason, _LONGEST_REASON),
                one_line(slice_in_words(verdict), _LONGEST_NAME),
                one_line(verdict.warning, _LONGEST_REASON),
            )
        )
    return rows


def _value_text(verdict: Verdict) -> str:
    if verdict.value is None:
        return NOT_MEASURED
    digits = digits_of(verdict.measure)
    bar = target(verdict)
    mark = " (stand-in judge)" if stand_in(verdict.note) else ""
    if verdict.out_of is not None and verdict.n < verdict.out_of:
        mark += f" ({used_in_words(verdict)})"
    if verdict.kind is RuleKind.MUST_PASS:
        return f"{named_right(verdict)}{mark}"
    if verdict.compared_with is None:
        value = number(verdict.value, digits, apart_from=bar)
        return f"{value} {interval(verdict.low, verdict.high, digits)}".rstrip() + mark
    value = number(verdict.value, digits)
    if verdict.difference is None:
        return f"{value}, difference {NOT_MEASURED}{mark}"
    difference = signed(verdict.difference, digits, apart_from=bar)
    between = interval(verdict.difference_low, verdict.difference_high, digits, plus=True)
    return f"{value}, {f'{difference} {between}'.rstrip()} vs {view_title(verdict.compared_with)}{mark}"
