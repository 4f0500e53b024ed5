"""Resampling counted units, and the interval that resamples give.

A unit is what is drawn: a cell of a confusion matrix, which stands for `counts` examples, or a group of
examples that are not independent. Drawing cells instead of examples costs the number of cells, not of
examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from harness.errors import StatisticsError
from harness.records import Estimate

__all__ = ["RESAMPLES", "Floats", "Integers", "Interval", "bca_interval", "resampled", "stratified_variance"]


class Interval(NamedTuple):
    """An estimate before it is said how sure it has to be.

    at: confidence -> Estimate; it costs little beside making the Interval, where resampling is done.
    finest: the smallest p-value that can be told from 0.
    """

    at: Callable[[float], Estimate]
    finest: float = 1e-12


Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 10_000
"""Read at each call, so that a simulation of thousands of test sets can do with fewer, and say so."""
# Weights or single draws held in memory at a time: 32 MB of float64.
_CHUNK = 4_000_000
# One binomial draw takes as long as about this many draws from a list (measured on one CPU core).
_DRAWS_PER_BINOMIAL = 15


def resampled(
    statistic: Callable[[Floats], Floats],
    counts: Integers,
    strata: Integers,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Floats:
    """The statistic of every bootstrap resample: (resamples,) float.

    statistic: takes weights (b, units), how often each unit was drawn, and returns (b,).
    counts: (units,) how many draws a unit stands for; positive.
    strata: (units,) which stratum a unit belongs to. As many draws are made in each stratum as it has in
    the sample, so that the test set's label mix stays as it was designed.
    """
    size = max(1, _CHUNK // max(len(counts), int(counts.sum() - counts.max()), 1))
    pieces = []
    for start in range(0, resamples, size):
        pieces.append(statistic(_weights(counts, strata, min(size, resamples - start), rng)))
    return np.concatenate(pieces)


def _weights(counts: Integers, strata: Integers, resamples: int, rng: np.random.Generator) -> Floats:
    weights = np.zeros((resamples, len(counts)))
    for stratum in np.unique(strata):
        units = np.flatnonzero(strata == stratum)
        weights[:, units] = _stratum_weights(counts[units], resamples, rng)
    return weights


def _stratum_weights(counts: Integers, resamples: int, rng: np.random.Generator) -> Floats | Integers:
    """Multinomial draws from one stratum: (resamples, units)."""
    n, units, usual = int(counts.sum()), len(counts), int(np.argmax(counts))
    if units == 1:
        return np.full((resamples, 1), float(n))
    others = n - int(counts[usual])
    if others > units * _DRAWS_PER_BINOMIAL:
        return rng.multinomial(n, counts / n, size=resamples)
    # Most draws hit the largest unit. Counting those at once and drawing the others one by one is several
    # times faster than one binomial for each unit.
    pool = np.repeat(np.arange(units), np.where(np.arange(units) == usual, 0, counts))
    drawn = rng.binomial(n, others / n, size=resamples)
    hit = pool[rng.integers(0, others, size=int(drawn.sum()))]
    keys = np.repeat(np.arange(resamples) * units, drawn) + hit
    weights = np.bincount(keys, minlength=resamples * units).reshape(resamples, units)
    weights[:, usual] = n - drawn
    return weights


def bca_interval(
    value: float,
    replicates: Floats,
    without_one: Floats,
    counts: Integers,
    strata: Integers,
    *,
    confidence: float,
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval.

    replicates: (b,) the resampled statistic.
    without_one: (units,) the statistic with one draw of the unit left out; a unit stands for `counts` equal
    jackknife values, so each is computed once and weighted.
    Raises StatisticsError if the replicates do not vary: such an interval would have no width.
    Source: Efron 1987, "Better bootstrap confidence intervals", JASA 82; the acceleration of a stratified
    sample as in Davison and Hinkley 1997, "Bootstrap methods and their application", section 5.4. Resampling
    n draws with replacement varies (n - 1) / n as much as the sample does; the normal quantiles are widened
    for that (Hesterberg 2015, "What teachers should know about the bootstrap", section 4.1, there called
    the narrowness bias), which matters where strata are small.
    """
    if np.ptp(replicates) == 0.0:
        raise StatisticsError("all bootstrap resamples give the same value: there is no interval to read off")
    below = np.mean(replicates < value) + 0.5 * np.mean(replicates == value)
    # A share of 0 or 1 would put the bias at infinity; half a resample is the finest step there is.
    finest = 0.5 / len(replicates)
    bias = float(ndtri(np.clip(below, finest, 1 - finest)))
    acceleration, widening = _acceleration(_influence(without_one, counts, strata), counts, strata)
    levels = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + widening * float(ndtri(tail))
        stretch = 1 - acceleration * shifted
        if stretch <= 0:
            levels.append(0.0 if tail < 0.5 else 1.0)
        else:
            levels.append(float(ndtr(bias + shifted / stretch)))
    low, high = np.quantile(replicates, levels)
    return min(float(low), value), max(float(high), value)


def stratified_variance(influence: Floats, counts: Integers, strata: Integers) -> float:
    """Variance of a statistic to first order, from what one draw of each unit adds to it.

    influence: (units,), up to a constant. counts, strata: as in `bca_interval`. A stratum of one draw says
    nothing of its variance and adds none. Source: Davison and Hinkley 1997, "Bootstrap methods and their
    application", section 3.2 (the nonparametric delta method of strata).
    """
    return _squares(_influence(influence, counts, strata), counts, strata)[1]


def _influence(without_one: Floats, counts: Integers, strata: Integers) -> Floats:
    """(units,) what one draw of a unit adds to the statistic, less the mean of its stratum."""
    influence = np.empty(len(counts))
    for stratum in np.unique(strata):
        units = strata == stratum
        influence[units] = np.average(without_one[units], weights=counts[units]) - without_one[units]
    return influence


def _squares(influence: Floats, counts: Integers, strata: Integers) -> tuple[float, float]:
    """Sum of squares, and the same with each stratum's n / (n - 1)."""
    squares = unbiased = 0.0
    for stratum in np.unique(strata):
        units = strata == stratum
        square, n = float(np.sum(counts[units] * influence[units] ** 2)), int(counts[units].sum())
        squares += square
        unbiased += square * n / (n - 1) if n > 1 else 0.0
    return squares, unbiased


def _acceleration(influence: Floats, counts: Integers, strata: Integers) -> tuple[float, float]:
    """The acceleration, and the factor that makes up for the narrowness of resampling."""
    squares, unbiased = _squares(influence, counts, strata)
    if squares == 0:
        return 0.0, 1.0
    return float(np.sum(counts * influence**3)) / (6 * squares**1.5), float(np.sqrt(unbiased / squares))
