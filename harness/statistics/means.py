"""Means of independent or grouped examples, and of paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from harness.errors import StatisticsError
from harness.records import Estimate
from harness.statistics.binomial import clopper_pearson

__all__ = ["cluster_variance", "grouped", "mean", "paired_mean"]

# With fewer examples off the usual value than this, their number is what is uncertain, and neither a
# variance nor a t quantile says how many more there could have been.
FEW_DEPARTURES = 10


def mean(
    values: Sequence[float],
    *,
    groups: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
    usual: float | None = None,
) -> Estimate:
    """The mean and its interval.

    values: (n,) finite. groups: (n,) or None; examples that share a value are not independent.
    bounds: the lowest and highest value an example can have; None or infinite where there is none.
    usual: a value known beforehand that most examples may have, such as 0 for a difference.

    Student's t interval; with groups, from the cluster-robust variance with the CR1 correction and one
    degree of freedom less than there are groups (Cameron and Miller 2015, "A practitioner's guide to
    cluster-robust inference"). It is clipped to the bounds.

    Where nearly all examples have one value, the sample variance says little or nothing (it is 0 if all
    have it). There the share of examples above the usual value is at most what Clopper and Pearson's exact
    bound allows, likewise below, and each such example may lie at the bound: an interval for any
    distribution within the bounds, the rule of three generalised to a mean.

    Raises StatisticsError if there are no values, one is not finite or out of bounds, or the interval is
    not defined: all values equal, or one group, and no bounds.
    """
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n == 0:
        raise StatisticsError("a mean needs at least one example")
    if not np.isfinite(array).all():
        raise StatisticsError(f"a mean needs finite values, got {array[~np.isfinite(array)][0]}")
    limits = bounds if bounds is not None and all(map(math.isfinite, bounds)) else None
    if bounds is not None and not (bounds[0] <= array.min() and array.max() <= bounds[1]):
        odd = array.min() if array.min() < bounds[0] else array.max()
        raise StatisticsError(f"the value {odd:g} is outside the bounds {bounds[0]:g} to {bounds[1]:g}")
    average = _clip(float(array.mean()), float(array.min()), float(array.max()))
    clusters = grouped(groups, n)
    if limits is not None:
        few = _few_departures(array, clusters, limits, usual, confidence)
        if few is not None:
            low, high, method = few
            return Estimate(average, min(low, average), max(high, average), n, method, confidence)
    if clusters is None:
        units, variance = n, float(array.var(ddof=1)) / n if n > 1 else 0.0
        method = "Student's t"
    else:
        units = int(clusters.max()) + 1
        variance = cluster_variance(array, clusters)
        method = f"Student's t, cluster-robust (CR1, {units} groups)"
    if units > 1 and variance > (1e-12 * max(1.0, abs(average))) ** 2:
        half = float(stdtrit(units - 1, (1 + confidence) / 2)) * math.sqrt(variance)
    elif limits is not None:
        half, method = _hoeffding(clusters, n, limits, confidence), "Hoeffding's bound"
    else:
        what = "all values are equal" if clusters is None else f"{units} groups do not differ"
        raise StatisticsError(
            f"no interval for the mean of {n} examples: {what}, and the measure has no bounds. "
            "Give the measure bounds, or use more examples."
        )
    low, high = average - half, average + half
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Estimate(average, low, high, n, method, confidence)


def paired_mean(
    candidate: Sequence[float],
    baseline: Sequence[float],
    *,
    groups: Sequence[str] | None = None,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """The mean of candidate minus baseline over the same examples, and its interval.

    candidate, baseline: (n,) in the same order, each within bounds. groups as in `mean`.
    Raises StatisticsError as `mean` does, and if the lengths differ.
    Source: Miller 2024, "Adding error bars to evals", arXiv 2411.00640, section 4.
    """
    ours, theirs = np.asarray(candidate, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise StatisticsError(f"paired values must be equally many: {ours.size}, {theirs.size}")
    width = None if bounds is None else bounds[1] - bounds[0]
    differences = (ours - theirs).tolist()
    estimate = mean(
        differences,
        groups=groups,
        bounds=None if width is None else (-width, width),
        confidence=confidence,
        usual=0.0,
    )
    method = f"paired: {estimate.method}"
    return Estimate(estimate.value, estimate.low, estimate.high, estimate.n, method, confidence)


def grouped(groups: Sequence[str] | None, n: int) -> NDArray[np.int64] | None:
    """(n,) index of each example's group, or None where every example is a group of its own.

    Raises StatisticsError if there are not n groups.
    """
    if groups is None:
        return None
    if len(groups) != n:
        raise StatisticsError(f"{len(groups)} groups for {n} examples")
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    return None if len(names) == n else member.astype(np.int64)


def cluster_variance(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """The CR1 variance of the mean; 0 where there is one cluster."""
    count = int(clusters.max()) + 1
    if count < 2:
        return 0.0
    sums = np.bincount(clusters, weights=values - values.mean(), minlength=count)
    return float(count / (count - 1) * np.sum(sums**2) / len(values) ** 2)


def _few_departures(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64] | None,
    limits: tuple[float, float],
    usual: float | None,
    confidence: float,
) -> tuple[float, float, str] | None:
    """Low, high and method where fewer than ten units leave the usual value, at most half of them."""
    member = np.arange(len(values)) if clusters is None else clusters
    units = int(member.max()) + 1
    trials = units
    if usual is None:
        distinct, counts = np.unique(values, return_counts=True)
        usual = float(distinct[np.argmax(counts)])
        # The first unit was used up to say what the usual value is.
        trials = units - 1
    below = len(np.unique(member[values < usual]))
    above = len(np.unique(member[values > usual]))
    departing = len(np.unique(member[values != usual]))
    if departing >= FEW_DEPARTURES or departing > units / 2:
        return None
    # Among the groups that depart may be the largest ones.
    sizes = np.bincount(member)
    inflation = float(sizes.max() / sizes.mean())
    share_below = min(1.0, inflation * _most(below, trials, confidence))
    share_above = min(1.0, inflation * _most(above, trials, confidence))
    low = usual - share_below * (usual - limits[0])
    high = usual + share_above * (limits[1] - usual)
    what = "examples" if clusters is None else "groups"
    return low, high, f"exact bound on departures from {usual:g} ({departing} of {units} {what})"


def _most(departures: int, trials: int, confidence: float) -> float:
    if trials <= departures:
        return 1.0
    return clopper_pearson(departures, trials, confidence=confidence)[1]


def _hoeffding(clusters: NDArray[np.int64] | None, n: int, limits: tuple[float, float], confidence: float) -> float:
    """Half the width, for any dependence within a group. Source: Hoeffding 1963, JASA 58, theorem 2."""
    squares = float(n) if clusters is None else float(np.sum(np.bincount(clusters).astype(np.float64) ** 2))
    return (limits[1] - limits[0]) * math.sqrt(math.log(2 / (1 - confidence)) * squares / 2) / n


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
