"""Agreement of grades: against scikit-learn and scipy, against values worked by hand, and against a published one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import cohen_kappa_score

from harness.errors import StatisticsError
from harness.statistics import bootstrap, grade_counts, length_bias, shift, spearman, weighted_kappa, whole_grades
from harness.statistics.agreement import _correlation, _kappa, _ranks


def noisy(n: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    people = rng.uniform(1, 5, n)
    return people, np.clip(people + spread * rng.standard_normal(n), 1, 5)


def test_whole_grades_round_halves_up_within_the_scale() -> None:
    # 0.4 * 4 + 0.3 * 3 + 0.15 * 4 + 0.15 * 4 is 3.7; 3.4999999999999996 is 3.5 less a rounding error.
    assert whole_grades([1.0, 1.49, 1.5, 3.4999999999999996, 4.5, 5.0, 0.2, 7.0]).tolist() == [1, 1, 2, 4, 5, 5, 1, 5]


def test_kappa_by_hand() -> None:
    # Squared distances 0, 0, 1, 1: mean 0.5. By chance: variance 1.25 of each and no difference of means, 2.5.
    # 1 - 0.5 / 2.5
    assert weighted_kappa([1, 2, 3, 4], [1, 2, 4, 3]).value == pytest.approx(0.8)
    assert weighted_kappa([1, 2, 3, 4], [1, 2, 3, 4]).value == 1.0
    assert weighted_kappa([1, 5], [5, 1]).value == pytest.approx(-1.0)
    assert grade_counts([1, 2, 3, 4], [1, 2, 4, 3]).tolist() == [
        [1, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_resampled_is_what_the_libraries_say_of_the_resample(seed: int) -> None:
    people, judge = (whole_grades(scores) for scores in noisy(50, 1.0, seed))
    drawn = np.random.default_rng(seed).integers(0, 50, 50)
    often = np.bincount(drawn, minlength=50).astype(float)
    expected = cohen_kappa_score(people[drawn], judge[drawn], weights="quadratic")
    assert _kappa(people, judge, often[None])[0] == pytest.approx(expected)
    ranks = [_ranks(scores, often[None]) for scores in (people, judge)]
    assert _correlation(*ranks, often[None])[0] == pytest.approx(spearmanr(people[drawn], judge[drawn]).statistic)


def test_the_interval_of_kappa_holds_the_true_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1_000)
    people, judge = (whole_grades(scores) for scores in noisy(200_000, 1.0, 1))
    true = float(_kappa(people, judge, np.ones((1, len(people))))[0])
    hits = 0
    for start in range(0, 200 * 60, 60):
        found = weighted_kappa(people[start : start + 60].tolist(), judge[start : start + 60].tolist())
        assert found.low < found.value < found.high
        hits += found.low < true < found.high
    # 95 % of 200, less three standard errors and what a bootstrap of 60 falls short by.
    assert hits >= 0.95 * 200 - 3 * (0.95 * 0.05 * 200) ** 0.5 - 4


def test_answers_to_one_question_are_resampled_together() -> None:
    people, judge = (whole_grades(scores).tolist() for scores in noisy(40, 1.0))
    alone = weighted_kappa(people, judge)
    # Each answer twice: no more is known than from once, and as much only if that is told.
    doubled = weighted_kappa(people * 2, judge * 2, clusters=[str(k) for k in range(40)] * 2)
    untold = weighted_kappa(people * 2, judge * 2)
    assert doubled.high - doubled.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert untold.high - untold.low == pytest.approx((alone.high - alone.low) / 2**0.5, rel=0.15)


def test_the_same_seed_gives_the_same_interval() -> None:
    people, judge = (whole_grades(scores).tolist() for scores in noisy(30, 1.0))
    assert weighted_kappa(people, judge, seed=3) == weighted_kappa(people, judge, seed=3)
    assert weighted_kappa(people, judge, seed=3) != weighted_kappa(people, judge, seed=4)


def test_a_judge_with_one_grade_agrees_no_more_than_by_chance() -> None:
    found = weighted_kappa([1, 2, 3, 4, 5], [3, 3, 3, 3, 3])
    assert (found.value, found.low, found.high, found.method) == (0.0, 0.0, 0.0, "the same in every resample")
    with pytest.raises(StatisticsError, match="the judge graded every answer alike"):
        spearman([1, 2, 3, 4, 5], [3, 3, 3, 3, 3])


def test_a_published_rank_correlation() -> None:
    # IQ and hours of television a week of ten people, the worked example of Wikipedia's article on Spearman's
    # coefficient (seen 2026-11): -29/165.
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    found = spearman(iq, hours)
    assert found.value == pytest.approx(-29 / 165)
    assert -1 <= found.low < found.value < found.high <= 1


def test_bias_by_length_is_the_coefficient_beside_peoples_grades() -> None:
    people, judge = noisy(60, 0.5)
    words = np.random.default_rng(2).integers(5, 200, 60)
    # Exactly 0.3 grades a doubling on top of what people say.
    assert length_bias(people, 0.8 * people + 0.3 * np.log2(words), words).value == pytest.approx(0.3)
    found = length_bias(people, judge, words)
    fitted = LinearRegression().fit(np.column_stack([people, np.log2(words)]), judge)
    assert found.value == pytest.approx(fitted.coef_[1])
    assert found.low < 0 < found.high


def test_long_bad_answers_are_no_bias_by_themselves() -> None:
    # People and judge agree that long answers are worse: judge less people says nothing of length.
    words = np.array([2**k for k in range(1, 9)] * 3)
    people = 5 - np.log2(words) / 2 + np.tile([0.0, 0.2, 0.4], 8)
    assert length_bias(people, 0.5 * people + 1, words).value == pytest.approx(0.0, abs=1e-9)


def test_a_shift_by_hand() -> None:
    # Of the eight ways to sign 1, 1, 1 one has as large a mean, and two as far from 0.
    assert shift([1.0, 1.0, 1.0]) == (1.0, pytest.approx(2 / 8))
    assert shift([1.0, 1.0, 1.0], alternative="greater") == (1.0, pytest.approx(1 / 8))
    assert shift([-1.0, -1.0, -1.0], alternative="greater").p_value == 1.0
    assert shift([0.0, 0.0]) == (0.0, 1.0)


def test_no_shift_is_found_as_rarely_as_said() -> None:
    # Grades in steps, as a rubric gives them, far from normal. Of 200 tests at 5 %, 10 are expected; the 0.999
    # quantile of that binomial is 20.
    rng = np.random.default_rng(0)
    steps = rng.choice([0.0, 0.0, 0.0, 0.3, 0.4, 0.55, 1.2], size=(200, 10)) * rng.choice([-1, 1], size=(200, 10))
    found = sum(shift(row).p_value <= 0.05 for row in steps)
    assert 0 < found <= 20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weighted_kappa([1, 2], [1]), "2 grades by people for 1 by the judge"),
        (lambda: weighted_kappa([3, 3], [1, 2]), "people graded every answer alike"),
        (lambda: weighted_kappa([1, 2], [1, 2], clusters=["q", "q"]), "at least two questions"),
        (lambda: weighted_kappa([1, 2], [1, 2], clusters=["q"]), "1 groups for 2 examples"),
        (lambda: spearman([1, 2], [1, 2, 3]), "2 grades by people for 3 by the judge"),
        (lambda: length_bias([1, 2], [1, 2], [7, 7]), "all answers have the same number of words"),
        (lambda: length_bias([1, 2], [1, 2], [7]), "1 lengths for 2 answers"),
        (lambda: shift([]), "at least one difference"),
    ],
)
def test_what_is_not_defined_is_refused(call: object, message: str) -> None:
    with pytest.raises(StatisticsError, match=message):
        call()  # type: ignore[operator]
