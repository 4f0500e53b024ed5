"""How far a judge's grades agree with people's, and what its grades follow instead.

All intervals resample whole clusters (answers to one question), since these share a reference and a difficulty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from harness.errors import StatisticsError
from harness.records import Estimate
from harness.statistics import bootstrap
from harness.statistics.bootstrap import Floats, Integers, bca_interval
from harness.statistics.means import grouped

__all__ = ["Shift", "grade_counts", "length_bias", "shift", "spearman", "weighted_kappa", "whole_grades"]

_FLIPS = 9_999
_ROUNDING = 1e-12


class Shift(NamedTuple):
    """mean: of the differences. p_value: of a mean as far from 0 were there no shift, two-sided or as asked."""

    mean: float
    p_value: float


def whole_grades(scores: Sequence[float], lowest: int = 1, highest: int = 5) -> Integers:
    """The grades that scores are nearest to, halves up, within lowest..highest: (n,) int."""
    # A weighted mean that should be 3.5 can lie a rounding error below it.
    return np.clip(np.floor(np.asarray(scores, dtype=np.float64) + 0.5 + 1e-9), lowest, highest).astype(np.int64)


def grade_counts(people: Sequence[int], judge: Sequence[int], *, lowest: int = 1, highest: int = 5) -> Integers:
    """(k, k) counts of the k whole grades: people's in rows, the judge's in columns."""
    rows, columns = np.asarray(people), np.asarray(judge)
    counts = np.zeros((highest - lowest + 1, highest - lowest + 1), dtype=np.int64)
    np.add.at(counts, (rows - lowest, columns - lowest), 1)
    return counts


def weighted_kappa(
    people: Sequence[int],
    judge: Sequence[int],
    *,
    clusters: Sequence[str] | None = None,
    lowest: int = 1,
    highest: int = 5,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Cohen's kappa with quadratic weights of whole grades, and its BCa bootstrap interval.

    people, judge: (n,) whole grades within lowest..highest of the same answers. clusters: (n,) or None; answers
    that share one are resampled together. 1 is full agreement, 0 what chance gives with the same marginals. In a
    resample in which both give every answer the same grade, kappa is not defined and counts as 0.
    Raises StatisticsError if lengths differ, there are fewer than two clusters, or people give one grade only.
    Source: Cohen 1968, "Weighted kappa", Psychological Bulletin 70; the value is scikit-learn's.
    """
    from sklearn.metrics import cohen_kappa_score

    rows, columns = _paired_arrays(people, judge)
    grades = list(range(lowest, highest + 1))
    value = float(cohen_kappa_score(rows.astype(int), columns.astype(int), labels=grades, weights="quadratic"))
    return _with_interval(value, lambda weights: _kappa(rows, columns, weights), len(rows), clusters, seed, confidence)


