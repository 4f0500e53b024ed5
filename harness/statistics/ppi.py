"""Prediction-powered inference (PPI++): a mean of machine grades, corrected by the human grades at hand.

A judge grades every item, people grade some of them. The mean of the judge's grades is precise and may be off; the
mean of the human grades is right and imprecise. With power tuning, the estimate is never asymptotically less precise
than the human grades alone.

Source: Angelopoulos, Duchi and Zrnic 2023, "PPI++: Efficient prediction-powered inference", arXiv 2311.01453.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from harness.errors import StatisticsError
from harness.records import Estimate
from harness.statistics.bootstrap import Floats
from harness.statistics.means import FEW_DEPARTURES, grouped, mean

__all__ = ["FEWEST_LABELS", "Corrected", "corrected_mean", "labelled"]

FEWEST_LABELS = 20
"""Fewer human grades correct nothing: the spread of their distance to the judge is then not known well enough."""


class Corrected(NamedTuple):
    """estimate: corrected. weight: lambda, how much the judge's grades count, 0 to 1. n_human: graded by people."""

    estimate: Estimate
    weight: float
    n_human: int


def labelled(human: Sequence[float | None] | None) -> int:
    """How many items have a human grade."""
    return 0 if human is None else sum(grade is not None for grade in human)


def corrected_mean(
    judged: Sequence[float],
    human: Sequence[float | None],
    *,
    groups: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Corrected:
    """The mean human grade of all items, from the judge's grade of each and human grades of some.

    judged: (M,) the judge's grades. human: (M,) people's grades of the same answers, None where there is none; which
    items have one must not depend on the answers, as with items drawn at random. For a paired difference give the
    differences of both. groups: (M,) or None; items that share one are not independent. bounds: of a grade.

    With n items of both grades Y, f and N of the judge's f alone, the value is
    mean(Y) + w * (mean of the N f - mean of the n f), its variance var(Y - w f) / n + w^2 var(f) / N, and the weight w
    cov(Y, f) / ((1 + n / N) var(f)), which minimises it, held within 0..1. Two departures from the paper, both
    wider: the weight costs a degree of freedom, so var(Y - w f) is divided by n - 2 and quantiles are Student's t with
    n - 2; and where fewer than 10 items differ from the usual distance of people to the judge, or everything has a
    human grade, w is 0 and the interval that of human grades alone.
    Raises StatisticsError if lengths differ, a grade is not finite, or there are fewer than 20 human grades.
    """
    count = len(judged)
    if len(human) != count:
        raise StatisticsError(f"{len(human)} human grades for {count} judged items; write None where there is none")
    has = np.array([grade is not None for grade in human], dtype=bool)
    people = np.array([grade for grade in human if grade is not None], dtype=np.float64)
    machine = np.asarray(judged, dtype=np.float64)
    if not (np.isfinite(people).all() and np.isfinite(machine).all()):
        raise StatisticsError("a correction needs finite grades")
    n, rest = len(people), count - len(people)
    if n < FEWEST_LABELS:
        raise StatisticsError(f"{n} human grades are too few to correct a judge, {FEWEST_LABELS} are needed")
    weight = _weight(people, machine[has], machine) if rest > 1 else 0.0
    if weight > 0 and _departures(people - weight * machine[has]) < FEW_DEPARTURES:
        weight = 0.0
    member = grouped(groups, count)
    if weight == 0.0:
        of_people = None if groups is None else [group for group, graded in zip(groups, has, strict=True) if graded]
        alone = mean(people.tolist(), groups=of_people, bounds=bounds, confidence=confidence)
        method = f"human grades alone ({n} of {count}): {alone.method}"
        return Corrected(Estimate(alone.value, alone.low, alone.high, count, method, confidence), 0.0, n)
    rectifier, others = people - weight * machine[has], weight * machine[~has]
    value = float(rectifier.mean() + others.mean())
    if member is None:
        variance = float(rectifier.var(ddof=2)) / n + float(others.var(ddof=1)) / rest
        freedom = n - 2
    else:
        influence = np.empty(count)
        influence[has] = (rectifier - rectifier.mean()) / n
        influence[~has] = (others - others.mean()) / rest
        clusters = int(member.max()) + 1
        variance = clusters / (clusters - 1) * float(np.sum(np.bincount(member, weights=influence) ** 2))
        freedom = len(np.unique(member[has])) - 2
    if freedom < 1:
        raise StatisticsError("the human grades are of one or two groups; grade items of other groups too")
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(variance)
    low, high = value - half, value + half
    if bounds is not None:
        value, low, high = (min(max(number, bounds[0]), bounds[1]) for number in (value, low, high))
    method = f"PPI++ with {n} human grades, weight of the judge {weight:.2f}"
    if member is not None:
        method += f", cluster-robust ({int(member.max()) + 1} groups)"
    return Corrected(Estimate(value, low, high, count, method, confidence), weight, n)


def _weight(people: Floats, machine_there: Floats, machine: Floats) -> float:
    """The weight of the judge that makes the variance smallest, held within 0..1."""
    spread = float(machine.var(ddof=1))
    if spread == 0.0:
        return 0.0
    n, rest = len(people), len(machine) - len(people)
    covariance = float(np.cov(people, machine_there, ddof=1)[0, 1])
    return min(1.0, max(0.0, covariance / ((1 + n / rest) * spread)))


def _departures(values: Floats) -> int:
    """How many values differ from the most frequent one."""
    _, counts = np.unique(np.round(values, 9), return_counts=True)
    return len(values) - int(counts.max())
