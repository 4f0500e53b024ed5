from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.errors import StatisticsError
from harness.statistics import mean, paired_mean


def test_independent_examples_have_scipys_t_interval():
    values = np.random.default_rng(0).normal(3, 2, size=40)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    estimate = mean(values.tolist(), confidence=0.9)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((values.mean(), *expected))
    assert estimate.method == "Student's t"


def test_cluster_robust_variance_worked_by_hand():
    # Mean 1/2; residual sums of the groups: a 0, b 1, c -1. CR1: 3/2 * (0 + 1 + 1) / 6^2 = 1/12;
    # t(0.975, 2 degrees of freedom) = 4.302653.
    estimate = mean([1, 0, 1, 1, 0, 0], groups=list("aabbcc"))
    half = 4.302653 * math.sqrt(1 / 12)
    assert (estimate.low, estimate.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    assert "CR1, 3 groups" in estimate.method


def test_groups_of_one_are_no_groups():
    values = [0.1, 0.5, 0.7, 0.9]
    assert mean(values, groups=list("abcd")) == mean(values)


def test_the_interval_is_clipped_to_the_bounds():
    estimate = mean([0.0, 1.0, 0.9, 0.8, 0.95], bounds=(0, 1))
    assert estimate.high == 1.0
    assert estimate.low > 0


def test_equal_values_do_not_make_a_certain_mean():
    # 49 trials after the one that showed the usual value: at most 1 - 0.025^(1/49) of examples lie
    # elsewhere, at worst at the bounds 1 and 5.
    estimate = mean([4.0] * 50, bounds=(1, 5))
    share = 1 - 0.025 ** (1 / 49)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((4, 4 - 3 * share, 4 + share))
    assert "exact bound" in estimate.method


def test_few_departures_are_bounded_by_their_number():
    # 3 of 100 grades below the usual one: Clopper-Pearson's upper limit for 3 in 99 is 0.0860 (scipy).
    estimate = mean([1.0] * 97 + [0.75] * 3, bounds=(0, 1))
    share = stats.binomtest(3, 99).proportion_ci(0.95, method="exact").high
    assert estimate.low == pytest.approx(1 - share)
    assert estimate.high == 1.0
    assert "3 of 100 examples" in estimate.method


def test_the_group_that_departs_may_be_a_large_one():
    # 21 groups, one of 10 and twenty of 1, all examples right: 20 trials, 1 - 0.025^(1/20) = 0.1684 of the
    # groups may be wrong, and a wrong group may have 10 examples where the mean is 30 / 21.
    groups = ["large"] * 10 + [str(i) for i in range(20)]
    estimate = mean([1.0] * 30, groups=groups, bounds=(0, 1))
    assert estimate.low == pytest.approx(max(0.0, 1 - 0.1684 * 10 / (30 / 21)), abs=1e-4)
    pairs = mean([1.0] * 60, groups=["double"] * 4 + [str(i // 2) for i in range(56)], bounds=(0, 1))
    share = 1 - 0.025 ** (1 / 28)
    assert pairs.low == pytest.approx(1 - share * 4 / (60 / 29))


def test_one_value_within_bounds_says_nothing():
    estimate = mean([0.3], bounds=(0, 1))
    assert (estimate.low, estimate.high) == (0, 1)


def test_groups_that_cancel_out_have_hoeffdings_bound():
    # Each of 20 groups has one 0 and one 1: the cluster-robust variance is 0, the uncertainty is not.
    # Hoeffding: sqrt(log(2 / 0.05) * (20 * 2^2) / 2) / 40.
    estimate = mean([0.0, 1.0] * 20, groups=[str(i // 2) for i in range(40)], bounds=(0, 1))
    half = math.sqrt(math.log(40) * 40) / 40
    assert (estimate.low, estimate.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert "Hoeffding" in estimate.method


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "at least one"),
        ({"values": [1.0, math.nan]}, "finite values, got nan"),
        ({"values": [0.5, 1.5], "bounds": (0, 1)}, "1.5 is outside the bounds 0 to 1"),
        ({"values": [0.5, -0.5], "bounds": (0, 1)}, "-0.5 is outside the bounds 0 to 1"),
        ({"values": [2.0, 2.0]}, "all values are equal, and the measure has no bounds"),
        ({"values": [2.0, 2.0], "bounds": (0, math.inf)}, "all values are equal"),
        ({"values": [2.0, 3.0], "groups": ["a", "a"]}, "1 groups do not differ"),
        ({"values": [2.0, 3.0], "groups": ["a"]}, "1 groups for 2 examples"),
    ],
)
def test_where_no_interval_is_defined(arguments, message):
    with pytest.raises(StatisticsError, match=message):
        mean(**arguments)


def test_paired_means_take_out_what_the_views_share():
    rng = np.random.default_rng(1)
    hard = rng.normal(50, 20, size=80)
    candidate, baseline = hard + rng.normal(1, 1, size=80), hard + rng.normal(0, 1, size=80)
    estimate = paired_mean(candidate.tolist(), baseline.tolist())
    expected = stats.ttest_rel(candidate, baseline).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected))
    assert estimate.method == "paired: Student's t"


def test_equal_views_are_not_certainly_equal():
    # Here the usual difference, 0, is known beforehand: 60 trials.
    estimate = paired_mean([0.5] * 60, [0.5] * 60, bounds=(0, 1))
    share = 1 - 0.025 ** (1 / 60)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0, -share, share))


def test_paired_values_must_be_equally_many():
    with pytest.raises(StatisticsError, match="equally many: 2, 1"):
        paired_mean([0.1, 0.2], [0.1])


def covered(draw, truth: float, runs: int, **keywords) -> float:
    hits = 0
    for _ in range(runs):
        values, groups = draw()
        estimate = mean(values, groups=groups, **keywords)
        hits += estimate.low <= truth <= estimate.high
    return hits / runs


def test_intervals_cover_the_true_mean():
    # 600 runs: three standard errors of a coverage of 0.95 are 0.027.
    rng = np.random.default_rng(2)
    assert 0.923 <= covered(lambda: (rng.beta(8, 3, size=60).tolist(), None), 8 / 11, 600, bounds=(0, 1)) <= 0.977


def test_intervals_cover_with_groups_and_would_not_without():
    rng = np.random.default_rng(3)
    groups = [str(i // 5) for i in range(150)]

    def draw():
        return (np.repeat(rng.normal(0, 1, size=30), 5) + rng.normal(0, 0.5, size=150)).tolist(), groups

    assert 0.923 <= covered(draw, 0.0, 600) <= 0.977
    assert covered(lambda: (draw()[0], None), 0.0, 200) < 0.85


def test_a_rare_disaster_is_not_overlooked():
    # 1 in 20 answers drops from 1 to 0, and n = 60 shows 3 of them on average. Student's t alone calls the
    # drop smaller than 0.05, with 95 % confidence, in more than 10 % of test sets.
    rng = np.random.default_rng(4)
    passes = by_t = 0
    for _ in range(500):
        differences = -(rng.random(60) < 0.05).astype(float)
        passes += paired_mean(1 + differences, np.ones(60), bounds=(0, 1), confidence=0.9).low > -0.05
        error = differences.std(ddof=1) / math.sqrt(60)
        by_t += differences.mean() - stats.t.ppf(0.95, 59) * error > -0.05
    assert passes / 500 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)
    assert by_t / 500 > 0.1
