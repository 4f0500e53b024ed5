from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.errors import StatisticsError
from harness.records import Scores
from harness.statistics import (
    Design,
    design_of,
    detectable,
    estimate,
    mean,
    needed,
    paired_mean,
    paired_proportions,
    planning,
    power,
    proportion,
)
from harness.statistics.planning import _beyond
from harness.statistics.proportions import tango, tango_score

SUPPORT = (10,) * 6


@pytest.fixture(autouse=True)
def _fewer_test_sets(monkeypatch):
    """What is simulated here is compared with itself, or roughly."""
    monkeypatch.setattr(planning, "_TEST_SETS", 100)
    planning._reach.cache_clear()
    yield
    planning._reach.cache_clear()


def scores(values, view="adapter", **fields):
    ids = tuple(f"e{i}" for i in range(len(values)))
    fields = {"measure": "m.score", "view": view, "ids": ids, "n_expected": len(values), **fields}
    return Scores(values=tuple(map(float, values)), **fields)


# ---- proportions: exact


@pytest.mark.parametrize("n", [7, 40])
@pytest.mark.parametrize(("truth", "target"), [(0.9, 0.8), (0.8, 0.8), (0.95, 0.6)])
def test_power_of_a_proportion_adds_up_all_outcomes(n, truth, target):
    expected = 0.0
    for right in range(n + 1):
        clears = proportion([1] * right + [0] * (n - right)).low >= target
        expected += stats.binom.pmf(right, n, truth) * clears
    found = power(Design("proportion", n, target=target), truth - target)
    assert found == pytest.approx(expected, abs=1e-12)
    # At most 0.2 fails of all, as at least 0.8 right.
    mirrored = Design("proportion", n, target=1 - target, direction="below")
    assert power(mirrored, truth - target) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("truth", "target"), [(0.0, -0.2), (0.1, -0.3), (-0.2, -0.2), (0.5, 0.1)])
def test_power_of_paired_proportions_adds_up_all_tables(truth, target):
    n, discordance = 14, 0.3
    both = max(discordance, abs(truth))
    p_win, p_loss = (both + truth) / 2, (both - truth) / 2
    expected = 0.0
    for wins, losses in itertools.product(range(n + 1), range(n + 1)):
        if wins + losses <= n:
            chance = stats.multinomial.pmf([wins, losses, n - wins - losses], n, [p_win, p_loss, 1 - both])
            ours, theirs = [1] * wins + [0] * (n - wins), [0] * wins + [1] * losses + [0] * (n - wins - losses)
            expected += chance * (paired_proportions(ours, theirs, confidence=0.9).low > target)
    found = power(Design("paired_proportions", n, truth=truth, discordance=discordance), truth - target)
    assert found == pytest.approx(expected, abs=1e-9)
    mirrored = Design("paired_proportions", n, truth=-truth, discordance=discordance, direction="below")
    assert power(mirrored, truth - target) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("continuity", [0.0, 0.5])
def test_the_score_of_many_tables_says_where_the_interval_ends(continuity):
    z = stats.norm.ppf(0.95)
    for wins, losses, n in ((6, 16, 161), (16, 6, 161), (0, 0, 30), (3, 0, 30), (0, 9, 30), (29, 0, 30)):
        low, _ = tango(wins, losses, n, confidence=0.9, continuity=continuity)
        for target in (low - 0.01, low + 0.01):
            score = tango_score(np.array([float(wins)]), np.array([float(losses)]), n, target, continuity)
            assert (score[0] > z) == (low > target)


@pytest.mark.parametrize("n", [30, 60, 150])
@pytest.mark.parametrize("direction", ["above", "below"])
def test_paired_proportions_err_in_little_more_than_five_of_a_hundred_test_sets(n, direction):
    """Computed exactly, at the bar. Before its continuity correction the worst of these was 8.6 %, a gain of 0.1
    with hardly a loss."""
    worst = 0.0
    for discordance, truth in itertools.product((0.02, 0.06, 0.14, 0.3), (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2)):
        if abs(truth) <= discordance:
            design = Design("paired_proportions", n, truth=truth, discordance=discordance, direction=direction)
            worst = max(worst, power(design, 0.0))
    assert 0.03 < worst < 0.055


