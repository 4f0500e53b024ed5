"""Parts of a test set: the examples of one value of a slice, and examples that are named one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from harness.errors import GateError
from harness.records import Outcome, RuleKind, Scores, Verdict

__all__ = ["SliceValues", "check_named", "restricted", "slice_values", "with_named"]

T = TypeVar("T")

_ROUNDING = 1e-9
_MOST_NAMED = 5
_LONGEST_ANSWER = 80


@dataclass(frozen=True, slots=True)
class SliceValues:
    """What a slice splits a test set into: value -> ids, for values that can be decided.

    small: value -> number of examples, where there are too few. without: examples that have no value.
    """

    ids: Mapping[str, frozenset[str]]
    small: Mapping[str, int]
    without: int

    @property
    def left_out(self) -> str:
        """The examples that no verdict of the slice is on, in words; "" where there are none."""
        parts = [f"{value} ({count})" for value, count in self.small.items()]
        if self.without:
            parts.append(f"no value ({self.without})")
        return ", ".join(parts)


def slice_values(scores: Scores, name: str, min_n: int) -> SliceValues:
    """The values of a slice, in the order of the examples; an example's value "" means that it has none."""
    found: dict[str, list[str]] = {}
    for example_id, value in zip(scores.ids, scores.slices[name], strict=True):
        found.setdefault(value, []).append(example_id)
    without = len(found.pop("", ()))
    return SliceValues(
        {value: frozenset(ids) for value, ids in found.items() if len(ids) >= min_n},
        {value: len(ids) for value, ids in found.items() if len(ids) < min_n},
        without,
    )


def restricted(scores: Scores, ids: frozenset[str]) -> Scores:
    """The scores of these examples alone, with their labels, groups and slices.

    A macro average is over the labels that they have: one that is absent would count as an F1 of 0.
    """
    kept = [k for k, example_id in enumerate(scores.ids) if example_id in ids]
    truth = None if scores.truth is None else _at(scores.truth, kept)
    labels, note = scores.labels, scores.note
    if truth is not None and scores.statistic.startswith("macro_"):
        labels = tuple(label for label in labels if label in truth)
        if len(labels) < len(scores.labels):
            mean = f"mean over the {len(labels)} of {len(scores.labels)} labels that occur here"
            note = "; ".join(filter(None, (note, mean)))
    return replace(
        scores,
        ids=_at(scores.ids, kept),
        values=_at(scores.values, kept),
        n_expected=len(ids),
        truth=truth,
        predicted=None if scores.predicted is None else _at(scores.predicted, kept),
        labels=labels,
        groups=None if scores.groups is None else _at(scores.groups, kept),
        slices={name: _at(column, kept) for name, column in scores.slices.items()},
        human=None if scores.human is None else _at(scores.human, kept),
        note=note,
        replicates=tuple(restricted(one, ids) for one in scores.replicates),
    )


def check_named(scores: Scores, named: Iterable[str]) -> None:
    """Raises GateError for an id that no example of the measure has."""
    known = {*scores.ids, *scores.unscored}
    unknown = [example_id for example_id in named if example_id not in known]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise GateError(
            f"{scores.measure}: must_pass names {unknown[0]!r}{more}, and the test set has no such example. "
            f"An id of it is {next(iter(scores.ids), 'not there either')!r}."
        )


def with_named(verdict: Verdict, scores: Scores, named: Sequence[str], answers: Mapping[str, str]) -> Verdict:
    """The verdict where the named examples must be right too: with a wrong one it is a fail that names it.

    scores: without a problem, and with all named examples. answers: id -> what the view answered, where known.
    """
    position = {example_id: k for k, example_id in enumerate(scores.ids)}
    # One that must never fail must not with any seed.
    failed = tuple(
        example_id
        for example_id in named
        if not all(_right(one, position[example_id]) for one in scores.replicates or (scores,))
    )
    if verdict.kind is RuleKind.MUST_PASS:
        share = (len(named) - len(failed)) / len(named)
        verdict = replace(verdict, outcome=Outcome.PASS, value=share, n=len(named), lowest=0.0, highest=1.0)
    count = f"{len(named)} named {'example' if len(named) == 1 else 'examples'}"
    if not failed:
        said = f"The {count} {'is' if len(named) == 1 else 'are all'} right."
        return replace(verdict, reason=f"{verdict.reason} {said}".strip())
    wrong = [_answered(scores, position[example_id], answers.get(example_id)) for example_id in failed[:_MOST_NAMED]]
    more = f"; and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
    said = f"{len(failed)} of {count} {'is' if len(failed) == 1 else 'are'} wrong: {'; '.join(wrong)}{more}."
    return replace(
        verdict, outcome=Outcome.FAIL, reason=f"{said} {verdict.reason}".strip(), must_pass_failed=tuple(failed)
    )


def _at(column: Sequence[T], kept: Sequence[int]) -> tuple[T, ...]:
    return tuple(column[k] for k in kept)


def _right(scores: Scores, k: int) -> bool:
    if scores.truth is not None and scores.predicted is not None:
        return scores.truth[k] == scores.predicted[k]
    return scores.values[k] >= scores.bounds[1] - _ROUNDING


def _answered(scores: Scores, k: int, answer: str | None) -> str:
    if scores.truth is not None and scores.predicted is not None:
        return f"{scores.ids[k]} was answered {scores.predicted[k]!r} and is {scores.truth[k]!r}"
    score = f"{scores.ids[k]} has {scores.values[k]:.6g} of {scores.bounds[1]:g}"
    if answer is None:
        return score
    line = " ".join(answer.split())
    return f"{score}, answered {line if len(line) <= _LONGEST_ANSWER else line[: _LONGEST_ANSWER - 1] + '…'!r}"
