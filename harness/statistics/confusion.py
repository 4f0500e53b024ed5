"""Statistics of a confusion matrix: the value, its interval, and the paired difference of two views.

Definitions are scikit-learn's with `labels=` all labels and `zero_division=0`. Rows are true labels,
columns predicted ones; a last column beyond the labels counts answers that are none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from harness.errors import StatisticsError
from harness.records import Estimate
from harness.statistics import bootstrap
from harness.statistics.bootstrap import Floats, Integers, Interval, bca_interval, resampled, stratified_variance
from harness.statistics.extremes import Shift, departing_examples, largest_shift
from harness.statistics.means import grouped, paired_mean
from harness.statistics.proportions import paired_proportions, proportion

__all__ = [
    "LABEL_STATISTICS",
    "STATISTICS",
    "bootstrap_interval",
    "confusion_difference",
    "confusion_estimate",
    "confusion_matrix",
    "difference_interval",
    "estimate_interval",
    "statistic",
    "statistic_of",
]

STATISTICS = (
    "accuracy",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "micro_f1",
    "weighted_f1",
)
LABEL_STATISTICS = ("f1", "precision", "recall")
# With fewer groups a bootstrap of groups is far too sure of itself (Cameron, Gelbach and Miller 2008,
# "Bootstrap-based improvements for inference with clustered errors", table 2); ten is a convention.
MIN_GROUPS = 10
# Of one draw; small enough for a slope, large enough for float64.
_STEP = 1e-4


class Margins(NamedTuple):
    """What the statistics need of a batch of confusion matrices.

    hits, predicted, support: (b, k) diagonal, column sums, row sums. total: (b,) examples.
    """

    hits: Floats
    predicted: Floats
    support: Floats
    total: Floats


def confusion_matrix(truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> Integers:
    """Counts (k, k + 1) int; column k counts the predictions that are none of the labels.

    Raises StatisticsError if labels repeat, lengths differ or a true label is not among the labels.
    """
    rows, columns = _indices(truth, labels, "true"), _indices(predicted, labels, None)
    if len(rows) != len(columns):
        raise StatisticsError(f"{len(rows)} true labels but {len(columns)} predicted ones")
    matrix = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def statistic(name: str, matrices: Integers | Floats, labels: Sequence[str]) -> Floats:
    """The named statistic of each matrix.

    matrices: (b, k, k) or (b, k, k + 1) counts, rows true; the last column of the wider form counts
    predictions that are none of the labels. Returns (b,) float in [0, 1].
    Raises StatisticsError for a name that is not known.
    """
    counts = np.asarray(matrices, dtype=np.float64)
    k = len(labels)
    if counts.ndim != 3 or counts.shape[1] != k or counts.shape[2] not in (k, k + 1):
        raise StatisticsError(f"confusion matrices of shape {counts.shape} do not fit {k} labels")
    support = counts.sum(axis=2)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    margins = Margins(hits, counts.sum(axis=1)[:, :k], support, support.sum(axis=1))
    return _named(name, labels)(margins)


def statistic_of(name: str, truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> float:
    """The named statistic of one set of answers."""
    matrix = confusion_matrix(truth, predicted, labels)
    return float(statistic(name, matrix[None], labels)[0])


def _named(name: str, labels: Sequence[str]) -> Callable[[Margins], Floats]:
    kind, colon, label = name.partition(":")
    if colon and kind in LABEL_STATISTICS:
        index = _label_index(name, label, labels)
        by_label = {"f1": _f1, "precision": _precision, "recall": _recall}[kind]
        return lambda margins: by_label(margins)[:, index]
    whole: dict[str, Callable[[Margins], Floats]] = {
        "accuracy": lambda m: _ratio(m.hits.sum(axis=1), m.total),
        "macro_f1": lambda m: _f1(m).mean(axis=1),
        "macro_precision": lambda m: _precision(m).mean(axis=1),
        "macro_recall": lambda m: _recall(m).mean(axis=1),
        "micro_f1": lambda m: _ratio(2 * m.hits.sum(axis=1), m.predicted.sum(axis=1) + m.support.sum(axis=1)),
        "weighted_f1": lambda m: _ratio((_f1(m) * m.support).sum(axis=1), m.total),
    }
    if name not in whole:
        known = ", ".join((*STATISTICS, *(f"{kind}:<label>" for kind in LABEL_STATISTICS)))
        raise StatisticsError(f"no statistic of a confusion matrix is called {name!r}; known: {known}")
    return whole[name]


def _label_index(name: str, label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        raise StatisticsError(f"{name}: no label {label!r} among {', '.join(labels)}")
    return list(labels).index(label)


def _f1(margins: Margins) -> Floats:
    return _ratio(2 * margins.hits, margins.support + margins.predicted)


def _precision(margins: Margins) -> Floats:
    return _ratio(margins.hits, margins.predicted)


def _recall(margins: Margins) -> Floats:
    return _ratio(margins.hits, margins.support)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _indices(names: Sequence[str], labels: Sequence[str], kind: str | None) -> Integers:
    """Index of each name among the labels; a name that is none of them is len(labels), or an error."""
    position = {label: index for index, label in enumerate(labels)}
    if len(position) != len(labels):
        raise StatisticsError(f"a label is named twice: {', '.join(labels)}")
    if not labels:
        raise StatisticsError("a statistic of a confusion matrix needs the list of labels")
    if kind is not None:
        for name in names:
            if name not in position:
                raise StatisticsError(f"{kind} label {name!r} is not among {', '.join(labels)}")
    return np.array([position.get(name, len(labels)) for name in names], dtype=np.int64)


class _Units(NamedTuple):
    """What is resampled: cells, or groups of examples.

    margins: one (units, 3 k) for each view: hits, predicted and support that one draw of the unit adds.
    counts, strata: as in `bootstrap.resampled`.
    """

    margins: tuple[Floats, ...]
    counts: Integers
    strata: Integers


def _units(truth: Integers, predictions: Sequence[Integers], k: int, clusters: Integers | None) -> _Units:
    if clusters is None:
        cells, counts = np.unique(np.stack([truth, *predictions]), axis=1, return_counts=True)
        per_view = [_one_hot_margins(cells[0], column, k) for column in cells[1:]]
        return _Units(tuple(per_view), counts.astype(np.int64), cells[0])
    n_groups = int(clusters.max()) + 1
    if n_groups < MIN_GROUPS:
        raise StatisticsError(
            f"{n_groups} groups are too few to resample; {MIN_GROUPS} are needed. Add examples of more "
            "groups, or leave `group` out if the examples are independent."
        )
    per_view = []
    for column in predictions:
        summed = np.zeros((n_groups, 3 * k))
        np.add.at(summed, clusters, _one_hot_margins(truth, column, k))
        per_view.append(summed)
    ones = np.ones(n_groups, dtype=np.int64)
    return _Units(tuple(per_view), ones, np.zeros(n_groups, dtype=np.int64))


def _one_hot_margins(truth: Integers, predicted: Integers, k: int) -> Floats:
    rows = np.arange(len(truth))
    margins = np.zeros((len(truth), 3 * k))
    margins[rows[truth == predicted], truth[truth == predicted]] = 1
    inside = predicted < k
    margins[rows[inside], k + predicted[inside]] = 1
    margins[rows, 2 * k + truth] = 1
    return margins


def _split(flat: Floats) -> Margins:
    hits, predicted, support = np.split(flat, 3, axis=1)
    return Margins(hits, predicted, support, support.sum(axis=1))


def confusion_estimate(
    name: str,
    truth: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    rng: np.random.Generator,
    resamples: int | None = None,
) -> Estimate:
    """The named statistic of one view and its interval.

    truth, predicted: (n,) labels; a prediction may be none of the labels. groups: (n,) or None.
    resamples: None for `bootstrap.RESAMPLES`.

    Accuracy, and precision, recall and F1 of one label are a share of examples, or a monotone function of
    one: F1 = 2 J / (1 + J) with J the share of examples that have the label among those that have it or
    were given it. They have the interval of that share, see `proportion` (Hand, Christen and Kirielle
    2021, "F*: an interpretable transformation of the F-measure", Machine Learning 110). Everything else is
    bootstrapped: confusion cells stratified by true label, or whole groups.
    Where no resample differs from another, see `harness.statistics.extremes`.
    Raises StatisticsError if the statistic is not known or no interval is defined.
    """
    return estimate_interval(name, truth, predicted, labels, groups=groups, rng=rng, resamples=resamples).at(confidence)


def estimate_interval(
    name: str,
    truth: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None,
    rng: np.random.Generator,
    resamples: int | None = None,
) -> Interval:
    """What `confusion_estimate` gives, at any confidence from one set of resamples."""
    _named(name, labels)
    clusters = grouped(groups, len(truth))
    if _is_accuracy(name, predicted, labels):
        hits = [float(true == guess) for true, guess in zip(truth, predicted, strict=True)]
        return Interval(lambda confidence: proportion(hits, groups=groups, confidence=confidence))
    rows, columns, known = _labelled(name, truth, labels), _indices(predicted, labels, None), labels
    if ":" in name:
        # Which other label it was makes no difference to the statistic of one label.
        name, rows, (columns,), known = _one_against_rest(name, rows, [columns], labels)
    return _one_view(name, rows, columns, known, clusters, rng, _or_usual(resamples))


def confusion_difference(
    name: str,
    truth: Sequence[str],
    candidate: Sequence[str],
    baseline: Sequence[str],
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    rng: np.random.Generator,
    resamples: int | None = None,
) -> Estimate:
    """The named statistic of candidate minus that of baseline, over the same examples.

    truth, candidate, baseline: (n,) labels in the same order. Accuracy and the recall of one label are
    paired proportions; everything else is bootstrapped from the cells of (truth, candidate, baseline)
    together, so that what the two views share does not count as noise, and widened where few examples
    distinguish the views, see `_adjusted_error`.
    Raises StatisticsError as `confusion_estimate` does.
    """
    interval = difference_interval(
        name, truth, candidate, baseline, labels, groups=groups, rng=rng, resamples=resamples
    )
    return interval.at(confidence)


def difference_interval(
    name: str,
    truth: Sequence[str],
    candidate: Sequence[str],
    baseline: Sequence[str],
    labels: Sequence[str],
    *,
    groups: Sequence[str] | None,
    rng: np.random.Generator,
    resamples: int | None = None,
) -> Interval:
    """What `confusion_difference` gives, at any confidence from one set of resamples."""
    if not len(truth) == len(candidate) == len(baseline):
        raise StatisticsError(f"{len(truth)} true labels, {len(candidate)} and {len(baseline)} predicted ones")
    _named(name, labels)
    clusters = grouped(groups, len(truth))
    rows = _labelled(name, truth, labels)
    columns = [_indices(candidate, labels, None), _indices(baseline, labels, None)]
    shares = _is_accuracy(name, (*candidate, *baseline), labels)
    if shares or (name.startswith("recall:") and clusters is None):
        kept = np.ones(len(rows), dtype=bool) if shares else rows == labels.index(name.partition(":")[2])
        ours, theirs = [(rows == column)[kept].astype(np.float64).tolist() for column in columns]
        if clusters is None:
            return Interval(lambda c: replace(paired_proportions(ours, theirs, confidence=c), n=len(rows)))
        return Interval(lambda c: paired_mean(ours, theirs, groups=groups, bounds=(0.0, 1.0), confidence=c))
    known = labels
    if ":" in name:
        name, rows, columns, known = _one_against_rest(name, rows, columns, labels)
    return bootstrap_interval(name, rows, columns, known, clusters, rng, _or_usual(resamples))


def _or_usual(resamples: int | None) -> int:
    return bootstrap.RESAMPLES if resamples is None else resamples


def _is_accuracy(name: str, predicted: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether the statistic is the share of right answers; micro F1 is where each answer is a label."""
    return name == "accuracy" or (name == "micro_f1" and set(predicted) <= set(labels))


