"""What stands behind a verdict that is not a pass: slices, examples, words. Descriptive; nothing here decides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from harness import statistics
from harness.records import Drivers, Rule, RuleKind, Scores, SliceShare, TermCount

__all__ = ["drivers_of", "over_represented"]

_ROUNDING = 1e-9
_MOST_SLICES = 3
_MOST_IDS = 5
_MOST_TERMS = 5
# A slice with more values than this is nearly an id; its largest ones are looked at.
_MOST_VALUES = 20
# The chance of naming a word, of all that are looked at, where none has to do with failing.
_ERROR = 0.05
# A prior as heavy as the failing texts would hide what occurs in half of them and a tenth of the others.
_PRIOR = 0.1
_FEWEST_WITH_TERM = 3
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")

_Mask = NDArray[np.bool_]


def drivers_of(
    rule: Rule, scores: Scores, baseline: Scores | None, bar: float | None, texts: Mapping[str, str]
) -> Drivers | None:
    """The slices, examples and words behind a drop or a shortfall; None where there is nothing to say.

    scores, baseline: of the same examples in any order, without a problem. bar: the threshold that was not
    cleared, where the rule is one. texts: id -> what was asked, where known.

    A slice's contribution, in the unit of the measure: for a drop, how much of it would be gone if the view
    had answered the slice as the baseline did; for a gain, how far the slice stays behind the gain that was
    asked for; for at_least, what its wrong answers cost beyond what the bar allows for so many examples. For
    the mean of the scores the parts of one slice name add up to the whole.
    """
    if baseline is not None:
        baseline = _reordered(baseline, scores.ids)
    failing = _failing(rule, scores, baseline, bar)
    slices = sorted(_shares(rule, scores, baseline, bar), key=lambda share: (-share.contribution, -share.n))
    order = sorted(np.flatnonzero(failing).tolist(), key=lambda k: (_loss(scores, baseline, k), k))
    ids = [scores.ids[k] for k in order]
    others = [example_id for example_id, bad in zip(scores.ids, failing, strict=True) if not bad]
    drivers = Drivers(
        slices=tuple(share for share in slices if share.contribution > _ROUNDING)[:_MOST_SLICES],
        failing=tuple(ids[:_MOST_IDS]),
        n_failing=len(ids),
        n_others=len(others),
        terms=over_represented(
            [texts[one] for one in ids if one in texts], [texts[one] for one in others if one in texts]
        )[:_MOST_TERMS],
    )
    return drivers if drivers.slices or drivers.failing else None


def over_represented(failing: Sequence[str], others: Sequence[str]) -> tuple[TermCount, ...]:
    """The words that failing texts have more often than the others, the surest first.

    A text counts once for each word in it. The log-odds ratio, by which they are sorted, has an informative
    Dirichlet prior: the words of all texts together, weighing a tenth of the failing ones. Its standard error is
    too small for words of a few texts, so which words are named is decided by Fisher's exact test, one-sided, at
    5 % divided by the number of words that at least 3 texts have.
    Source: Monroe, Colaresi and Quinn 2008, "Fightin' Words", equations 16, 20 and 22.
    """
    inside, outside = (Counter(word for text in texts for word in _words(text)) for texts in (failing, others))
    words = sorted(inside)
    if not words or not outside:
        return ()
    y, z = (np.array([counts[word] for word in words], dtype=np.float64) for counts in (inside, outside))
    n_inside, n_outside = float(inside.total()), float(outside.total())
    weight = _PRIOR * n_inside
    prior = weight * (y + z) / (n_inside + n_outside)
    ratio = np.log((y + prior) / (n_inside + weight - y - prior + _ROUNDING))
    ratio -= np.log((z + prior) / (n_outside + weight - z - prior + _ROUNDING))
    sureness = ratio / np.sqrt(1 / (y + prior) + 1 / (z + prior))
    tested = sum(count >= _FEWEST_WITH_TERM for count in (inside + outside).values())
    # The chance of at least y of the y + z texts with the word being among the failing ones.
    chance = hypergeom.sf(y - 1, len(failing) + len(others), y + z, len(failing))
    found = [
        TermCount(words[k], int(y[k]), int(z[k]), round(float(sureness[k]), 2))
        for k in np.flatnonzero((y >= _FEWEST_WITH_TERM) & (chance * tested <= _ERROR)).tolist()
    ]
    return tuple(sorted(found, key=lambda term: (-term.z, term.term)))


def _words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.casefold()) if len(word) > 1 and not word.isdecimal()}


def _reordered(scores: Scores, ids: Sequence[str]) -> Scores:
    position = {example_id: k for k, example_id in enumerate(scores.ids)}
    order = [position[example_id] for example_id in ids]
    predicted = scores.predicted
    return replace(
        scores,
        ids=tuple(ids),
        values=tuple(scores.values[k] for k in order),
        truth=None if scores.truth is None else tuple(scores.truth[k] for k in order),
        predicted=None if predicted is None else tuple(predicted[k] for k in order),
        groups=None,
        slices={},
    )


def _wrong(scores: Scores) -> _Mask:
    """Which examples count against a statistic of the confusion matrix."""
    truth, predicted = np.array(scores.truth, dtype=object), np.array(scores.predicted, dtype=object)
    wrong = np.asarray(truth != predicted, dtype=np.bool_)
    kind, _, label = scores.statistic.partition(":")
    if not label:
        return wrong
    missed = wrong & np.asarray(truth == label, dtype=np.bool_)
    false_alarm = wrong & np.asarray(predicted == label, dtype=np.bool_)
    if kind == "recall":
        return missed
    return false_alarm if kind == "precision" else np.logical_or(missed, false_alarm)


def _failing(rule: Rule, scores: Scores, baseline: Scores | None, bar: float | None) -> _Mask:
    """The examples to look at: answered worse than before, not better than before, or on the wrong side."""
    values = np.array(scores.values)
    if scores.statistic != "mean":
        if rule.kind is RuleKind.THRESHOLD and bar == rule.at_most and bar != rule.at_least:
            return np.zeros(len(values), dtype=np.bool_)  # an F1 that is too high has no examples to blame
        wrong = _wrong(scores)
        return wrong & ~_wrong(baseline) if rule.kind is RuleKind.DROP and baseline is not None else wrong
    if baseline is not None:
        before = np.array(baseline.values)
        if rule.kind is RuleKind.DROP:
            return np.asarray(values < before - _ROUNDING, dtype=np.bool_)
        return np.asarray((values <= before + _ROUNDING) & (values < scores.bounds[1] - _ROUNDING), dtype=np.bool_)
    if bar is None:
        return np.zeros(len(values), dtype=np.bool_)
    if bar == rule.at_least:
        return np.asarray(values < bar - _ROUNDING, dtype=np.bool_)
    return np.asarray(values > bar + _ROUNDING, dtype=np.bool_)


def _loss(scores: Scores, baseline: Scores | None, k: int) -> float:
    return scores.values[k] - (0.0 if baseline is None else baseline.values[k])


def _shares(rule: Rule, scores: Scores, baseline: Scores | None, bar: float | None) -> Iterator[SliceShare]:
    columns = dict(scores.slices)
    if scores.truth is not None and ":" not in scores.statistic:
        columns.setdefault("label", scores.truth)
    now = statistics.point(scores)
    for name, column in columns.items():
        counts = Counter(value for value in column if value)
        if len(counts) < 2:
            continue  # what all examples share explains nothing
        for value, n in counts.most_common(_MOST_VALUES):
            inside = np.array([one == value for one in column])
            contribution = _contribution(rule, scores, baseline, bar, inside, now)
            if contribution is not None:
                yield SliceShare(name, value, n, contribution)


def _contribution(
    rule: Rule, scores: Scores, baseline: Scores | None, bar: float | None, inside: _Mask, now: float
) -> float | None:
    share = float(inside.mean())
    if baseline is not None:
        gained = now - statistics.point(_answered_as(scores, baseline.values, baseline.predicted, inside))
        return -gained if rule.min_gain is None else share * rule.min_gain - gained
    if bar is None:
        return None
    if scores.statistic == "mean":
        short = float((bar - np.array(scores.values))[inside].sum() / len(inside))
        return short if bar == rule.at_least else -short
    if bar != rule.at_least:
        return None
    right = statistics.point(_answered_as(scores, (1.0,) * len(inside), scores.truth, inside))
    return right - now - share * (1 - bar)


def _answered_as(scores: Scores, values: Sequence[float], predicted: Sequence[str] | None, inside: _Mask) -> Scores:
    """The scores with other answers inside the mask."""
    mixed = tuple(new if use else old for new, old, use in zip(values, scores.values, inside, strict=True))
    answers = scores.predicted
    if answers is not None and predicted is not None:
        answers = tuple(new if use else old for new, old, use in zip(predicted, answers, inside, strict=True))
    return replace(scores, values=mixed, predicted=answers)
