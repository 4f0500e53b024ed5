from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

from harness.errors import StatisticsError
from harness.statistics import mcnemar_exact, paired_proportions, proportion
from harness.statistics.binomial import clopper_pearson, wilson
from harness.statistics.proportions import tango


def ones(successes: int, n: int) -> list[float]:
    return [1.0] * successes + [0.0] * (n - successes)


# Newcombe 1998, "Two-sided confidence intervals for the single proportion: comparison of seven methods",
# Statistics in Medicine 17, table I: successes, n, method 3 (Wilson), method 5 (Clopper-Pearson).
NEWCOMBE_TABLE_1 = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("successes", "n", "by_wilson", "by_clopper_pearson"), NEWCOMBE_TABLE_1)
def test_published_intervals(successes, n, by_wilson, by_clopper_pearson):
    assert wilson(successes, n, confidence=0.95) == pytest.approx(by_wilson, abs=5e-5)
    assert clopper_pearson(successes, n, confidence=0.95) == pytest.approx(by_clopper_pearson, abs=5e-5)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 7), (3, 9), (30, 31), (50, 144), (10, 10)])
def test_intervals_are_those_of_scipy(successes, n, confidence):
    result = stats.binomtest(successes, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = result.proportion_ci(confidence, method=method)
        assert ours(successes, n, confidence=confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "n", "method"),
    [(90, 100, "Wilson"), (100, 100, "exact"), (0, 100, "exact"), (5, 9, "exact"), (5, 10, "Wilson")],
)
def test_the_method_is_exact_where_wilson_is_weak(successes, n, method):
    estimate = proportion(ones(successes, n))
    assert method in estimate.method
    assert estimate.value == successes / n
    assert estimate.low < estimate.high
    assert estimate.n == n


@pytest.mark.parametrize(
    ("values", "message"), [([], "at least one"), ([1, 0, 0.5], "0 and 1, got 0.5"), ([math.nan], "got nan")]
)
def test_what_is_no_proportion_is_refused(values, message):
    with pytest.raises(StatisticsError, match=message):
        proportion(values)


def test_groups_widen_the_interval_to_the_effective_number_of_examples():
    # 20 groups of 10 equal answers carry as much as 20 examples: the CR1 variance is p q / (G - 1).
    values = np.repeat(ones(15, 20), 10).tolist()
    groups = np.repeat(np.arange(20), 10).astype(str).tolist()
    estimate = proportion(values, groups=groups)
    quantile = stats.t.ppf(0.975, 19)
    low, high = wilson(0.75 * 19, 19, confidence=0.95, quantile=quantile)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert "20 groups" in estimate.method
    alone = proportion(values)
    assert estimate.high - estimate.low > 2 * (alone.high - alone.low)


def test_groups_of_one_are_no_groups():
    values = ones(30, 40)
    assert proportion(values, groups=[str(i) for i in range(40)]) == proportion(values)


def test_all_right_in_few_groups_is_bounded_by_the_number_of_groups():
    # 12 groups of 10: 11 trials after the one that showed the usual value, so 1 - 0.025^(1/11) = 0.2849.
    estimate = proportion([1.0] * 120, groups=[str(i // 10) for i in range(120)])
    assert estimate.low == pytest.approx(0.025 ** (1 / 11))
    assert estimate.high == 1.0


# Fagerland, Lydersen and Laake 2017, "Statistical Analysis of Contingency Tables", chapter 8: complete
# response before and after consolidation therapy (Cavo et al. 2012), table [[59, 6], [16, 80]]; the numbers
# as the authors' R package contingencytables prints them.
def test_published_paired_interval_and_mcnemar():
    low, high = tango(6, 16, 161, confidence=0.95)
    assert (low, high) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=5e-7)


def test_paired_interval_of_another_implementation():
    # R: PropCIs::scoreci.mp(25, 28, 618, conf.level = 0.90)
    assert tango(28, 25, 618, confidence=0.90) == pytest.approx((-0.0148, 0.0247), abs=5e-5)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 3), (0, 9), (40, 1)])
def test_mcnemar_is_the_binomial_test(wins, losses):
    expected = 1.0 if wins + losses == 0 else stats.binomtest(wins, wins + losses).pvalue
    assert mcnemar_exact(wins, losses) == pytest.approx(expected)


