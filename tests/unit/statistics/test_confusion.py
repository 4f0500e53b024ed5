from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from harness.errors import StatisticsError
from harness.statistics import confusion_difference, confusion_estimate
from harness.statistics.binomial import wilson
from harness.statistics.bootstrap import bca_interval, resampled
from harness.statistics.confusion import STATISTICS, confusion_matrix, statistic, statistic_of
from harness.statistics.extremes import departing_examples, largest_shift

LABELS = ("payroll", "refund", "rent", "tax")


def answers(truth, accuracy, rng, options=LABELS):
    return [label if rng.random() < accuracy else options[rng.integers(len(options))] for label in truth]


def truth_of(n, labels=LABELS):
    return [labels[i % len(labels)] for i in range(n)]


def by_sklearn(name, truth, predicted, labels=LABELS):
    if name == "accuracy":
        return metrics.accuracy_score(truth, predicted)
    average, _, kind = name.rpartition("_")
    if ":" in name:
        kind, _, label = name.partition(":")
        average, labels = None, [label]
    function = getattr(metrics, f"{kind}_score")
    return np.ravel(function(truth, predicted, labels=list(labels), average=average, zero_division=0))[0]


ALL = (*STATISTICS, *(f"{kind}:{label}" for kind in ("f1", "precision", "recall") for label in LABELS))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore")
def test_definitions_are_those_of_sklearn(name):
    rng = np.random.default_rng(0)
    pairs = []
    for accuracy in (0.0, 0.3, 0.9, 1.0):
        truth = [LABELS[i] for i in rng.integers(0, 4, size=37)]
        pairs.append((truth, answers(truth, accuracy, rng, (*LABELS, "no label at all"))))
    # A label that no example has and nobody predicts, and one answer for all.
    pairs.append((["payroll", "rent"] * 5, ["payroll"] * 10))
    batch = np.stack([confusion_matrix(truth, predicted, LABELS) for truth, predicted in pairs])
    expected = [by_sklearn(name, truth, predicted) for truth, predicted in pairs]
    assert statistic(name, batch, LABELS) == pytest.approx(expected)
    assert statistic_of(name, *pairs[0], LABELS) == pytest.approx(expected[0])