def spearman(
    people: Sequence[float],
    judge: Sequence[float],
    *,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Spearman's rank correlation of scores, and its BCa bootstrap interval. Arguments as `weighted_kappa`.

    Raises StatisticsError as it does, and where the judge gives one score only: ranks are then not defined.
    """
    from scipy.stats import spearmanr

    rows, columns = _paired_arrays(people, judge)
    _check_varied(columns, "the judge")
    value = float(spearmanr(rows, columns).statistic)

    def statistic(weights: Floats) -> Floats:
        return _correlation(_ranks(rows, weights), _ranks(columns, weights), weights)

    return _with_interval(value, statistic, len(rows), clusters, seed, confidence)


def length_bias(
    people: Sequence[float],
    judge: Sequence[float],
    words: Sequence[int],
    *,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """How much more the judge gives for twice the length, among answers that people grade alike.

    words: (n,) length of each answer, at least 1. The value is the coefficient of log2(words) in the least-squares
    regression of the judge's scores on people's scores and log2(words): in grades a doubling, 0 without a bias.
    The rest as in `weighted_kappa`. Raises StatisticsError as it does, and where all answers are of one length.
    """
    rows, columns = _paired_arrays(people, judge)
    doublings = np.log2(np.maximum(np.asarray(words, dtype=np.float64), 1.0))
    if len(doublings) != len(rows):
        raise StatisticsError(f"{len(doublings)} lengths for {len(rows)} answers")
    if np.ptp(doublings) == 0:
        raise StatisticsError("a bias by length is not defined: all answers have the same number of words")
    design = np.column_stack([np.ones(len(rows)), rows, doublings])

    def statistic(weights: Floats) -> Floats:
        squares = np.einsum("bn,ni,nj->bij", weights, design, design)
        products = np.einsum("bn,ni,n->bi", weights, design, columns)
        # The pseudo-inverse: in a resample people's grades and lengths may be all alike.
        return np.asarray(np.einsum("bij,bj->bi", np.linalg.pinv(squares), products)[:, 2])

    value = float(statistic(np.ones((1, len(rows))))[0])
    return _with_interval(value, statistic, len(rows), clusters, seed, confidence)


def shift(differences: Sequence[float], *, alternative: str = "two-sided", seed: int = 0) -> Shift:
    """Whether paired differences are away from 0 by more than chance: the sign-flip permutation test of their mean.

    differences: (n,) of two askings of the same items. If both askings are draws of one distribution, each sign is
    as likely as the other, so the p-value holds for any distribution and any n. alternative: "two-sided" or "greater".
    Raises StatisticsError if there are none. Source: Fisher 1935, "The design of experiments", section 21.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        raise StatisticsError("a shift needs at least one difference")
    mean = float(values.mean())
    if not values.any():
        return Shift(mean, 1.0)
    from scipy.stats import permutation_test

    def average(sample: Floats, axis: int) -> Floats:
        return np.asarray(np.mean(sample, axis=axis))

    found = permutation_test(
        (values,),
        average,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_FLIPS,
        alternative=alternative,
        rng=np.random.default_rng(seed),
    )
    return Shift(mean, float(found.pvalue))


def _kappa(people: Floats, judge: Floats, weights: Floats) -> Floats:
    """1 less the ratio of observed to expected squared distance, which is kappa with quadratic weights: (b,)."""
    share = weights / weights.sum(axis=1, keepdims=True)
    ours, theirs = share @ people, share @ judge
    observed = share @ (people - judge) ** 2
    expected = share @ people**2 + share @ judge**2 - 2 * ours * theirs
    return 1.0 - _ratio(observed, expected, 1.0)


def _ranks(values: Floats, weights: Floats) -> Floats:
    """(b, n) the middle rank of each value where it is there as often as its weight says."""
    before = (values[:, None] < values).astype(np.float64) + 0.5 * (values[:, None] == values)
    ranks: Floats = weights @ before
    return ranks


def _correlation(ours: Floats, theirs: Floats, weights: Floats) -> Floats:
    """(b,) Pearson's, weighted; 0 where one of both does not vary."""
    share = weights / weights.sum(axis=1, keepdims=True)
    ours = ours - np.sum(share * ours, axis=1, keepdims=True)
    theirs = theirs - np.sum(share * theirs, axis=1, keepdims=True)
    scale = np.sqrt(np.sum(share * ours**2, axis=1) * np.sum(share * theirs**2, axis=1))
    return _ratio(np.sum(share * ours * theirs, axis=1), scale, 0.0)


def _ratio(above: Floats, below: Floats, otherwise: float) -> Floats:
    """above / below, and `otherwise` where below is 0 but for rounding."""
    ratio: Floats = np.divide(above, below, out=np.full_like(above, otherwise), where=below > _ROUNDING)
    return ratio


def _paired_arrays(people: Sequence[float], judge: Sequence[float]) -> tuple[Floats, Floats]:
    rows, columns = np.asarray(people, dtype=np.float64), np.asarray(judge, dtype=np.float64)
    if len(rows) != len(columns):
        raise StatisticsError(f"{len(rows)} grades by people for {len(columns)} by the judge")
    _check_varied(rows, "people")
    return rows, columns


def _check_varied(values: Floats, who: str) -> None:
    if len(values) < 2 or np.ptp(values) == 0:
        raise StatisticsError(f"agreement is not defined: {who} graded every answer alike ({len(values)} answers)")


def _with_interval(
    value: float,
    statistic: Callable[[Floats], Floats],
    n: int,
    clusters: Sequence[str] | None,
    seed: int,
    confidence: float,
) -> Estimate:
    """The BCa interval of a statistic, a function of how often each answer is there: (b, n) -> (b,)."""
    found = grouped(clusters, n)
    member = np.arange(n) if found is None else found
    units = int(member.max()) + 1
    if units < 2:
        raise StatisticsError("agreement needs answers to at least two questions for an interval")

    def of_clusters(drawn: Floats) -> Floats:
        return statistic(np.asarray(drawn, dtype=np.float64)[:, member])

    ones, one_stratum = np.ones(units, dtype=np.int64), np.zeros(units, dtype=np.int64)
    rng = np.random.default_rng(seed)
    replicates = bootstrap.resampled(of_clusters, ones, one_stratum, rng=rng, resamples=bootstrap.RESAMPLES)
    if np.ptp(replicates) <= _ROUNDING:
        return Estimate(value, value, value, n, "the same in every resample", confidence)
    without_one = of_clusters(1.0 - np.eye(units))
    low, high = bca_interval(value, replicates, without_one, ones, one_stratum, confidence=confidence)
    method = "BCa bootstrap" if found is None else f"BCa bootstrap of {units} questions"
    return Estimate(value, low, high, n, method, confidence)
