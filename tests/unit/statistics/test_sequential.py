from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics import (
    SequentialTest,
    UnitTest,
    betting_interval,
    confidence_sequence,
    difference,
    estimate,
    stop_early,
)
from harness.statistics.sequential import _capital, ever_decided


def scores(values, view="adapter", **fields):
    ids = tuple(f"e{i}" for i in range(len(values)))
    fields = {"measure": "m.score", "view": view, "ids": ids, "n_expected": len(values), **fields}
    return Scores(values=tuple(map(float, values)), **fields)


def test_the_first_bets_by_hand():
    """Against a mean of 0.5 at alpha = 0.05, all right: Waudby-Smith and Ramdas 2023, equation 26.

    The first stake would be sqrt(2 log 20 / (0.25 * 1 * log 2)) = 5.9 and is cut to 0.75 / 0.5 = 1.5, as are the
    next, so each right answer multiplies the capital by 1 + 1.5 * 0.5: 1.75^5 = 16.4 < 20 < 1.75^6 = 28.7.
    """
    test = SequentialTest(0.5)
    assert test.add([1.0] * 5) is None
    assert test.add([1.0]) == "above"
    assert test.used == 6
    # Decided is decided.
    assert test.add([0.0] * 100) == "above"
    assert test.used == 6
    assert SequentialTest(0.5).add([0.0] * 6) == "below"


def test_later_stakes_by_hand():
    """Scores of 0.5 and 0.9 against 0.1. Stakes: 0.75 / 0.1 caps nothing below it.

    t = 1: variance 1/4. t = 2: mean (0.5 + 0.5) / 2 = 0.5, variance (0.25 + 0) / 2 = 0.125.
    """
    test = SequentialTest(0.1, confidence=0.6)
    log_bar = math.log(1 / 0.4)
    first = math.sqrt(2 * log_bar / (0.25 * 1 * math.log(2)))
    second = math.sqrt(2 * log_bar / (0.125 * 2 * math.log(3)))
    test.add([0.5])
    assert _capital(test._above) == pytest.approx(math.log1p(first * 0.4))
    expected = math.log1p(first * 0.4) + math.log1p(second * 0.8)
    test.decision = None
    test.add([0.9])
    assert _capital(test._above) == pytest.approx(expected)


@pytest.mark.parametrize("expected", [None, 10])
@pytest.mark.parametrize("mean", [0.2, 0.5, 0.9])
def test_no_way_of_betting_makes_money_where_the_mean_is_right(expected, mean):
    """The mean capital over all 2^10 sequences of right and wrong answers is 1, and few ever see a decision."""
    capital = {"above": 0.0, "below": 0.0}
    decided = {"above": 0.0, "below": 0.0}
    for sequence in itertools.product((0.0, 1.0), repeat=10):
        chance = math.prod(mean if x else 1 - mean for x in sequence)
        # Too sure to stop: what is left of the capital at the end.
        test = SequentialTest(mean, confidence=1 - 1e-15, expected=expected)
        test.add(sequence)
        assert test.decision is None
        capital["above"] += chance * math.exp(_capital(test._above))
        capital["below"] += chance * math.exp(_capital(test._below))
        test = SequentialTest(mean, confidence=0.8, expected=expected)
        if test.add(sequence) is not None:
            decided[test.decision] += chance
    assert capital == {"above": pytest.approx(1), "below": pytest.approx(1)}
    assert max(decided.values()) <= 0.2
    assert max(decided.values()) > 0.02


def test_batches_make_no_difference():
    x = np.random.default_rng(0).random(300)
    whole, parts = SequentialTest(0.42, expected=300), SequentialTest(0.42, expected=300)
    whole.add(x.tolist())
    for start in range(0, 300, 7):
        parts.add(x[start : start + 7].tolist())
    assert (whole.decision, whole.used) == (parts.decision, parts.used) == ("above", whole.used)
    assert 7 < whole.used < 300


