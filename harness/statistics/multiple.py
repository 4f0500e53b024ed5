"""p-values that agree with the intervals, and the correction where several are read together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics.bootstrap import Interval
from harness.statistics.scored import interval

__all__ = ["holm", "p_value"]

_STEPS = 60


def p_value(
    scores: Scores,
    baseline: Scores | None,
    target: float,
    *,
    alternative: Literal["greater", "less"],
    seed: int = 0,
) -> float:
    """One-sided p-value of the measure, or with a baseline of the paired difference, against a target.

    alternative: what a small p-value is evidence for: that the true value lies above the target ("greater",
    the evidence of a pass where high is good) or below it ("less", the evidence of a fail).
    seed: of the resampling, as in `estimate` and `difference`.

    It is the interval turned round: the smallest level at which the one-sided bound clears the target, found
    by bisection, so p < alpha exactly where that bound at confidence 1 - alpha does, for every kind of
    estimate. For Wilson's and Tango's intervals this is their score test, for a mean Student's t test, for
    an exact bound the binomial test. Above one half, where nothing is decided, it is 1 minus the p-value of
    the other alternative, and at least one half. It is never 0: the least is 1e-12, for a bootstrap of one
    view 1 / (resamples + 1).
    Raises StatisticsError if the target is not finite or the scores cannot carry an estimate.
    """
    if alternative not in ("greater", "less"):
        raise StatisticsError(f'alternative must be "greater" or "less", got {alternative!r}')
    if not math.isfinite(target):
        raise StatisticsError(f"{scores.measure}: the target of a test must be a finite number, got {target}")
    of = interval(scores, baseline, seed=seed)
    p = _inverted(of, target, alternative)
    if p is not None:
        return p
    other = _inverted(of, target, "less" if alternative == "greater" else "greater")
    return 0.5 if other is None else 1 - other


def _inverted(of: Interval, target: float, alternative: str) -> float | None:
    """The smallest level below one half at which the bound clears the target; None if there is none."""

    def clears(level: float) -> bool:
        estimate = of.at(1 - 2 * level)
        return estimate.low > target if alternative == "greater" else estimate.high < target

    return _least(clears, of.finest)


def _least(clears: Callable[[float], bool], finest: float) -> float | None:
    low, high = math.log(finest), math.log(0.5 - 1e-6)
    if not clears(math.exp(high)):
        return None
    if clears(finest):
        return finest
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if clears(math.exp(middle)) else (middle, high)
        if high - low < 1e-9:
            break
    return math.exp(high)


def holm(p_values: Sequence[float], level: float) -> tuple[bool, ...]:
    """Which of several hypotheses are rejected so that any false rejection has at most chance `level`.

    p_values: (m,) in [0, 1], in any order and with any dependence. Returns (m,) in the same order.
    Raises StatisticsError for a p-value outside [0, 1] (or NaN) or a level outside (0, 1).
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6.
    """
    if not 0 < level < 1:
        raise StatisticsError(f"the level must lie between 0 and 1, got {level}")
    for p in p_values:
        if not 0 <= p <= 1:
            raise StatisticsError(f"a p-value lies between 0 and 1, got {p}")
    rejected = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(order) - rank):
            break
        rejected[index] = True
    return tuple(rejected)
