"""One measure over several adapters of one recipe, each trained from its own seed.

A verdict on a recipe is on what training it once more would give, so two things vary: which examples the test set
happens to hold, and how the training happens to go. Their intervals are joined by the method of variance estimates
recovery (MOVER): the squares of the distances from estimate to bound are added. Source: Zou and Donner 2008,
"Construction of confidence limits about effect measures: a general approach", Statistics in Medicine 27.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

from harness.errors import StatisticsError
from harness.records import Estimate
from harness.statistics.bootstrap import Interval

__all__ = ["mean_distances", "over_seeds"]


def over_seeds(values: Sequence[float], examples: Interval, bounds: tuple[float, float]) -> Interval:
    """The mean over the seeds, with an interval for the mean over all seeds and all examples.

    values: (k,) of a measure or difference, one a seed, all on the same examples. examples: an interval of their mean
    for these seeds and other examples. bounds: of the values. The seeds' part is Student's t interval of the mean of
    the values. What varies with both, an example that one seed happens to learn, is in both parts, so the interval
    errs on the wide side. Raises StatisticsError for fewer than two seeds.
    """
    count = len(values)
    if count < 2:
        raise StatisticsError(f"the spread between seeds takes at least two of them, got {count}")
    value, spread = statistics.fmean(values), statistics.stdev(values)

    def at(confidence: float) -> Estimate:
        estimate = examples.at(confidence)
        seeds = float(stdtrit(count - 1, (1 + confidence) / 2)) * spread / math.sqrt(count)
        below, above = estimate.value - estimate.low, estimate.high - estimate.value
        method = (
            f"mean over {count} seeds (standard deviation between them {spread:.3f}, which adds ±{seeds:.3f}; from the "
            f"examples ±{(below + above) / 2:.3f} by {estimate.method}), joined by MOVER"
        )
        low, high = value - math.hypot(below, seeds), value + math.hypot(above, seeds)
        return Estimate(value, max(bounds[0], low), min(bounds[1], high), estimate.n, method, confidence, count)

    return Interval(at, examples.finest)


def mean_distances(intervals: Sequence[Interval]) -> Interval:
    """For statistics that are no mean of examples: the mean of the seeds' values and of their distances to the bounds.

    The mean of several estimates varies with the examples at most as much as they do on average, however they are
    correlated.
    """

    def at(confidence: float) -> Estimate:
        found = [interval.at(confidence) for interval in intervals]
        value = statistics.fmean(one.value for one in found)
        low = value - statistics.fmean(one.value - one.low for one in found)
        high = value + statistics.fmean(one.high - one.value for one in found)
        return Estimate(value, low, high, found[0].n, found[0].method, confidence)

    return Interval(at, max(interval.finest for interval in intervals))