def test_square_matrices_are_taken_too():
    assert statistic("accuracy", np.array([[[3, 1], [0, 4]]]), ("a", "b")) == pytest.approx([7 / 8])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistic("f2", np.zeros((1, 2, 2)), ("a", "b")), "'f2'; known: accuracy.*f1:<label>"),
        (lambda: statistic("f1:c", np.zeros((1, 2, 2)), ("a", "b")), "no label 'c' among a, b"),
        (lambda: statistic("accuracy", np.zeros((1, 3, 2)), ("a", "b")), "do not fit 2 labels"),
        (lambda: confusion_matrix(["c"], ["a"], ("a", "b")), "true label 'c' is not among a, b"),
        (lambda: confusion_matrix(["a"], ["a", "b"], ("a", "b")), "1 true labels but 2 predicted"),
        (lambda: confusion_matrix(["a"], ["a"], ("a", "a")), "named twice"),
        (lambda: confusion_matrix([], [], ()), "needs the list of labels"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()


def estimate_of(name, truth, predicted, labels=LABELS, seed=0, **keywords):
    return confusion_estimate(name, truth, predicted, labels, rng=np.random.default_rng(seed), **keywords)


def difference_of(name, truth, ours, theirs, labels=LABELS, seed=0, **keywords):
    rng = np.random.default_rng(seed)
    return confusion_difference(name, truth, ours, theirs, labels, rng=rng, **keywords)


def test_bca_is_that_of_scipy():
    values, counts = np.array([0.0, 1.0, 5.0, 20.0]), np.array([60, 25, 10, 5])
    strata = np.zeros(4, dtype=np.int64)
    replicates = resampled(lambda weights: weights @ values / 100, counts, strata, rng=np.random.default_rng(0))
    average = values @ counts / 100
    without_one = (values @ counts - values) / 99
    ours = bca_interval(average, replicates, without_one, counts, strata, confidence=0.95)
    theirs = stats.bootstrap(
        (np.repeat(values, counts),), np.mean, method="BCa", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.07)


@pytest.mark.parametrize("counts", [[95, 3, 2], [40, 30, 30], [1, 1, 1, 1, 1], [7]])
def test_resampled_counts_are_multinomial(counts):
    # Both ways to draw, and the trivial one: means n p and variances n p q of each cell.
    counts = np.array(counts)
    n, strata = counts.sum(), np.zeros(len(counts), dtype=np.int64)
    for scale in (1, 30):
        drawn: list[np.ndarray] = []

        def keep(weights, drawn=drawn):
            drawn.append(weights)
            return weights.sum(axis=1)

        totals = resampled(keep, counts * scale, strata, rng=np.random.default_rng(0), resamples=20_000)
        assert (totals == n * scale).all()
        weights, share = np.concatenate(drawn), counts / n
        assert weights.mean(axis=0) == pytest.approx(counts * scale, rel=0.03)
        assert weights.var(axis=0) == pytest.approx(n * scale * share * (1 - share), rel=0.06)


def test_strata_keep_their_sizes():
    strata = np.array([0, 0, 1, 1])

    def second_stratum(weights):
        return weights[:, 2:].sum(axis=1)

    sums = resampled(second_stratum, np.array([9, 1, 3, 2]), strata, rng=np.random.default_rng(0), resamples=50)
    assert (sums == 5).all()


def test_macro_f1_is_bootstrapped_and_repeatable():
    rng = np.random.default_rng(5)
    truth = truth_of(200)
    predicted = answers(truth, 0.85, rng)
    first = estimate_of("macro_f1", truth, predicted)
    assert first == estimate_of("macro_f1", truth, predicted)
    assert first != estimate_of("macro_f1", truth, predicted, seed=1)
    assert first.method == "BCa bootstrap of confusion cells, 10000 resamples"
    assert first.low < first.value < first.high
    # Close to the interval of accuracy, which macro F1 nearly is with balanced labels.
    accuracy = estimate_of("accuracy", truth, predicted)
    assert (first.low, first.high) == pytest.approx((accuracy.low, accuracy.high), abs=0.02)


def test_one_label_has_the_interval_of_a_share():
    truth = ["payroll"] * 20 + ["rent"] * 20
    predicted = ["payroll"] * 15 + ["rent"] * 5 + ["payroll"] * 3 + ["rent"] * 17
    low, high = wilson(15, 23, confidence=0.95)
    estimate = estimate_of("f1:payroll", truth, predicted)
    # F1 = 2 * 15 / (20 + 18)
    assert estimate.value == pytest.approx(30 / 38)
    assert (estimate.low, estimate.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    precision = estimate_of("precision:payroll", truth, predicted)
    assert (precision.value, precision.low) == pytest.approx((15 / 18, wilson(15, 18, confidence=0.95)[0]))
    recall = estimate_of("recall:payroll", truth, predicted)
    assert (recall.value, recall.low) == pytest.approx((15 / 20, wilson(15, 20, confidence=0.95)[0]))
    with pytest.raises(StatisticsError, match="no example has the label 'tax'"):
        estimate_of("f1:tax", truth, predicted)


def test_a_label_never_predicted_has_no_known_precision():
    estimate = estimate_of("precision:rent", ["payroll", "rent"] * 20, ["payroll"] * 40)
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 1.0)


def test_perfect_answers_do_not_make_certainty():
    """All of 144 right: at most q = 1 - 0.025^(1/144) of examples are wrong, m = 144 q = 3.64 of 144.

    At worst these all belong to one of 12 labels (a loss of m / 12 in its F1) and go to another one (a loss
    of m / 24): macro F1 is at least 1 - (m / 12 + m / 24) / 12.
    """
    labels = tuple("abcdefghijkl")
    truth = truth_of(144, labels)
    estimate = estimate_of("macro_f1", truth, truth, labels)
    m = 144 * (1 - 0.025 ** (1 / 144))
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx(1 - (m / 12 + m / 24) / 12)
    assert estimate.method == "exact bound on errors (0 of 144), worst case"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["perfect", "all wrong", "one answer for all", "no label at all", "swapped"])