def _labelled(name: str, truth: Sequence[str], labels: Sequence[str]) -> Integers:
    rows = _indices(truth, labels, "true")
    label = name.partition(":")[2]
    if label and label not in truth:
        raise StatisticsError(f"{name} is not defined: no example has the label {label!r}")
    return rows


def _one_against_rest(
    name: str, rows: Integers, columns: Sequence[Integers], labels: Sequence[str]
) -> tuple[str, Integers, list[Integers], tuple[str, str]]:
    kind, _, label = name.partition(":")
    index = list(labels).index(label)
    return (
        f"{kind}:label",
        (rows != index).astype(np.int64),
        [(column != index).astype(np.int64) for column in columns],
        ("label", "rest"),
    )


def _label_share(
    name: str, rows: Integers, columns: Integers, clusters: Integers | None, confidence: float
) -> Estimate:
    """Precision, recall or F1 of label 0 as a share of the examples that concern it."""
    kind = name.partition(":")[0]
    has, given = rows == 0, columns == 0
    concerned = {"f1": has | given, "precision": given, "recall": has}[kind]
    if not concerned.any():
        method = "undefined without predictions of the label, counted as 0"
        return Estimate(0.0, 0.0, 1.0, len(rows), method, confidence)
    right = (has & given)[concerned].astype(np.float64).tolist()
    groups = None if clusters is None else clusters[concerned].astype(str).tolist()
    share = proportion(right, groups=groups, confidence=confidence)
    value, low, high, method = share.value, share.low, share.high, share.method
    if kind == "f1":
        value, low, high = (2 * part / (1 + part) for part in (value, low, high))
        method = f"{method}, mapped to F1"
    return Estimate(value, low, high, len(rows), f"{method}, {share.n} examples", confidence)


