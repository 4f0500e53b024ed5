"""Bring what a view answered into the order of the examples, and values into Scores.

An example that has no answer or no usable value is unscored, with a reason; nothing is filled in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from harness.errors import ScoringError
from harness.records import Example, Outputs, Scores

__all__ = ["AnswerSome", "by_id", "check_examples", "chosen", "scores_of", "texts_of", "truncation_note"]

T = TypeVar("T")

AnswerSome = Callable[[str, Sequence[str]], Outputs]
"""(view, ids of examples) -> what the view answers to these, without asking it the others."""


def check_examples(examples: Iterable[Example]) -> tuple[Example, ...]:
    """The examples as a tuple. Raises ScoringError if an id occurs twice: scores could not be told apart."""
    examples = tuple(examples)
    doubled = [i for i, count in Counter(e.id for e in examples).items() if count > 1]
    if doubled:
        raise ScoringError(f"{len(doubled)} example ids occur twice, first {doubled[0]!r}: make every id unique")
    return examples


def chosen(examples: Sequence[Example], ids: Iterable[str]) -> tuple[Example, ...]:
    """The examples with these ids, in the order of all."""
    wanted = frozenset(ids)
    return tuple(example for example in examples if example.id in wanted)


def by_id(what: str, view: str, answered: str, ids: Sequence[str], values: Sequence[T]) -> dict[str, T]:
    """id -> value. Raises ScoringError where the record is of another view or its ids are not one to one."""
    if answered != view:
        raise ScoringError(f"{what} of the view {view!r} were asked for and those of {answered!r} came")
    if len(ids) != len(values):
        raise ScoringError(f"{what} of the view {view!r}: {len(values)} values for {len(ids)} ids")
    found = dict(zip(ids, values, strict=True))
    if len(found) != len(ids):
        doubled = next(i for i, count in Counter(ids).items() if count > 1)
        raise ScoringError(f"{what} of the view {view!r}: {doubled!r} was answered twice")
    return found


def texts_of(outputs: Outputs, view: str) -> dict[str, str]:
    """id -> what the view answered."""
    return by_id("answers", view, outputs.view, outputs.ids, outputs.texts)


def truncation_note(outputs: Outputs, examples: Sequence[Example]) -> str:
    """A caveat for answers that stopped at the token limit, or "" where none did."""
    cut = sum(example.id in outputs.truncated for example in examples)
    return f"{cut} of {len(examples)} answers were cut off at the token limit" if cut else ""


def scores_of(
    measure: str,
    view: str,
    examples: Sequence[Example],
    values: Mapping[str, float],
    unscored: Mapping[str, str],
    *,
    statistic: str = "mean",
    predicted: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
    note: str = "",
) -> Scores:
    """Scores of the examples that have a value, in their order; the others are unscored with their reason.

    values: id -> value. unscored: id -> reason, for each example without a value.
    predicted: id -> predicted label; with it the examples' own labels are the truth.
    """
    reasons = {e.id: unscored.get(e.id, f"no answer from the view {view}") for e in examples if e.id not in values}
    scored = [e for e in examples if e.id in values]
    names = sorted({name for e in examples for name in e.slices})
    return Scores(
        measure=measure,
        view=view,
        ids=tuple(e.id for e in scored),
        values=tuple(float(values[e.id]) for e in scored),
        n_expected=len(examples),
        statistic=statistic,
        truth=None if predicted is None else tuple(e.label or "" for e in scored),
        predicted=None if predicted is None else tuple(predicted[e.id] for e in scored),
        labels=tuple(labels),
        # An example without a group is independent of all others: its id is its own group.
        groups=tuple(e.group or e.id for e in scored) if any(e.group for e in examples) else None,
        slices={name: tuple(e.slices.get(name, "") for e in scored) for name in names},
        bounds=bounds,
        unscored=reasons,
        note=note,
    )
