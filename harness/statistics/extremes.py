"""Intervals where a bootstrap has nothing to resample: all answers right, all wrong, or two views equal.

Every resample of such a sample is that sample, and the bootstrap would claim certainty. What is certain is
a count: in n examples, none departed from the pattern. So the share of examples that do is at most the
exact binomial bound of 0 in n (about 3 in n), and the question left is how far so many examples could
shift the statistic if they fell where it hurts most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.errors import StatisticsError
from harness.statistics.binomial import clopper_pearson
from harness.statistics.bootstrap import Floats

__all__ = ["Shift", "departing_examples", "largest_shift"]


class Shift(NamedTuple):
    """How far a statistic can fall and rise, both not negative."""

    fall: float
    rise: float


def departing_examples(n: int, trials: int, *, confidence: float, inflation: float = 1.0) -> float:
    """How many of n examples may break a pattern that none of so many independent trials broke.

    inflation: size of the largest unit over the mean size, where a trial is a group of examples.
    """
    share = clopper_pearson(0, trials, confidence=confidence)[1] if trials > 0 else 1.0
    return n * min(1.0, inflation * share)


def largest_shift(name: str, hits: Floats, predicted: Floats, support: Floats, departing: float) -> Shift:
    """Bounds on what `departing` examples with other predictions can do to a statistic.

    hits, predicted, support: (k,) diagonal, column sums and row sums of the confusion matrix.
    departing: how many examples get another prediction; their true labels stay.

    With d examples leaving the hits of a label and e wrong ones arriving in its column,

        F1 falls by at most (2 d + F1 e) / (support + predicted), and by no more than F1;
        precision by at most (d + precision e) / predicted, and by no more than itself;
        recall by d / support.

    The first: F1' = 2 (hits - d) / (support + predicted - d + e)
                  >= F1 (1 - d / hits) / (1 + e / (support + predicted)), and 1 / (1 + x) >= 1 - x;
    the second likewise. A rise is a fall back from where it ends, so it has the same slopes, with F1 or
    precision at most 1 and with what is left of `predicted`: no less than the hits, and `departing` less
    than it was. The d and the e of all labels sum to at most `departing` each, and the worst share-out
    puts them on the labels with the steepest slope first.
    """
    kind, weights = _weights(name, support)
    if name == "micro_f1":
        hits, predicted, support = (np.array([margin.sum()]) for margin in (hits, predicted, support))
    ones = np.ones_like(support)
    left = np.maximum(hits, predicted - departing)
    if kind == "recall":
        level, slopes, back = _ratio(hits, support), [_ratio(ones, support)], [_ratio(ones, support)]
    elif kind == "precision":
        level = _ratio(hits, predicted)
        slopes = [_ratio(ones, predicted), _ratio(level, predicted)]
        # A label that was hardly predicted is off the scale: it can rise to 1.
        back = 2 * [1 / np.maximum(left, 1e-9)]
    else:
        level = _ratio(2 * hits, support + predicted)
        slopes = [_ratio(2 * ones, support + predicted), _ratio(level, support + predicted)]
        back = [_ratio(2 * ones, support + left), _ratio(ones, support + left)]
    fall = _worst(weights, level, slopes, departing)
    # Without an example of the label there is nothing to get right.
    rise = _worst(weights, np.where(support > 0, 1 - level, 0.0), back, departing)
    return Shift(fall, rise)


def _weights(name: str, support: Floats) -> tuple[str, Floats]:
    kind, _, label = name.partition(":")
    if label:
        # The statistic of one label: label 0 against the rest.
        return kind, np.array([1.0, 0.0])
    if name == "micro_f1":
        return "f1", np.ones(1)
    if name == "weighted_f1":
        return "f1", support / support.sum()
    if name.startswith("macro_"):
        return name.removeprefix("macro_"), np.full(len(support), 1 / len(support))
    raise StatisticsError(f"no bound is known for {name} where all resamples are equal")


def _worst(weights: Floats, room: Floats, slopes: list[Floats], budget: float) -> float:
    """The most that a weighted sum can change: each label by at most its room, each slope with the budget."""
    total = sum(_steepest_first(weights * slope, weights * room, budget) for slope in slopes)
    return min(total, float(np.sum(weights * room)))


def _steepest_first(slopes: Floats, room: Floats, budget: float) -> float:
    total = 0.0
    for index in np.argsort(-slopes):
        if slopes[index] <= 0 or budget <= 0:
            break
        spent = min(budget, room[index] / slopes[index])
        total += float(spent * slopes[index])
        budget -= spent
    return total


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