def bootstrap_interval(
    name: str,
    rows: Integers,
    columns: Sequence[Integers],
    labels: Sequence[str],
    clusters: Integers | None,
    rng: np.random.Generator,
    resamples: int,
) -> Interval:
    """One view's statistic, or with two columns the first view's minus the second's.

    rows: (n,) index of the true label. columns: one or two (n,) indices of the predicted label, k for an
    answer that is none. clusters: (n,) index of the group, or None. Raises as `confusion_estimate` does.
    """
    function = _named(name, labels)
    units = _units(rows, columns, len(labels), clusters)

    def drawn(weights: Floats) -> Floats:
        values = [function(_split(weights @ margins)) for margins in units.margins]
        return values[0] if len(values) == 1 else values[0] - values[1]

    whole = units.counts.astype(np.float64)[None]
    value = float(drawn(whole)[0])
    replicates = resampled(drawn, units.counts, units.strata, rng=rng, resamples=resamples)
    if np.ptp(replicates) <= 1e-12:
        return _without_variation(name, value, rows, columns, labels, clusters, rng, resamples)
    replicates.sort()
    fewer = [function(_split(whole @ margins - margins)) for margins in units.margins]
    without_one = fewer[0] if len(fewer) == 1 else fewer[0] - fewer[1]
    what = "confusion cells" if clusters is None else f"{len(units.counts)} groups"
    paired = "joint " if len(columns) == 2 and clusters is None else ""
    method = f"BCa bootstrap of {paired}{what}, {resamples} resamples"
    n = len(rows)
    if len(columns) == 1:

        def one(confidence: float) -> Estimate:
            low, high = bca_interval(value, replicates, without_one, units.counts, units.strata, confidence=confidence)
            return Estimate(value, low, high, n, method, confidence)

        return Interval(one, 1 / (resamples + 1))
    error, freedom = _adjusted_error(function, units)

    def two(confidence: float) -> Estimate:
        low, high = bca_interval(value, replicates, without_one, units.counts, units.strata, confidence=confidence)
        half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
        low, high = max(-1.0, min(low, value - half)), min(1.0, max(high, value + half))
        return Estimate(value, low, high, n, f"{method}, no narrower than an adjusted t interval", confidence)

    return Interval(two)