# ---- means: noncentral t


def test_power_of_the_t_test_is_that_of_r():
    """Dalgaard 2008, "Introductory statistics with R", section 8.3:
    power.t.test(delta=10, sd=10*sqrt(2), power=0.85, type="paired") gives n = 19.96892, two-sided at 0.05.
    """
    assert _beyond(18.96892, 10 / math.sqrt(200 / 19.96892), stats.t.ppf(0.975, 18.96892)) == pytest.approx(
        0.85, abs=1e-5
    )
    design = Design("paired_mean", 50, truth=0.0, spread=10 * math.sqrt(2), bounds=(0.0, 100.0))
    # One-sided at 0.975 is one end of two-sided at 0.95.
    assert needed(design, 10, power=0.85, confidence=0.975) == 20
    # R: power.t.test(n = 20, delta = 1, sd = 1) of two samples, 38 degrees of freedom: power = 0.8689528.
    assert _beyond(38, math.sqrt(10), stats.t.ppf(0.975, 38)) == pytest.approx(0.8689528, abs=1e-6)


def test_large_samples_of_noncentral_t_are_normal():
    assert _beyond(499, 2.5, 1.65) == pytest.approx(_beyond(501, 2.5, 1.65), abs=2e-3)


def passes(draw, decide, runs=1500, seed=0):
    rng = np.random.default_rng(seed)
    return float(np.mean([decide(*draw(rng)) for _ in range(runs)]))


def test_power_of_a_mean_holds_in_simulation():
    design = Design("mean", 40, target=3.5, bounds=(1.0, 5.0), spread=math.sqrt(4 * 0.7 * 0.3))
    found = passes(
        lambda rng: (1.0 + rng.binomial(4, 0.7, size=40),),
        lambda values: mean(values, bounds=(1.0, 5.0)).low >= 3.5,
    )
    assert power(design, 0.3) == pytest.approx(found, abs=0.05)


def test_power_of_views_that_rarely_differ_holds_in_simulation():
    # Of 60 examples about 5 differ: the exact bound on departures decides, not t, which would promise 0.95.
    design = Design("paired_mean", 60, truth=0.0, discordance=0.08, spread=math.sqrt(0.08) / 4)

    def draw(rng):
        return (rng.choice([-0.25, 0.0, 0.25], size=60, p=[0.04, 0.92, 0.04]),)

    def decide(changes):
        return paired_mean(0.5 + changes, np.full(60, 0.5), bounds=(0.0, 1.0), confidence=0.9).low > -0.12

    found = passes(draw, decide)
    assert power(design, 0.12) == pytest.approx(found, abs=0.05)
    assert power(replace(design, discordance=None), 0.12) > found + 0.1