def test_bounds_are_only_a_scale():
    x = np.random.default_rng(1).random(200)
    plain, grades = SequentialTest(0.4), SequentialTest(2.6, bounds=(1.0, 5.0))
    plain.add(x.tolist())
    grades.add((1 + 4 * x).tolist())
    assert (plain.decision, plain.used) == (grades.decision, grades.used)


def test_a_confidence_sequence_holds_the_mean_at_all_times():
    rng = np.random.default_rng(2)
    missed = {"two": 0, "lower": 0, "upper": 0}
    for _ in range(150):
        x = rng.beta(2, 5, size=120)
        for sides in missed:
            low, high = confidence_sequence(x, confidence=0.9, sides=sides)
            missed[sides] += not ((low <= 2 / 7) & (high >= 2 / 7)).all()
            # A running intersection.
            assert (np.diff(low) >= 0).all()
            assert (np.diff(high) <= 0).all()
            assert (low < high).all()
    assert max(missed.values()) <= 150 * 0.1
    assert (confidence_sequence(x, sides="lower")[1] == 1).all()
    assert (confidence_sequence(x, sides="upper")[0] == 0).all()


def test_a_confidence_sequence_is_the_test_turned_round():
    x = np.random.default_rng(3).binomial(4, 0.8, size=150) + 1.0
    low, _ = confidence_sequence(x, bounds=(1.0, 5.0), sides="lower")
    _, high = confidence_sequence(x, bounds=(1.0, 5.0), sides="upper")
    for target in np.linspace(2.5, 4.8, 24):
        test = SequentialTest(float(target), bounds=(1.0, 5.0))
        test.add(x.tolist())
        # But for one step of the grid, 0.004.
        if test.decision == "above":
            assert low[-1] > target - 0.0081
            assert low[test.used - 2] < target + 1e-9
        elif test.decision == "below":
            assert high[-1] < target + 0.0081
        else:
            assert low[-1] - 1e-9 <= target <= high[-1] + 1e-9
    both = confidence_sequence(x, bounds=(1.0, 5.0))
    # Two sides cost width: each has half of the error.
    assert both[0][-1] < low[-1] < x.mean() < high[-1] < both[1][-1]


def test_a_confidence_sequence_narrows_to_little_more_than_an_interval():
    x = np.random.default_rng(4).random(2000)
    low, high = confidence_sequence(x)
    half = stats.t.ppf(0.975, 1999) * x.std(ddof=1) / math.sqrt(2000)
    assert half < (high[-1] - low[-1]) / 2 < 2.5 * half
    assert (low[0], high[0]) == (pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1))


# ---- rules on scores


def pair(n, gain, seed=0, flip=0.15):
    rng = np.random.default_rng(seed)
    case = rng.choice(3, size=n, p=[1 - flip, (flip + gain) / 2, (flip - gain) / 2])
    return scores((case != 2).astype(float)), scores((case != 1).astype(float), "base")


def test_a_clear_gain_is_seen_early():
    ours, theirs = pair(500, 0.13)
    stop = stop_early(ours, theirs, 0.0)
    assert stop.decision == "above"
    assert 20 < stop.used < 250
    assert len(set(stop.order)) == stop.used
    assert stop_early(ours, theirs, 0.0) == stop
    assert stop_early(ours, theirs, 0.0, seed=1).order != stop.order
    assert stop_early(theirs, ours, 0.0).decision == "below"
    # The examples and not their order in the file count.
    backwards = replace(theirs, ids=theirs.ids[::-1], values=theirs.values[::-1])
    assert stop_early(ours, backwards, 0.0) == stop


def test_what_is_not_decided_early_keeps_the_rest_of_the_error():
    ours, theirs = pair(100, 0.0)
    stop = stop_early(ours, theirs, -0.03, share=0.2)
    assert (stop.decision, stop.used) == (None, 100)
    # One fifth of 5 % was for stopping early.
    assert stop.left == pytest.approx(0.96)
    assert stop_early(ours, theirs, -0.03).left is None
    assert stop_early(ours, theirs, -0.9, share=0.2).left is None


