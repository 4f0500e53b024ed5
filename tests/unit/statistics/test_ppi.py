"""Prediction-powered means: the paper's formulas by hand, what they promise by simulation, and where they are left."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics import correction, difference, estimate, mean, point
from harness.statistics.ppi import corrected_mean


def graded(
    rng: np.random.Generator, count: int, n: int, *, bias: float = 0.8, noise: float = 0.5
) -> tuple[np.ndarray, np.ndarray, list[float | None]]:
    """People's grades of `count` items, a judge's, and people's where n items drawn at random were graded."""
    people = np.clip(3.2 + rng.standard_normal(count), 1, 5)
    judge = np.clip(people + bias + noise * rng.standard_normal(count), 1, 5)
    human: list[float | None] = [None] * count
    for k in rng.permutation(count)[:n]:
        human[k] = float(people[k])
    return people, judge, human


def test_the_papers_formulas_by_hand() -> None:
    # n = 20 of both and N = 20 of the judge alone. People give 1, 2, 3, 4 five times each and the judge one less than
    # twice that, 1, 3, 5, 7, but for the first, 0: its mean is 79 / 20 = 3.95. On the rest it gives 2 and 6, mean 4.
    people = [1.0, 2.0, 3.0, 4.0] * 5
    judge = [0.0, *[2 * y - 1 for y in people[1:]]]
    rest = [2.0, 6.0] * 10
    found = corrected_mean(judge + rest, [*people, *[None] * 20])
    # Sums of products about the means: people and judge 5 * (1.5 * 3 + 0.5 + 0.5 + 1.5 * 3) = 50, and 1.5 more for the
    # first, that is lower by 1: covariance 51.5 / 19. Squares of the judge: sum 420 - 1 = 419 and 400, of all 40 about
    # 159 / 40: 819 - 159**2 / 40 = 186.975, variance 186.975 / 39.
    weight = (51.5 / 19) / ((1 + 20 / 20) * (186.975 / 39))
    assert found.weight == pytest.approx(weight)
    assert found.estimate.value == pytest.approx(2.5 + weight * (4.0 - 3.95))
    # Variance of people less weight times the judge, and of the judge on the rest, 400 - 320 = 80 over 19.
    rectifier = [y - weight * f for y, f in zip(people, judge, strict=True)]
    average = sum(rectifier) / 20
    variance = sum((r - average) ** 2 for r in rectifier) / 18 / 20 + weight**2 * (80 / 19) / 20
    half = t.ppf(0.975, 18) * math.sqrt(variance)
    assert found.estimate.high - found.estimate.value == pytest.approx(half)
    assert found.estimate.value - found.estimate.low == pytest.approx(half)
    assert (found.n_human, found.estimate.n) == (20, 40)


@pytest.mark.parametrize(("count", "n"), [(60, 20), (150, 40)])
@pytest.mark.parametrize(("bias", "noise"), [(0.8, 0.3), (0.5, 1.0), (0.0, 3.0)])
def test_intervals_hold_what_they_promise_and_are_never_much_wider(
    count: int, n: int, bias: float, noise: float
) -> None:
    rng = np.random.default_rng(0)
    true = float(np.clip(3.2 + rng.standard_normal(2_000_000), 1, 5).mean())
    hits, ratios = 0, []
    rounds = 400
    for _ in range(rounds):
        _, judge, human = graded(rng, count, n, bias=bias, noise=noise)
        found = corrected_mean(judge.tolist(), human, bounds=(1, 5)).estimate
        alone = mean([grade for grade in human if grade is not None], bounds=(1, 5))
        hits += found.low <= true <= found.high
        ratios.append((found.high - found.low) / (alone.high - alone.low))
    # 95 %, less three standard errors of the simulation and a point for the tuned weight.
    assert hits / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds) - 0.01
    assert max(ratios) <= 1.06
    if noise < 1:
        assert np.mean(ratios) < 0.85, "a good judge is worth many human grades"


def test_a_biased_judge_alone_is_wrong_and_corrected_right() -> None:
    people, judge, human = graded(np.random.default_rng(1), 2000, 200)
    found = corrected_mean(judge.tolist(), human, bounds=(1, 5)).estimate
    raw = mean(judge.tolist(), bounds=(1, 5))
    assert raw.low > people.mean() + 0.3
    assert found.low < people.mean() < found.high


def test_with_everything_graded_by_people_the_judge_does_not_count() -> None:
    people, judge, _ = graded(np.random.default_rng(2), 30, 30)
    found = corrected_mean(judge.tolist(), people.tolist(), bounds=(1, 5))
    alone = mean(people.tolist(), bounds=(1, 5))
    assert found.weight == 0.0
    assert (found.estimate.value, found.estimate.low, found.estimate.high) == (alone.value, alone.low, alone.high)