def test_power_in_groups_holds_in_simulation():
    groups = [str(i // 5) for i in range(150)]
    design = Design("proportion", 150, groups=30, correlation=1.0, target=0.6)

    def draw(rng):
        return (np.repeat(rng.random(30) < 0.85, 5).astype(float),)

    found = passes(draw, lambda values: proportion(values, groups=groups).low >= 0.6, runs=800)
    assert power(design, 0.25) == pytest.approx(found, abs=0.05)
    # Of independent examples one would expect far more.
    assert power(replace(design, groups=None), 0.25) > found + 0.1


# ---- macro F1: simulated. How well that holds is shown in test_error_rates.py.


@pytest.mark.parametrize(
    "design",
    [
        Design("macro_f1", 60, truth=0.85, support=SUPPORT),
        Design("macro_f1", 60, target=0.75, support=SUPPORT),
        Design("paired_macro_f1", 60, support=SUPPORT),
    ],
)
def test_macro_f1_plans_are_in_line_with_those_of_accuracy(design):
    smallest = detectable(design)
    kind = "proportion" if design.kind == "macro_f1" else "paired_proportions"
    discordance = design.discordance if design.paired else None
    plain = Design(kind, 60, truth=design.truth, target=design.target, discordance=discordance)
    assert smallest == pytest.approx(detectable(plain), rel=0.35)
    assert power(design, smallest) == pytest.approx(0.8, abs=0.06)
    # Twice the effect takes about a quarter of the examples, at four times as many half the effect shows.
    count = needed(design, smallest / 2)
    assert 2.5 * 60 < count < 6 * 60


def test_groups_make_macro_f1_plans_worse():
    design = Design("paired_macro_f1", 60, support=SUPPORT)
    assert detectable(replace(design, groups=20, correlation=0.8)) > 1.2 * detectable(design)


# ---- all kinds

DESIGNS = [
    Design("proportion", 150, truth=0.9),
    Design("proportion", 150, target=0.9),
    Design("proportion", 150, truth=0.1, direction="below"),
    Design("proportion", 150, truth=0.9, groups=50),
    Design("paired_proportions", 150),
    Design("paired_proportions", 150, target=0.1),
    Design("paired_proportions", 150, groups=50),
    Design("mean", 150, truth=4.0, bounds=(1.0, 5.0)),
    Design("mean", 150, truth=4.0, bounds=(1.0, 5.0), direction="below"),
    Design("paired_mean", 150, bounds=(1.0, 5.0), spread=0.8),
]


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: f"{design.kind}-{design.groups}-{design.direction}")
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_smallest_effect_and_the_examples_needed_go_back_to_the_power(design, confidence):
    smallest = detectable(design, confidence=confidence)
    # Exact powers jump from one count of right answers to the next.
    assert power(design, smallest, confidence=confidence) >= 0.8 - 1e-9
    assert power(design, 0.97 * smallest, confidence=confidence) < 0.8
    count = needed(design, smallest, confidence=confidence)
    assert 0.85 * design.n < count <= design.n
    fewer = needed(design, 1.3 * smallest, power=0.9, confidence=confidence)
    assert fewer < design.n
    assert detectable(design, power=0.95, confidence=confidence) > smallest


def test_the_rate_of_false_passes_is_the_power_of_no_effect():
    for design in DESIGNS:
        assert power(design, 0.0) < (0.052 if design.paired else 0.03)


def test_what_no_number_of_examples_decides_is_said():
    with pytest.raises(StatisticsError, match=r"3 examples decide no effect with 80 % power at confidence 0.95"):
        detectable(Design("proportion", 3, target=0.9))
    with pytest.raises(StatisticsError, match=r"not even 1,000,000 examples decide a difference of 0.0001 with 80 %"):
        needed(Design("paired_proportions", 100), 0.0001)
    with pytest.raises(StatisticsError, match="8 examples decide no effect"):
        detectable(Design("macro_f1", 8, target=0.9, support=(4, 4)))
    with pytest.raises(StatisticsError, match="not even 1,000,000 examples"):
        needed(Design("macro_f1", 60, target=0.8, support=SUPPORT), 0.0001)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "median"}, "design of a median: known kinds are proportion, "),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"target": 0.8}, "give truth or target; the other lies `effect` away"),
        ({"truth": None}, "give the true value assumed"),
        ({"truth": math.nan}, "must be finite"),
        ({"groups": 1}, "groups must be between 2 and n=100, got 1"),
        ({"correlation": 1.5}, "correlation must be between 0 and 1, got 1.5"),
        ({"discordance": -0.1}, "discordance must be between 0 and 1"),
        ({"spread": -1.0}, "spread must not be negative"),
        ({"bounds": (1.0, 1.0)}, "leave no room"),
        ({"kind": "macro_f1", "support": (50, 40)}, "sum to n=100"),
        ({"kind": "macro_f1", "support": (100,)}, "two or more labels"),
    ],
)
def test_designs_that_contradict_themselves_are_refused(fields, message):
    with pytest.raises(StatisticsError, match=message):
        Design(**{"kind": "proportion", "n": 100, "truth": 0.9, **fields})