def test_a_threshold_is_decided_as_surely_as_its_two_sided_interval():
    x = scores([1.0] * 40)
    low = [1 - 0.75, 0.5]
    # Each right answer multiplies the capital by 1 + 0.75 / m * (1 - m) at most.
    for target in low:
        growth = math.log1p(0.75 / target * (1 - target))
        assert stop_early(x, None, target).used >= math.ceil(math.log(1 / 0.025) / growth)
        assert stop_early(x, None, target).decision == "above"


def test_groups_come_together_and_count_once():
    rng = np.random.default_rng(5)
    right = rng.random(60) < 0.8
    sizes = rng.integers(1, 6, size=60)
    values = np.repeat(right.astype(float), sizes)
    groups = tuple(f"g{i:02}" for i in np.repeat(np.arange(60), sizes))
    stop = stop_early(scores(values, groups=groups), None, 0.5)
    alone = stop_early(scores(values), None, 0.5)
    assert stop.decision == alone.decision == "above"
    assert stop.used > alone.used
    # Whole groups, one after the other.
    seen = [groups[index] for index in stop.order]
    assert [name for name, _ in itertools.groupby(seen)] == list(dict.fromkeys(seen))


def test_accuracy_stops_as_the_mean_of_its_hits():
    truth = tuple("abab" * 30)
    predicted = tuple("abaa" * 15 + "abab" * 15)
    hits = [float(a == b) for a, b in zip(truth, predicted, strict=True)]
    given = scores(hits, statistic="accuracy", truth=truth, predicted=predicted, labels=("a", "b"))
    assert stop_early(given, None, 0.5) == stop_early(scores(hits), None, 0.5)
    with pytest.raises(StatisticsError, match="only a mean of examples can stop early, not macro_f1"):
        stop_early(replace(given, statistic="macro_f1"), None, 0.5)


