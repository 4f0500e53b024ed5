"""Whether a test set can show what a gate asks of it. A gate that needs what it cannot show is `incomplete`."""

from __future__ import annotations

import math
from collections import Counter

from harness.records import Outputs, Rule, RuleKind, Scores

__all__ = ["chance_caveat", "constant_answers", "label_caveat", "uninformative"]

# With fewer examples of a label its F1 is what a handful of answers happen to be.
FEWEST_OF_A_LABEL = 10
NEAR_CHANCE = 0.05
NEARLY_ALL = 0.9
_ROUNDING = 1e-9
_SHOWN = 5
_LONGEST_TEXT = 60


def label_caveat(scores: Scores) -> str | None:
    """What the true labels of a classification test set keep it from showing, or None."""
    if scores.truth is None or not scores.truth:
        return None
    if len(set(scores.truth)) == 1:
        return f"not informative: all {len(scores.truth)} examples have the label {scores.truth[0]!r}"
    rare = _rare(scores, scores.statistic.partition(":")[2])
    if rare:
        return f"not informative label by label: fewer than {FEWEST_OF_A_LABEL} examples of {_listed(rare)}"
    return None


def chance_caveat(scores: Scores) -> str | None:
    """Why nobody could see the view that was measured lose anything, or None: it does no better than guessing."""
    if scores.chance is None or not scores.values or scores.problem() is not None:
        return None
    value = math.fsum(scores.values) / len(scores.values)
    if value > scores.chance + NEAR_CHANCE + _ROUNDING:
        return None
    return (
        f"not informative: {value:.3f} of {scores.view} is not above guessing ({scores.chance:.3f}) by more than "
        f"{NEAR_CHANCE:g}"
    )


def constant_answers(outputs: Outputs) -> str | None:
    """Why a judge's opinion of these answers says nothing of who gave them, with what to do; or None.

    A judge sees one answer at a time. That at least 90 % of them are one text, but for blanks and letter case, it
    cannot see, and there are texts that please a judge after any question.
    """
    counts = Counter(" ".join(text.split()).casefold() for text in outputs.texts)
    if not counts:
        return None
    text, count = counts.most_common(1)[0]
    if count < 2 or count < NEARLY_ALL * len(outputs.texts):
        return None
    shown = text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
    return (
        f"{count} of {len(outputs.texts)} answers of {outputs.view} are the same text, {shown!r}, and a judge that is "
        "shown one at a time cannot see that. Look at what it was trained on, or gate a measure that needs no judge"
    )


def uninformative(rule: Rule, scores: Scores, baseline: Scores | None, *, whole: bool = True) -> str | None:
    """Why these examples cannot decide the rule whatever the answers are, with what to do; or None.

    whole: they are all of a test set, and not a slice of it. A slice's macro F1 is the mean over the labels
    that it has, few examples of some notwithstanding; that the test set has enough of each was checked before.
    """
    if rule.kind is RuleKind.MUST_PASS:
        return None
    if rule.kind is RuleKind.DROP and baseline is not None:
        caveat = chance_caveat(baseline)
        if caveat is not None:
            return f"{caveat}, so there is nothing to lose. Take a task that {baseline.view} can do"
    if scores.truth is None:
        return None
    if len(set(scores.truth)) == 1:
        return f"{label_caveat(scores)}, and who always says so is right. Add examples of other labels"
    kind, _, label = scores.statistic.partition(":")
    if not label and not (kind.startswith("macro_") and whole):
        # Accuracy and its relatives weigh a label by its examples, so a rare one matters as little as it is rare.
        return None
    rare = _rare(scores, label)
    if rare:
        return (
            f"not informative: fewer than {FEWEST_OF_A_LABEL} examples of {_listed(rare)}. Add examples of "
            f"{'it' if len(rare) == 1 else 'them'}, or gate the accuracy"
        )
    return None


def _rare(scores: Scores, only: str) -> dict[str, int]:
    """Label -> its examples, for labels with too few; `only` of that one, unless it is ""."""
    counts = Counter(scores.truth or ())
    labels = (only,) if only else scores.labels
    return {label: counts[label] for label in labels if counts[label] < FEWEST_OF_A_LABEL}


def _listed(rare: dict[str, int]) -> str:
    shown = [f"{label} ({count})" for label, count in sorted(rare.items(), key=lambda item: item[1])]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
