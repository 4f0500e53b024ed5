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

__all__ = ["over_seeds"]


def over_seeds(intervals: Sequence[Interval], bounds: tuple[float, float]) -> Interval:
    """The mean over the seeds, with an interval for the mean over all seeds and all examples.

    intervals: of one measure or difference, one a seed, all on the same examples. bounds: of its values.
    The examples' part is the mean of the seeds' own distances: the mean of several estimates varies with the examples
    at most as much as they do on average, however they are correlated. The seeds' part is Student's t interval of the
    mean of the seeds' values. What varies with both, an example that one seed happens to learn, is in both parts, so
    the interval errs on the wide side.
    Raises StatisticsError for fewer than two seeds.
    """
    if len(intervals) < 2:
        raise StatisticsError(f"the spread between seeds takes at least two of them, got {len(intervals)}")

    def at(confidence: float) -> Estimate:
        estimates = [interval.at(confidence) for interval in intervals]
        values = [estimate.value for estimate in estimates]
        value, spread = statistics.fmean(values), statistics.stdev(values)
        count = len(values)
        seeds = float(stdtrit(count - 1, (1 + confidence) / 2)) * spread / math.sqrt(count)
        below = statistics.fmean(estimate.value - estimate.low for estimate in estimates)
        above = statistics.fmean(estimate.high - estimate.value for estimate in estimates)
        method = (
            f"mean over {count} seeds (standard deviation between them {spread:.3f}, which adds ±{seeds:.3f}; from the "
            f"examples ±{(below + above) / 2:.3f} by {estimates[0].method}), joined by MOVER"
        )
        return Estimate(
            value,
            max(bounds[0], value - math.hypot(below, seeds)),
            min(bounds[1], value + math.hypot(above, seeds)),
            estimates[0].n,
            method,
            confidence,
            count,
        )

    return Interval(at, max(interval.finest for interval in intervals))