def test_no_estimate_has_zero_width(name, kind):
    truth = truth_of(80)
    predicted = {
        "perfect": truth,
        "all wrong": [LABELS[(LABELS.index(label) + 1 + i % 3) % 4] for i, label in enumerate(truth)],
        "one answer for all": ["payroll"] * 80,
        "no label at all": ["I cannot say"] * 80,
        "swapped": [{"rent": "tax", "tax": "rent"}.get(label, label) for label in truth],
    }[kind]
    estimate = estimate_of(name, truth, predicted)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high - estimate.low > 0.02
    # Nothing that happened is excluded: with groups, without, and against itself.
    grouped = estimate_of(name, truth, predicted, groups=[str(i // 5) for i in range(80)])
    assert grouped.low <= estimate.value <= grouped.high
    assert grouped.high - grouped.low > 0.02
    itself = difference_of(name, truth, predicted, predicted)
    assert itself.low < 0 < itself.high


def worst_found(name, matrix, moved, rng):
    """The lowest and highest statistic found by moving examples about within their rows."""
    k = len(matrix)
    found = []
    for _ in range(1500):
        changed = matrix.copy()
        favourite, spared = rng.integers(k), rng.integers(k)
        for _ in range(moved):
            row = favourite if rng.random() < 0.7 and changed[favourite].sum() > 0 else rng.integers(k)
            source = rng.choice(np.flatnonzero(changed[row] > 0))
            target = spared if rng.random() < 0.6 else (row if rng.random() < 0.5 else rng.integers(k))
            changed[row, source] -= 1
            changed[row, target] += 1
        found.append(changed)
    values = statistic(name, np.stack(found), [str(i) for i in range(k)])
    return values.min(), values.max()


@pytest.mark.parametrize("name", ["macro_f1", "macro_precision", "macro_recall", "weighted_f1", "micro_f1"])
def test_no_moved_examples_shift_a_statistic_further_than_the_bound(name):
    rng = np.random.default_rng(6)
    for matrix in (
        np.diag([3, 5, 9]),
        np.array([[4, 0, 0], [6, 0, 0], [9, 0, 0]]),
        np.array([[2, 1, 2]] * 3),
    ):
        value = statistic(name, matrix[None], "012")[0]
        fall, rise = largest_shift(
            name, *(part.astype(float) for part in (np.diag(matrix), matrix.sum(0), matrix.sum(1))), 3.0
        )
        low, high = worst_found(name, matrix, 3, rng)
        assert value - fall <= low + 1e-9
        assert high - 1e-9 <= value + rise
        # Not vacuous: what was found uses a good part of the bound.
        assert value - low >= 0.3 * min(fall, value)


def test_departing_examples_of_groups():
    # 0 of 20 groups: 1 - 0.025^(1/20) = 0.1684 (Newcombe 1998, table I), groups of up to twice the mean.
    assert departing_examples(100, 20, confidence=0.95) == pytest.approx(16.84, abs=0.005)
    assert departing_examples(100, 20, confidence=0.95, inflation=2) == pytest.approx(33.68, abs=0.01)
    assert departing_examples(100, 0, confidence=0.95) == 100


def test_paired_difference_takes_out_what_the_views_share():
    rng = np.random.default_rng(7)
    truth = truth_of(200)
    baseline = answers(truth, 0.7, rng)
    candidate = [label if rng.random() < 0.05 else guess for label, guess in zip(truth, baseline, strict=True)]
    difference = difference_of("macro_f1", truth, candidate, baseline)
    one = estimate_of("macro_f1", truth, candidate)
    expected = by_sklearn("macro_f1", truth, candidate) - by_sklearn("macro_f1", truth, baseline)
    assert difference.value == pytest.approx(expected)
    assert difference.high - difference.low < 0.5 * (one.high - one.low)
    swapped = difference_of("macro_f1", truth, baseline, candidate)
    assert (swapped.low, swapped.high) == pytest.approx((-difference.high, -difference.low), abs=0.005)


def test_a_view_against_itself_is_bounded_by_the_disagreement_it_could_have():
    labels = tuple("abcdefghijkl")
    truth = truth_of(144, labels)
    predicted = answers(truth, 0.95, np.random.default_rng(8), labels)
    difference = difference_of("macro_f1", truth, predicted, predicted, labels, confidence=0.9)
    assert difference.value == 0
    assert -0.05 < difference.low < -0.02
    assert "0 of 144" in difference.method


def test_two_views_that_are_fixed_in_different_ways():
    truth = truth_of(80)
    difference = difference_of("macro_f1", truth, truth, ["payroll"] * 80)
    assert difference.low < difference.value < difference.high
    assert difference.value == pytest.approx(1 - by_sklearn("macro_f1", truth, ["payroll"] * 80))
    assert "Bonferroni" in difference.method
    # Neither ever calls anything payroll that is not, so precision is 1 in every resample of both.
    careful = ["payroll" if i % 8 == 0 else "rent" if label == "payroll" else label for i, label in enumerate(truth)]
    precision = difference_of("precision:payroll", truth, truth, careful)
    assert precision.low < 0 == precision.value < precision.high
    # Each at half the error, 0.975: 20 of 20 right and 10 of 10 right.
    assert precision.low == pytest.approx(0.0125 ** (1 / 20) - 1)
    assert precision.high == pytest.approx(1 - 0.0125 ** (1 / 10))


def test_accuracy_and_recall_differences_are_paired_proportions():
    truth = ["payroll"] * 30 + ["rent"] * 30
    ours = ["payroll"] * 28 + ["rent"] * 32
    theirs = ["payroll"] * 24 + ["rent"] * 34 + ["payroll"] * 2
    accuracy = difference_of("accuracy", truth, ours, theirs)
    assert accuracy.value == pytest.approx(6 / 60)
    assert "6 won and 0 lost" in accuracy.method
    assert difference_of("micro_f1", truth, ours, theirs) == accuracy
    recall = difference_of("recall:payroll", truth, ours, theirs)
    assert recall.value == pytest.approx(4 / 30)
    assert "4 won and 0 lost" in recall.method
    assert recall.n == 60


def test_groups_are_resampled_whole():
    rng = np.random.default_rng(9)
    truth = [label for label in truth_of(60) for _ in range(5)]
    # All five examples of a group are answered alike.
    predicted = [guess for guess in answers(truth[::5], 0.8, rng) for _ in range(5)]
    groups = [str(i // 5) for i in range(300)]
    grouped = estimate_of("macro_f1", truth, predicted, groups=groups)
    alone = estimate_of("macro_f1", truth, predicted)
    assert "60 groups" in grouped.method
    # Five times fewer independent examples: about sqrt(5) = 2.2 times as wide.
    assert 1.7 < (grouped.high - grouped.low) / (alone.high - alone.low) < 2.8
    with pytest.raises(StatisticsError, match="9 groups are too few to resample; 10 are needed"):
        estimate_of("macro_f1", truth[:45], predicted[:45], groups=groups[:45])


def test_ten_thousand_resamples_of_ten_thousand_examples_take_under_half_a_second():
    labels = tuple("abcdefghijkl")
    truth = truth_of(10_000, labels)
    predicted = answers(truth, 0.9, np.random.default_rng(10), labels)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        estimate_of("macro_f1", truth, predicted, labels)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5


def population(accuracy, k):
    """Chance of each answer for each true label: half of the errors go to the next label."""
    matrix = np.full((k, k), (1 - accuracy) / 2 / (k - 1))
    matrix[np.arange(k), (np.arange(k) + 1) % k] += (1 - accuracy) / 2
    np.fill_diagonal(matrix, accuracy)
    return matrix


@pytest.mark.parametrize(("k", "n", "accuracy"), [(12, 150, 0.85), (4, 60, 0.9), (12, 500, 0.97)])
def test_macro_f1_intervals_cover(k, n, accuracy):
    labels = tuple("abcdefghijkl"[:k])
    chances = population(accuracy, k)
    rng = np.random.default_rng(11)
    truth = truth_of(n, labels)
    rows = np.array([labels.index(label) for label in truth])
    # The population has the label mix of the test set.
    true_value = statistic("macro_f1", (chances * np.bincount(rows)[:, None])[None], labels)[0]
    below = above = 0
    for _ in range(300):
        drawn = (rng.random(n)[:, None] > chances[rows].cumsum(axis=1)).sum(axis=1).clip(0, k - 1)
        predicted = [labels[i] for i in drawn]
        estimate = confusion_estimate("macro_f1", truth, predicted, labels, rng=rng, resamples=1000)
        below += estimate.high < true_value
        above += estimate.low > true_value
    # Three standard errors of 300 runs: 0.038 for both sides, 0.027 for one.
    assert 0.912 <= 1 - (below + above) / 300 <= 0.988
    assert above / 300 <= 0.025 + 0.027


def test_macro_f1_differences_cover_and_let_a_drop_at_the_margin_pass_rarely():
    labels = tuple("abcd")
    chances = population(0.95, 4)
    rng = np.random.default_rng(12)
    truth = truth_of(120, labels)
    rows = np.arange(120) % 4
    # The candidate is the baseline with 6 % of its answers moved on to the next label.
    worse = 0.94 * chances + 0.06 * np.roll(chances, 1, axis=1)
    values = statistic("macro_f1", np.stack([worse, chances]), labels)
    drop = values[0] - values[1]
    below = above = 0
    for _ in range(300):
        base = (rng.random(120)[:, None] > chances[rows].cumsum(axis=1)).sum(axis=1).clip(0, 3)
        moved = np.where(rng.random(120) < 0.06, (base + 1) % 4, base)
        difference = confusion_difference(
            "macro_f1", truth, [labels[i] for i in moved], [labels[i] for i in base], labels,
            confidence=0.9, rng=rng, resamples=1000,
        )  # fmt: skip
        above += difference.low > drop
        below += difference.high < drop
    # One-sided 95 %: three standard errors of 300 runs are 0.038.
    assert above / 300 <= 0.05 + 0.038
    assert below / 300 <= 0.05 + 0.038
    assert (above + below) / 300 > 0.03
