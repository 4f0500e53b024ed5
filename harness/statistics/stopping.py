"""Stopping early: a rule on a mean is decided as soon as bets on its examples, in random order, have decided it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics.means import grouped
from harness.statistics.scored import paired
from harness.statistics.sequential import SequentialTest, check_target, ever_decided

__all__ = ["Stop", "UnitTest", "betting_interval", "drawn_units", "spending", "stop_early"]

# Of the way from a bound to the other end of an interval, which is halved this often: a millionth.
_HALVINGS = 20


class Stop(NamedTuple):
    """Where a rule was decided.

    decision: "above" or "below", where the truth lies with the confidence asked for; None if the scores ran
        out undecided.
    used: how many examples that took. order: the indices of the examples in the order they were used.
    left: without a decision, the confidence at which the rule may still be decided on all the examples; None if
        the whole error was spent on stopping early.
    """

    decision: Literal["above", "below"] | None
    used: int
    order: tuple[int, ...]
    left: float | None = None


def drawn_units(groups: Sequence[str] | None, n: int, *, seed: int) -> tuple[tuple[int, ...], ...]:
    """The indices of n examples in random order, those of a group together: (units,) of one example or one group.

    seed: it must not be chosen after looking.
    """
    clusters = grouped(groups, n)
    rng = np.random.default_rng(seed)
    if clusters is None:
        return tuple((int(index),) for index in rng.permutation(n))
    members: list[list[int]] = [[] for _ in range(int(clusters.max()) + 1)]
    for index, cluster in enumerate(clusters):
        members[cluster].append(index)
    return tuple(tuple(members[cluster]) for cluster in rng.permutation(len(members)))


class UnitTest:
    """A SequentialTest of a mean whose examples come in units: single ones, or the examples of a group together.

    target, bounds, confidence: as in SequentialTest, in the unit of an example. sizes: (units,) examples of each
    unit that may come. A unit is one bet, on its sum less that of as many targets: a large group weighs more
    without moving what is tested.
    """

    def __init__(self, target: float, *, sizes: Sequence[int], bounds: tuple[float, float], confidence: float) -> None:
        check_target(target, bounds)
        self.target = target
        self._ends = _ends(target, bounds, sizes)
        self._test = SequentialTest(0.0, bounds=self._ends, confidence=confidence, expected=len(sizes))

    @property
    def decision(self) -> Literal["above", "below"] | None:
        return self._test.decision

    @property
    def used(self) -> int:
        """How many units were looked at."""
        return self._test.used

    def add(self, units: Iterable[Sequence[float]]) -> Literal["above", "below"] | None:
        """The decision after these units, which once made stays; what comes after it is not looked at."""
        for unit in units:
            if self._test.decision is not None:
                break
            self._test.add([_sum(unit, self.target, self._ends)])
        return self._test.decision

    def p_value(self, side: Literal["above", "below"]) -> float:
        """As SequentialTest.p_value."""
        return self._test.p_value(side)


def betting_interval(
    units: Sequence[Sequence[float]],
    *,
    sizes: Sequence[int],
    bounds: tuple[float, float],
    confidence: float,
    rejected: Sequence[tuple[float, Literal["above", "below"]]] = (),
) -> tuple[float, float]:
    """The means that no UnitTest at this confidence decides against, so that each end holds whenever one stops.

    units: the values of those seen. sizes: of all that may come. confidence: of each end by itself.
    rejected: targets that are decided already, and on which side of each the truth is. The ends lie beyond these
    and enclose the mean of what was seen. Found by halving.
    """
    seen = np.array([len(unit) for unit in units])
    sums = np.array([sum(unit) for unit in units])

    def decided(mean: float) -> tuple[bool, bool]:
        ends = _ends(mean, bounds, sizes)
        found = np.clip(sums - seen * mean, *ends)
        return ever_decided(found, 0.0, bounds=ends, confidence=confidence, expected=len(sizes))

    outside = {"above": bounds[0], "below": bounds[1]}
    for target, side in rejected:
        outside[side] = (max if side == "above" else min)(outside[side], target)
    average = float(sums.sum() / seen.sum())
    found = []
    for side, place in (("above", 0), ("below", 1)):
        out, inside = outside[side], average
        for _ in range(_HALVINGS):
            middle = (out + inside) / 2
            if bounds[0] < middle < bounds[1] and decided(middle)[place]:
                out = middle
            else:
                inside = middle
        found.append(inside)
    return found[0], found[1]


def stop_early(
    scores: Scores,
    baseline: Scores | None,
    target: float,
    *,
    confidence: float = 0.95,
    share: float = 1.0,
    seed: int = 0,
) -> Stop:
    """Where a rule on these scores could have stopped, its examples taken in a random order.

    scores: of one view. baseline: of the other one, on the same examples, and then the difference is decided.
    target: the threshold, minus the largest drop allowed, or the gain asked. confidence: the rule's.
    share: of the error that the rule is allowed, how much may be spent on stopping early. With 1 the decision is
    made early or not at all. With less, what does not stop may be decided on all examples as usual at the
    confidence `left`, and both together are wrong no more often than the rule is allowed. With 0.2 it costs about
    3 points of power where that is 80 %; up to 11 were measured at 60 examples, where few outcomes are possible.
    seed: of the order; it must not be chosen after looking.

    Examples of a group come together, as one bet on their sum less that of as many targets.
    Raises StatisticsError if the scores do not belong together, are not a mean, or the target is out of range.
    """
    if scores.statistic not in ("mean", "accuracy"):
        raise StatisticsError(f"{scores.measure}: only a mean of examples can stop early, not {scores.statistic}")
    values, bounds = paired(scores, baseline)
    spent, left = spending(confidence, share, two_sided=baseline is None)
    units = drawn_units(scores.groups, len(values), seed=seed)
    test = UnitTest(target, sizes=[len(unit) for unit in units], bounds=bounds, confidence=spent)
    decision = test.add(values[list(unit)].tolist() for unit in units)
    taken = tuple(index for unit in units[: test.used] for index in unit)
    return Stop(decision, len(taken), taken, None if decision else left)


def spending(confidence: float, share: float, *, two_sided: bool) -> tuple[float, float | None]:
    """The confidence of each early decision, and the one left for all examples; None if nothing is left.

    two_sided: the rule is decided by a two-sided interval at its confidence, as thresholds are.
    Raises StatisticsError for a share that is not above 0 and at most 1, and a confidence outside (0.5, 1).
    """
    if not 0 < share <= 1:
        raise StatisticsError(f"share must be above 0 and at most 1, got {share}")
    if not 0.5 < confidence < 1:
        raise StatisticsError(f"confidence must be above 0.5 and below 1, got {confidence}")
    allowed = (1 - confidence) / 2 if two_sided else 1 - confidence
    return 1 - share * allowed, None if share == 1 else 1 - (1 - share) * (1 - confidence)


def _ends(target: float, bounds: tuple[float, float], sizes: Sequence[int]) -> tuple[float, float]:
    """What the largest unit's sum less its targets can be."""
    largest = max(sizes)
    return (bounds[0] - target) * largest, (bounds[1] - target) * largest


def _sum(unit: Sequence[float], target: float, ends: tuple[float, float]) -> float:
    total = sum(value - target for value in unit)
    return min(max(total, ends[0]), ends[1])  # adding up may go beyond by a rounding error
