from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics import difference, estimate, p_value, point

T_2_975 = 4.302653  # Student's t with 2 degrees of freedom, 97.5 %; any table of the distribution


def one(values, view="adapter", **fields):
    ids = tuple(f"e{k}" for k in range(len(values)))
    fields = {"measure": "m.score", "view": view, "ids": ids, "n_expected": len(values), **fields}
    return Scores(values=tuple(map(float, values)), **fields)


def of_seeds(*columns, **fields):
    several = tuple(one(column, **fields) for column in columns)
    return replace(several[0], replicates=several)


GRADES = ([0.1, 0.5, 0.4, 0.8, 0.7], [0.2, 0.6, 0.4, 0.9, 0.9], [0.1, 0.4, 0.2, 0.6, 0.7])


def test_the_value_is_the_mean_over_the_seeds() -> None:
    assert point(of_seeds(*GRADES)) == pytest.approx(0.5)  # means 0.5, 0.6, 0.4
    found = estimate(of_seeds(*GRADES))
    assert found.value == pytest.approx(0.5)
    assert found.seeds == 3
    assert found.n == 5


def test_both_parts_of_the_interval_add_up_in_squares() -> None:
    averaged = estimate(one([sum(column) / 3 for column in zip(*GRADES, strict=True)]))
    below = averaged.value - averaged.low
    seeds = T_2_975 * 0.1 / math.sqrt(3)  # the standard deviation of 0.5, 0.6 and 0.4 is 0.1
    found = estimate(replace(of_seeds(*GRADES), bounds=(-9.0, 9.0)))
    assert found.low == pytest.approx(0.5 - math.hypot(below, seeds), abs=1e-6)
    for said in ("mean over 3 seeds", "between them 0.100", f"adds ±{seeds:.3f}", "Student's t", "MOVER"):
        assert said in found.method


def test_of_a_statistic_that_is_no_mean_the_distances_are_averaged() -> None:
    truth = tuple("abab" * 5)
    answers = [tuple("abab" * 4 + "aaaa"), tuple("abab" * 3 + "bbbbaaaa")]
    fields = {"statistic": "macro_f1", "truth": truth, "labels": ("a", "b")}
    each = [
        one([float(a == b) for a, b in zip(truth, found, strict=True)], predicted=found, **fields) for found in answers
    ]
    alone = [estimate(scores) for scores in each]
    spread = abs(alone[0].value - alone[1].value) / math.sqrt(2)
    below = sum(e.value - e.low for e in alone) / 2
    found = estimate(replace(each[0], replicates=tuple(each)))
    assert found.value == pytest.approx(sum(e.value for e in alone) / 2)
    # Student's t with one degree of freedom, 97.5 %: 12.706
    assert found.low == pytest.approx(max(0.0, found.value - math.hypot(below, 12.706205 * spread / math.sqrt(2))))


def test_seeds_that_agree_add_nothing() -> None:
    alone, several = estimate(one(GRADES[0])), estimate(of_seeds(GRADES[0], GRADES[0]))
    assert (several.value, several.low, several.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_the_interval_stays_within_the_bounds_of_the_measure() -> None:
    found = estimate(of_seeds([1.0] * 9 + [0.0], [1.0] * 6 + [0.0] * 4))
    assert found.low == 0.0
    assert found.high == 1.0


def test_a_baseline_without_seeds_is_the_same_for_each() -> None:
    base = one([0.1, 0.3, 0.3, 0.5, 0.6], "base")
    found = difference(of_seeds(*GRADES), base)
    assert found.value == pytest.approx(0.5 - 0.36)
    back = difference(base, of_seeds(*GRADES))
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_p_values_turn_the_same_interval_round() -> None:
    several = of_seeds([1.0] * 70 + [0.0] * 30, [1.0] * 76 + [0.0] * 24, [1.0] * 73 + [0.0] * 27)
    low = estimate(several, confidence=0.9).low
    assert p_value(several, None, low, alternative="greater") == pytest.approx(0.05, abs=1e-3)


def test_a_seed_with_a_missing_score_is_a_problem_of_all() -> None:
    bad = replace(one(GRADES[1]), values=(0.2, math.nan, 0.4, 0.9, 0.9))
    several = replace(one(GRADES[0]), replicates=(one(GRADES[0]), bad))
    assert several.problem() == "the score of e1 is nan, not a finite number"
    with pytest.raises(StatisticsError, match="the score of e1 is nan"):
        estimate(several)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (replace(one(GRADES[0]), replicates=(one(GRADES[0]),)), "takes at least two of them, got 1"),
        (
            replace(of_seeds(*GRADES), replicates=(one(GRADES[0]), replace(one(GRADES[1]), ids=tuple("abcde")))),
            "not scored on the same examples in one order",
        ),
    ],
)
def test_seeds_that_do_not_fit_together_are_refused(scores: Scores, message: str) -> None:
    with pytest.raises(StatisticsError, match=message):
        estimate(scores)


def test_different_numbers_of_seeds_are_refused() -> None:
    with pytest.raises(StatisticsError, match=r"is of 3 seeds, and m\.score of base of 2"):
        difference(of_seeds(*GRADES), of_seeds(*GRADES[:2], view="base"))


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.08])
def test_intervals_hold_the_mean_over_all_seeds_and_examples(spread: float) -> None:
    """400 simulated recipes with 3 seeds and 100 right-or-wrong examples of their own difficulty, the truth 0.7."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        difficulty = rng.uniform(-0.25, 0.25, 100)
        share = 0.7 + difficulty[None, :] + rng.normal(0, spread, 3)[:, None]
        found = estimate(of_seeds(*(rng.random((3, 100)) < share).astype(float)))
        held += found.low <= 0.7 <= found.high
    # 95 % with three standard errors of 400 runs; wider intervals than needed are no fault.
    assert held >= 0.95 * 400 - 3 * math.sqrt(400 * 0.95 * 0.05)