def _adjusted_error(function: Callable[[Margins], Floats], units: _Units) -> tuple[float, float]:
    """Standard error and degrees of freedom of the interval that a paired difference is at least as wide as.

    A bootstrap draws only disagreements that were seen. Where there are few, the next test set may well have
    another kind, and the interval misses a loss that falls on a label or two. So one win and one loss are added
    to the variance of the delta method, each with the mean square of what one answer changes, label by label:
    the idea of Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of binomial
    proportions based on paired data", Journal of Educational and Behavioral Statistics 37, carried over to a
    function of the confusion matrix. With groups, one answer counts for a group of mean size.
    """
    sums = [units.counts @ margins for margins in units.margins]
    # The slope, as a small step down the weight of each unit.
    ours, theirs = [
        (function(_split(whole - _STEP * margins)) - function(_split(whole[None]))) / _STEP
        for whole, margins in zip(sums, units.margins, strict=True)
    ]
    draws, strata = int(units.counts.sum()), len(np.unique(units.strata))
    examples = float(np.split(sums[0], 3)[2].sum())
    steps = [_one_answer(function, whole) for whole in sums]
    added = 2 * (examples / draws) ** 2 * float(np.mean([np.mean(step**2) for step in steps]))
    variance = stratified_variance(ours - theirs, units.counts, units.strata) + added
    return float(np.sqrt(variance)), float(max(1, draws - strata))


def _one_answer(function: Callable[[Margins], Floats], flat: Floats) -> Floats:
    """(k,) what changes if one right answer of a label turns wrong, or the reverse where none is right."""
    hits, _predicted, support = np.split(flat, 3)
    k = len(hits)
    changed = np.tile(flat, (k, 1))
    step = np.where(hits > 0, -1.0, np.where(support > 0, 1.0, 0.0))
    each = np.arange(k)
    changed[each, each] += step
    changed[each, k + each] += step
    # The answer goes to, or comes from, another label's column, if there is one in it.
    other = k + (each + 1) % k
    changed[each, other] = np.maximum(changed[each, other] - step, changed[each, (each + 1) % k])
    result: Floats = function(_split(changed)) - function(_split(flat[None]))
    return result