def test_questions_that_cannot_be_are_refused():
    design = Design("proportion", 100, truth=0.9)
    with pytest.raises(StatisticsError, match=r"puts the target at 1.1, outside 0 to 1"):
        power(design, -0.2)
    with pytest.raises(StatisticsError, match=r"puts the true value at 1.2"):
        power(Design("proportion", 100, target=0.9), 0.3)
    with pytest.raises(StatisticsError, match="an effect must be a finite number"):
        power(design, math.nan)
    with pytest.raises(StatisticsError, match="a margin to plan for must be positive, got 0"):
        needed(design, 0)
    with pytest.raises(StatisticsError, match="power must lie between 0 and 1, got 1"):
        detectable(design, power=1)
    with pytest.raises(StatisticsError, match=r"confidence must be above 0.5 and below 1, got 0.5"):
        power(design, 0.1, confidence=0.5)
    with pytest.raises(StatisticsError, match=r"a macro F1 of 1.05 cannot be"):
        power(Design("paired_macro_f1", 60, truth=0.2, level=0.85, support=SUPPORT), 0.1)


# ---- from stored scores


def test_a_design_is_read_off_stored_scores():
    rng = np.random.default_rng(0)
    base = (rng.random(200) < 0.8).astype(float)
    flip = rng.random(200) < 0.1
    ours, theirs = scores(np.where(flip, 1 - base, base)), scores(base, "base")
    design = design_of(ours, theirs)
    assert (design.kind, design.n, design.truth, design.groups) == ("paired_proportions", 200, 0.0, None)
    assert design.discordance == pytest.approx((flip.sum() + 1) / 202)
    # The order of the examples does not matter.
    backwards = replace(theirs, ids=theirs.ids[::-1], values=theirs.values[::-1])
    assert design_of(ours, backwards) == design
    alone = design_of(theirs, target=0.7)
    assert (alone.kind, alone.target, alone.truth) == ("proportion", 0.7, None)
    assert design_of(theirs).truth == pytest.approx(base.mean())


def test_a_design_of_grades_has_their_spread_and_correlation():
    rng = np.random.default_rng(1)
    groups = tuple(f"g{i // 4}" for i in range(240))
    values = np.repeat(rng.normal(3, 0.6, size=60), 4) + rng.normal(0, 0.6, size=240)
    given = scores(values.clip(1, 5), bounds=(1.0, 5.0), groups=groups)
    design = design_of(given, target=2.5)
    assert (design.kind, design.groups) == ("mean", 60)
    assert design.spread == pytest.approx(np.std(given.values, ddof=1))
    # Half of the variance is between groups.
    assert design.correlation == pytest.approx(0.5, abs=0.12)
    # The plan's standard error is that of the estimate: half of a 95 % interval is t times it.
    half = (estimate(given).high - estimate(given).low) / 2
    error = design.spread * math.sqrt((1 + 3 * design.correlation) / 240)
    assert half == pytest.approx(stats.t.ppf(0.975, 59) * error, rel=0.01)


def test_a_design_of_labels_has_their_support_and_level():
    truth = ("a",) * 30 + ("b",) * 20 + ("c",) * 10
    predicted = ("a",) * 27 + ("b",) * 20 + ("c",) * 13
    fields = {"truth": truth, "labels": ("a", "b", "c"), "statistic": "macro_f1"}
    hits = [a == b for a, b in zip(truth, predicted, strict=True)]
    base = scores(hits, "base", predicted=predicted, **fields)
    ours = scores([1] * 60, predicted=truth, **fields)
    design = design_of(ours, base)
    assert (design.kind, design.support) == ("paired_macro_f1", (30, 20, 10))
    # Right are 27 of a, 17 of b and 10 of c: F1 = 54 / (30 + 27), 34 / (20 + 20) and 20 / (10 + 13).
    assert design.level == pytest.approx((54 / 57 + 34 / 40 + 20 / 23) / 3)
    assert design.discordance == pytest.approx((6 + 1) / 62)
    assert design_of(replace(base, statistic="accuracy")).kind == "proportion"
    with pytest.raises(StatisticsError, match="there is no plan for f1:a; plan for accuracy or macro_f1"):
        design_of(replace(base, statistic="f1:a"))