def test_a_judge_that_people_hardly_differ_from_is_not_taken_for_perfect() -> None:
    # 25 of 25 equal: a variance of 0 would leave no room for the differences that 25 items cannot show.
    people, _, human = graded(np.random.default_rng(3), 100, 25)
    found = corrected_mean(people.tolist(), human, bounds=(1, 5))
    alone = mean([grade for grade in human if grade is not None], bounds=(1, 5))
    assert found.weight in (0.0, pytest.approx(0.8, abs=0.25))
    assert found.estimate.high - found.estimate.low <= alone.high - alone.low + 1e-9
    assert found.estimate.high > found.estimate.low
    useless = corrected_mean([3.0] * 100, human, bounds=(1, 5))
    assert (useless.weight, useless.estimate.value) == (0.0, pytest.approx(alone.value))


def test_items_of_a_group_count_together() -> None:
    _, judge, human = graded(np.random.default_rng(4), 60, 30)
    alone = corrected_mean(judge.tolist(), human)
    own = corrected_mean(judge.tolist(), human, groups=[str(k) for k in range(60)])
    assert own.estimate == alone.estimate
    # Each item twice is no more evidence.
    names = [str(k) for k in range(60)] * 2
    doubled = corrected_mean(judge.tolist() * 2, human * 2, groups=names)
    untold = corrected_mean(judge.tolist() * 2, human * 2)
    width, narrow, wide = (e.estimate.high - e.estimate.low for e in (alone, untold, doubled))
    assert wide == pytest.approx(width, rel=0.05)
    assert narrow < 0.75 * wide


@pytest.mark.parametrize(
    ("judged", "human", "groups", "message"),
    [
        ([1.0] * 3, [None] * 2, None, "2 human grades for 3 judged items"),
        ([1.0] * 30, [1.0] * 19 + [None] * 11, None, "19 human grades are too few"),
        ([math.nan] * 30, [1.0] * 30, None, "finite"),
        ([1.0, 2.0] * 20, [1.0, 3.0] * 12 + [None] * 16, ["a"] * 12 + ["b"] * 28, "one or two groups"),
    ],
)
def test_what_cannot_be_corrected_is_refused(
    judged: list[float], human: list[float | None], groups: list[str] | None, message: str
) -> None:
    if groups is not None:
        judged = [grade + 0.01 * k for k, grade in enumerate(judged)]
    with pytest.raises(StatisticsError, match=message):
        corrected_mean(judged, human, groups=groups)


def scores(view: str, values: np.ndarray, human: list[float | None] | None) -> Scores:
    return Scores(
        measure="judge.score",
        view=view,
        ids=tuple(f"e{k}" for k in range(len(values))),
        values=tuple(values.tolist()),
        n_expected=len(values),
        bounds=(1.0, 5.0),
        human=None if human is None else tuple(human),
    )


def test_scores_with_human_grades_are_corrected_and_the_judge_alone_is_kept() -> None:
    rng = np.random.default_rng(5)
    _, judge, human = graded(rng, 80, 30)
    ours = scores("adapter", judge, human)
    found, raw = estimate(ours), estimate(replace(ours, human=None))
    assert found.method.startswith("PPI++ with 30 human grades")
    assert point(ours) == found.value != raw.value
    known = correction(ours, None)
    assert known is not None
    assert known.alone == raw
    assert known.n_human == 30
    assert correction(replace(ours, human=None), None) is None


def test_a_difference_is_corrected_where_both_answers_were_graded() -> None:
    rng = np.random.default_rng(6)
    _, judge, human = graded(rng, 80, 40)
    # The judge sees half of what people see: an improvement of 1 looks like 0.5.
    theirs = scores("base", judge, human)
    better = [None if grade is None else min(5.0, grade + 1 + 0.3 * rng.standard_normal()) for grade in human]
    better = [None if grade is None else max(1.0, grade) for grade in better]
    ours = scores("adapter", np.clip(judge + 0.5 + 0.2 * rng.standard_normal(80), 1, 5), better)
    found = difference(ours, theirs)
    assert found.method.startswith("paired: PPI++ with 40 human grades")
    raw = difference(replace(ours, human=None), theirs)
    assert raw.high < found.value
    assert difference(ours, replace(theirs, human=None)) == raw
    known = correction(ours, theirs)
    assert known is not None
    assert known.alone == raw


def test_a_few_human_grades_correct_nothing() -> None:
    _, judge, human = graded(np.random.default_rng(7), 50, 19)
    ours = scores("adapter", judge, human)
    assert estimate(ours) == estimate(replace(ours, human=None))
    assert correction(ours, None) is None


def test_human_grades_that_do_not_fit_are_refused() -> None:
    _, judge, human = graded(np.random.default_rng(8), 50, 30)
    with pytest.raises(StatisticsError, match="40 human grades for 50 examples"):
        estimate(scores("adapter", judge, human[:40]))
    with pytest.raises(StatisticsError, match="the human grade of e0 is 9, outside 1 to 5"):
        estimate(scores("adapter", judge, [9.0, *human[1:]]))