def _without_variation(
    name: str,
    value: float,
    rows: Integers,
    columns: Sequence[Integers],
    labels: Sequence[str],
    clusters: Integers | None,
    rng: np.random.Generator,
    resamples: int,
) -> Interval:
    """Where every resample is the sample."""
    n = len(rows)
    if len(columns) == 1:

        def fixed(confidence: float) -> Estimate:
            low, high, method = _fixed(name, value, rows, columns[0], labels, clusters, confidence)
            return Estimate(value, low, high, n, method, confidence)

        return Interval(fixed)
    if _agree(name, rows, *columns):

        def agreeing(confidence: float) -> Estimate:
            # Where either view ends up better, the other one fell from there.
            shift = max(_largest_shift(name, rows, columns[1], labels, clusters, confidence, 0))
            method = f"exact bound on disagreement (0 of {n}), worst case"
            return Estimate(value, -shift, shift, n, method, confidence)

        return Interval(agreeing)
    ours, theirs = [_one_view(name, rows, column, labels, clusters, rng, resamples) for column in columns]

    def each(confidence: float) -> Estimate:
        # Each interval at half the error, so that both hold at once with the confidence asked for.
        our, their = ours.at((1 + confidence) / 2), theirs.at((1 + confidence) / 2)
        method = f"difference of two intervals (Bonferroni): {our.method}; {their.method}"
        return Estimate(value, our.low - their.high, our.high - their.low, n, method, confidence)

    return Interval(each, max(ours.finest, theirs.finest))


def _one_view(
    name: str,
    rows: Integers,
    column: Integers,
    labels: Sequence[str],
    clusters: Integers | None,
    rng: np.random.Generator,
    resamples: int,
) -> Interval:
    if ":" in name:
        return Interval(lambda confidence: _label_share(name, rows, column, clusters, confidence))
    return bootstrap_interval(name, rows, [column], labels, clusters, rng, resamples)


def _agree(name: str, rows: Integers, ours: Integers, theirs: Integers) -> bool:
    """Whether two views answer the same wherever it matters; to recall, all wrong labels are the same."""
    if name == "macro_recall":
        return bool(np.array_equal(rows == ours, rows == theirs))
    return bool(np.array_equal(ours, theirs))


def _fixed(
    name: str,
    value: float,
    rows: Integers,
    column: Integers,
    labels: Sequence[str],
    clusters: Integers | None,
    confidence: float,
) -> tuple[float, float, str]:
    """Low, high and method for one view where all resamples are equal.

    All right and all wrong are patterns known beforehand. That each true label always has one answer is
    not: one trial a label was used up to see which.
    Raises StatisticsError if there is no such pattern: then something else keeps the statistic fixed.
    """
    answers = np.unique(np.stack([rows, column]), axis=1)
    if (rows == column).all():
        pattern, used = "errors", 0
    elif (rows != column).all():
        pattern, used = "right answers", 0
    elif len(np.unique(answers[0])) == answers.shape[1]:
        pattern, used = "other answers", int(answers.shape[1])
    else:
        raise StatisticsError("all bootstrap resamples give the same value: no interval is defined")
    fall, rise = _largest_shift(name, rows, column, labels, clusters, confidence, used)
    method = f"exact bound on {pattern} (0 of {len(rows)}), worst case"
    return max(0.0, value - fall), min(1.0, value + rise), method


def _largest_shift(
    name: str,
    rows: Integers,
    column: Integers,
    labels: Sequence[str],
    clusters: Integers | None,
    confidence: float,
    used: int,
) -> Shift:
    """What examples that none of the trials showed could do; `used` trials told what the pattern is."""
    sizes = np.ones(len(rows)) if clusters is None else np.bincount(clusters).astype(np.float64)
    inflation = float(sizes.max() / sizes.mean())
    departing = departing_examples(len(rows), len(sizes) - used, confidence=confidence, inflation=inflation)
    flat = _one_hot_margins(rows, column, len(labels)).sum(axis=0, keepdims=True)
    margins = _split(flat)
    return largest_shift(name, margins.hits[0], margins.predicted[0], margins.support[0], departing)
