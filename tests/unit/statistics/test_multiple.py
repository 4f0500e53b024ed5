from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics import difference, estimate, holm, p_value
from harness.statistics.proportions import tango_score

LABELS = ("a", "b", "c")


def scores(values, view="adapter", **fields):
    ids = tuple(f"e{i}" for i in range(len(values)))
    fields = {"measure": "m.score", "view": view, "ids": ids, "n_expected": len(values), **fields}
    return Scores(values=tuple(map(float, values)), **fields)


def labelled(accuracy, view="adapter", statistic="macro_f1", seed=0, n=90):
    rng = np.random.default_rng(seed)
    truth = [LABELS[i % 3] for i in range(n)]
    predicted = [label if rng.random() < accuracy else LABELS[rng.integers(3)] for label in truth]
    return scores(
        [float(a == b) for a, b in zip(truth, predicted, strict=True)],
        view,
        statistic=statistic,
        truth=tuple(truth),
        predicted=tuple(predicted),
        labels=LABELS,
    )


def drawn(seed, low=0.0, high=1.0, n=60):
    return np.random.default_rng(seed).uniform(low, high, size=n)


BINARY = [1] * 41 + [0] * 9
OTHER = [1] * 32 + [0] * 12 + [1] * 6
GROUPS = tuple(f"g{i // 2}" for i in range(50))
# name: the scores, and the baseline or None.
KINDS = {
    "Wilson": (scores(BINARY), None),
    "Clopper-Pearson": (scores([1] * 7 + [0] * 2), None),
    "Wilson in groups": (scores(BINARY, groups=GROUPS), None),
    "t": (scores(drawn(0)), None),
    "t in groups": (scores(drawn(0, n=50), groups=GROUPS), None),
    "few departures": (scores([1.0] * 55 + [0.4, 0.2, 0.7]), None),
    "Tango": (scores(BINARY), scores(OTHER, "base")),
    "paired t": (scores(drawn(0)), scores(drawn(1, 0.0, 0.9), "base")),
    "paired in groups": (scores(BINARY, groups=GROUPS), scores(OTHER, "base", groups=GROUPS)),
    "BCa": (labelled(0.8), None),
    "share of a label": (labelled(0.8, statistic="f1:a"), None),
    "all right": (labelled(1.0), None),
    "joint cells": (labelled(0.85), labelled(0.75, "base", seed=1)),
    "views agree": (labelled(0.85), labelled(0.85, "base")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_p_value_is_below_alpha_exactly_where_the_bound_clears(kind):
    ours, theirs = KINDS[kind]
    middle = estimate(ours, confidence=0.9) if theirs is None else difference(ours, theirs, confidence=0.9)
    width = middle.high - middle.low
    decided = 0
    for step, alternative in itertools.product((-1.0, -0.6, -0.45, -0.2, 0.2, 0.45, 0.6, 1.0), ("greater", "less")):
        target = middle.value + step * width
        p = p_value(ours, theirs, target, alternative=alternative)
        assert 0 < p < 1
        for alpha in (0.005, 0.025, 0.05, 0.1, 0.3):
            if abs(p - alpha) < 1e-6:
                continue
            confidence = 1 - 2 * alpha
            if theirs is None:
                bound = estimate(ours, confidence=confidence)
            else:
                bound = difference(ours, theirs, confidence=confidence)
            clears = bound.low > target if alternative == "greater" else bound.high < target
            assert (p < alpha) == clears, (target, alternative, alpha, p)
            decided += clears
    # Some are decided and some are not, in both directions.
    assert 5 < decided < 75


def test_p_values_of_means_are_those_of_the_t_test():
    ours, theirs = drawn(2), drawn(3)
    for alternative in ("greater", "less"):
        expected = stats.ttest_1samp(ours, 0.45, alternative=alternative).pvalue
        assert p_value(scores(ours), None, 0.45, alternative=alternative) == pytest.approx(expected, rel=1e-5)
        expected = stats.ttest_rel(ours, theirs - 0.1, alternative=alternative).pvalue
        found = p_value(scores(ours), scores(theirs, "base"), -0.1, alternative=alternative)
        assert found == pytest.approx(expected, rel=1e-5)


def test_p_values_of_proportions_are_those_of_their_tests():
    # Wilson's interval inverts the score test, Clopper and Pearson's the binomial one.
    z = (41 / 50 - 0.7) / math.sqrt(0.7 * 0.3 / 50)
    assert p_value(scores(BINARY), None, 0.7, alternative="greater") == pytest.approx(stats.norm.sf(z), rel=1e-5)
    expected = stats.binomtest(7, 9, 0.4, alternative="greater").pvalue
    found = p_value(scores([1] * 7 + [0] * 2), None, 0.4, alternative="greater")
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_p_value_of_no_difference_is_mcnemars():
    # Tango's score at 0 is (b - c) / sqrt(b + c) (McNemar 1947), here with half an example taken off.
    wins = sum(a > b for a, b in zip(BINARY, OTHER, strict=True))
    losses = sum(a < b for a, b in zip(BINARY, OTHER, strict=True))
    expected = stats.norm.sf((wins - losses - 0.5) / math.sqrt(wins + losses))
    assert expected < 0.5
    found = p_value(scores(BINARY), scores(OTHER, "base"), 0.0, alternative="greater")
    assert found == pytest.approx(expected, rel=1e-5)
    # On the near side of 0 there is no correction: 20 won and 17 lost of 50 against a drop of 0.1.
    ours, theirs = [1] * 20 + [0] * 17 + [1] * 13, [0] * 20 + [1] * 17 + [1] * 13
    score = tango_score(np.array([20.0]), np.array([17.0]), 50, -0.1)[0]
    found = p_value(scores(ours), scores(theirs, "base"), -0.1, alternative="greater")
    assert found == pytest.approx(stats.norm.sf(score), rel=1e-5)


def test_the_bootstraps_p_value_is_near_the_normal_one_and_never_zero():
    ours = labelled(0.8, n=600)
    middle = estimate(ours, confidence=0.9)
    error = (middle.high - middle.low) / (2 * stats.norm.ppf(0.95))
    for z in (1.0, 1.6):
        found = p_value(ours, None, middle.value - z * error, alternative="greater")
        assert found == pytest.approx(stats.norm.sf(z), rel=0.35)
    # No resample of 10,000 is there, which does not say that none ever is.
    assert p_value(ours, None, 0.1, alternative="greater") == pytest.approx(1 / 10_001)


def test_p_values_refuse_what_is_no_question():
    with pytest.raises(StatisticsError, match='alternative must be "greater" or "less", got \'two-sided\''):
        p_value(scores(BINARY), None, 0.5, alternative="two-sided")
    with pytest.raises(StatisticsError, match="target of a test must be a finite number, got nan"):
        p_value(scores(BINARY), None, math.nan, alternative="less")


def test_holm_by_hand():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") gives 0.03 0.06 0.06 0.02.
    p_values = (0.01, 0.04, 0.03, 0.005)
    assert holm(p_values, 0.05) == (True, False, False, True)
    assert holm(p_values, 0.0601) == (True, True, True, True)
    assert holm(p_values, 0.0299) == (False, False, False, True)
    assert holm((), 0.05) == ()


def test_holm_is_the_closed_bonferroni_test():
    """A hypothesis falls if every set that holds it has a p-value below level over the set's size (Holm 1979)."""
    rng = np.random.default_rng(4)
    for _ in range(50):
        p_values = rng.uniform(0, 0.08, size=4).round(2).tolist()
        expected = []
        for index in range(4):
            sets = [s for size in range(1, 5) for s in itertools.combinations(range(4), size) if index in s]
            expected.append(all(min(p_values[i] for i in s) <= 0.05 / len(s) for s in sets))
        assert holm(p_values, 0.05) == tuple(expected)


def test_holm_names_a_wrong_fail_in_at_most_five_of_a_hundred_runs():
    rng = np.random.default_rng(5)
    wrong = plain = 0
    for _ in range(2000):
        # Eight gates that are right at the bar.
        p_values = rng.uniform(size=8).tolist()
        wrong += any(holm(p_values, 0.05))
        plain += min(p_values) <= 0.05
    assert wrong / 2000 < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)
    # Unadjusted, a third of the runs name one: 1 - 0.95^8 = 0.337.
    assert plain / 2000 == pytest.approx(0.337, abs=0.03)


@pytest.mark.parametrize(
    ("p_values", "level", "message"),
    [
        ([0.5, math.nan], 0.05, "a p-value lies between 0 and 1, got nan"),
        ([1.5], 0.05, "got 1.5"),
        ([0.5], 0.0, "level must lie between 0 and 1, got 0.0"),
        ([0.5], math.nan, "level must lie between"),
    ],
)
def test_holm_refuses_what_is_no_p_value(p_values, level, message):
    with pytest.raises(StatisticsError, match=message):
        holm(p_values, level)