def test_paired_interval_without_disagreement_has_width():
    # With no disagreement, the score test rejects a difference d once n d / (1 - d) > z^2, so the interval
    # ends at z^2 / (n + z^2).
    z2 = stats.norm.ppf(0.975) ** 2
    low, high = tango(0, 0, 100, confidence=0.95)
    assert high == pytest.approx(z2 / (100 + z2), abs=1e-9)
    assert low == pytest.approx(-high, abs=1e-9)


@pytest.mark.parametrize(("wins", "losses", "n"), [(5, 0, 5), (0, 5, 5), (1, 0, 1), (2, 7, 30), (50, 50, 100)])
def test_paired_interval_mirrors_and_stays_in_range(wins, losses, n):
    low, high = tango(wins, losses, n, confidence=0.9)
    assert -1 <= low <= (wins - losses) / n <= high <= 1
    assert low < high
    assert tango(losses, wins, n, confidence=0.9) == pytest.approx((-high, -low), abs=1e-9)


def test_an_end_on_the_far_side_of_no_difference_is_corrected_for_continuity():
    """Of 60 examples 20 won and 3 lost: half an example less than 17 / 60 above the low end, as the test sees it.

    The score test at the low end d, in the form with counts: z = (17 - 60 d - 1/2) / sqrt(60 (2 q + d (1 - d))).
    """
    ours, theirs = [1] * 20 + [0] * 3 + [1] * 37, [0] * 20 + [1] * 3 + [1] * 37
    plain, found = tango(20, 3, 60, confidence=0.9), paired_proportions(ours, theirs, confidence=0.9)
    assert (found.low, found.high) == (pytest.approx(0.1552304, abs=1e-6), pytest.approx(plain[1]))
    a, b = 2 * 60, (2 * 60 - 17) * found.low - 23
    q = (math.sqrt(b * b - 8 * 60 * -3 * found.low * (1 - found.low)) - b) / (2 * a)
    z = (17 - 60 * found.low - 0.5) / math.sqrt(60 * (2 * q + found.low * (1 - found.low)))
    assert z == pytest.approx(stats.norm.ppf(0.95), abs=1e-6)
    mirrored = paired_proportions(theirs, ours, confidence=0.9)
    assert (mirrored.low, mirrored.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    # Where no difference is within the interval it is Tango's as published, and the correction ends there.
    assert paired_proportions([1, 1, 1, 0, 1], [0, 0, 1, 1, 1]).low == tango(2, 1, 5, confidence=0.95)[0]
    ours, theirs = [1] * 4 + [1] * 16, [0] * 4 + [1] * 16
    assert tango(4, 0, 20, confidence=0.9)[0] > 0 > tango(4, 0, 20, confidence=0.95, continuity=0.5)[0]
    assert paired_proportions(ours, theirs, confidence=0.95).low >= 0


def test_paired_proportions_are_candidate_minus_baseline():
    estimate = paired_proportions([1, 1, 1, 0, 1], [0, 0, 1, 1, 1])
    assert estimate.value == pytest.approx(0.2)
    assert "2 won and 1 lost" in estimate.method
    assert "McNemar p = 1" in estimate.method
    with pytest.raises(StatisticsError, match="equally many"):
        paired_proportions([1, 0], [1])
    with pytest.raises(StatisticsError, match="0 and 1"):
        paired_proportions([1, 0.5], [1, 0])


@pytest.mark.parametrize("discordance", [0.0, 0.02, 0.1])
def test_false_pass_rate_at_the_margin_computed_exactly(discordance):
    """A drop of exactly 0.05 is let pass, by the one-sided 95 % bound, in at most about 5 % of test sets.

    Summed over all tables of n = 60 instead of simulated. A score test is not exact: 5.5 % is allowed.
    """
    n, margin = 60, 0.05
    p_win, p_loss = discordance, discordance + margin
    total = false_pass = 0.0
    for wins in range(n + 1 if p_win else 1):
        for losses in range(min(n - wins, 30) + 1):
            same = n - wins - losses
            log_chance = (
                gammaln(n + 1) - gammaln(wins + 1) - gammaln(losses + 1) - gammaln(same + 1)
                + (wins * math.log(p_win) if wins else 0.0)
                + losses * math.log(p_loss) + same * math.log(1 - p_win - p_loss)
            )  # fmt: skip
            if log_chance < math.log(1e-9):
                continue
            total += math.exp(log_chance)
            false_pass += math.exp(log_chance) * (tango(wins, losses, n, confidence=0.90)[0] > -margin)
    assert total == pytest.approx(1, abs=1e-5)
    assert 0.02 < false_pass <= 0.055