def test_early_decisions_agree_with_the_intervals_of_all_examples():
    for seed in range(20):
        ours, theirs = pair(300, 0.08, seed)
        stop = stop_early(ours, theirs, -0.02, seed=seed)
        if stop.decision == "above":
            assert difference(ours, theirs, confidence=0.9).high > -0.02
        stop = stop_early(ours, None, 0.7, seed=seed)
        assert stop.decision == "above"
        assert estimate(ours).low > 0.7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SequentialTest(0.0), "a target of 0 leaves nothing to decide between the bounds 0 and 1"),
        (lambda: SequentialTest(math.nan), "a target of nan"),
        (lambda: SequentialTest(0.5, confidence=0.4), "confidence must be above 0.5 and below 1, got 0.4"),
        (lambda: SequentialTest(0.5, bounds=(0.0, math.inf)), "needs finite bounds, got 0 to inf"),
        (lambda: SequentialTest(0.5, expected=0), "at least one score must be expected, got 0"),
        (lambda: SequentialTest(0.5).add([0.5, 1.2]), "the score 1.2 is not between 0 and 1"),
        (lambda: SequentialTest(0.5).add([math.nan]), "the score nan is not between"),
        (lambda: confidence_sequence([0.5, math.nan]), "the score nan is not between 0 and 1"),
        (lambda: stop_early(scores([1, 0]), None, 0.5, share=0.0), "share must be above 0 and at most 1, got 0.0"),
        (lambda: stop_early(scores([1, 0]), None, 0.5, confidence=1.0), "confidence must be above 0.5 and below 1"),
        (lambda: stop_early(scores([1, math.nan]), None, 0.5), "the score of e1 is nan"),
        (lambda: stop_early(scores([1, 0]), scores([1], "base"), 0.1), "not scored on the same examples"),
    ],
)
def test_what_cannot_be_bet_on_is_refused(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()


def test_five_hundred_examples_take_well_under_a_second():
    ours, theirs = pair(500, 0.0)
    started = time.perf_counter()
    stop_early(ours, theirs, -0.001)
    confidence_sequence(ours.values)
    assert time.perf_counter() - started < 1


# ---- units that come one by one


@pytest.mark.parametrize("sizes", [[1] * 80, [1, 2, 5, 4] * 20])
def test_the_interval_is_clear_of_a_target_exactly_where_bets_decide_it(sizes):
    rng = np.random.default_rng(6)
    units = [(rng.random(size) < 0.85).astype(float).tolist() for size in sizes]
    low, high = betting_interval(units, sizes=sizes, bounds=(0.0, 1.0), confidence=0.95)
    mean = sum(map(sum, units)) / sum(sizes)
    assert 0.5 < low < mean < high < 1
    for target in np.linspace(0.5, 0.99, 30):
        decision = UnitTest(target, sizes=sizes, bounds=(0.0, 1.0), confidence=0.95).add(units)
        # Halving ends within a millionth of the way.
        if target < low - 1e-5:
            assert decision == "above"
        elif target > high + 1e-5:
            assert decision == "below"
        elif low + 1e-5 < target < high - 1e-5:
            assert decision is None


def test_asking_about_many_targets_is_adding_scores_to_each():
    x = np.random.default_rng(7).random(90)
    for target in np.linspace(0.05, 0.95, 19):
        test = SequentialTest(float(target), expected=120)
        test.add(x.tolist())
        above, below = ever_decided(x, float(target), bounds=(0.0, 1.0), confidence=0.95, expected=120)
        assert {"above": above, "below": below, None: not (above or below)}[test.decision]


def test_an_interval_lies_beyond_what_was_rejected_and_around_the_mean():
    units = [[1.0], [0.0]] * 3
    options = {"sizes": [1] * 60, "bounds": (0.0, 1.0), "confidence": 0.95}
    low, high = betting_interval(units, **options)
    assert low < 0.3
    assert high > 0.7
    low, high = betting_interval(units, rejected=[(0.4, "above"), (0.6, "below")], **options)
    assert 0.4 < low <= 0.5 <= high < 0.6


def test_the_interval_holds_the_mean_at_a_stop_chosen_by_looking():
    """Stopped where a bar at 0.75 is decided, the worst moment to look: each end misses in at most 5 %."""
    rng = np.random.default_rng(8)
    missed = [0, 0]
    for _ in range(200):
        units = [[value] for value in (rng.random(80) < 0.8).astype(float).tolist()]
        test = UnitTest(0.75, sizes=[1] * 80, bounds=(0.0, 1.0), confidence=0.95)
        test.add(units)
        low, high = betting_interval(units[: test.used], sizes=[1] * 80, bounds=(0.0, 1.0), confidence=0.95)
        missed[0] += low > 0.8
        missed[1] += high < 0.8
    assert max(missed) <= 200 * 0.08
    assert sum(missed) > 0


def test_the_p_value_of_a_bet_is_what_the_capital_says():
    """Four right answers multiply the capital by 1.75 each; it starts at 1, where nothing is known."""
    test = SequentialTest(0.5)
    assert test.p_value("above") == 1.0
    test.add([1.0] * 4)
    assert test.p_value("above") == pytest.approx(1.75**-4)
    assert test.p_value("below") == 1.0


def test_a_unit_of_equal_extremes_is_no_rounding_error():
    sizes = [6, 10, 7]
    for target in (0.1, 0.3, 0.7):
        test = UnitTest(target, sizes=sizes, bounds=(0.0, 1.0), confidence=1 - 1e-15)
        assert test.add([[1.0] * size for size in sizes] + [[0.0] * size for size in sizes]) is None
        assert test.used == 6
    with pytest.raises(StatisticsError, match="a target of 1 leaves nothing to decide between the bounds 0 and 1"):
        UnitTest(1.0, sizes=sizes, bounds=(0.0, 1.0), confidence=0.95)
