"""From the scores of one view, or of two on the same examples, to an estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import StatisticsError
from harness.records import Estimate, Scores
from harness.statistics.bootstrap import Interval
from harness.statistics.confusion import difference_interval, estimate_interval, statistic_of
from harness.statistics.means import mean, paired_mean
from harness.statistics.ppi import FEWEST_LABELS, Corrected, corrected_mean, labelled
from harness.statistics.proportions import paired_proportions, proportion
from harness.statistics.seeds import mean_distances, over_seeds

__all__ = ["Correction", "correction", "difference", "estimate", "interval", "paired", "point"]


class Correction(NamedTuple):
    """alone: what the judge's grades say without people. weight: of the judge, 0 to 1. n_human: graded by people."""

    alone: Estimate
    weight: float
    n_human: int


def point(scores: Scores) -> float:
    """The measure's value alone, without an interval; corrected where there are human grades.

    Raises StatisticsError if the scores cannot carry one.
    """
    _check(scores)
    if scores.replicates:
        return math.fsum(point(ours) for ours, _ in _by_seed(scores, None)) / len(scores.replicates)
    people = _people(scores, None)
    if people is not None:
        return corrected_mean(scores.values, people, groups=scores.groups, bounds=scores.bounds).estimate.value
    if scores.statistic == "mean":
        return math.fsum(scores.values) / len(scores.values)
    truth, predicted = _labels_of(scores)
    return statistic_of(scores.statistic, truth, predicted, scores.labels)


def estimate(scores: Scores, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The measure's value and its two-sided interval at `confidence`.

    seed: of the resampling; the same scores and seed give the same interval.
    Raises StatisticsError if the scores cannot carry an estimate, saying of which measure and view.
    """
    _check_confidence(confidence)
    return interval(scores, None, seed=seed).at(confidence)


def difference(candidate: Scores, baseline: Scores, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Candidate minus baseline over the same examples, and its two-sided interval at `confidence`.

    The order of the examples may differ; what they are may not. seed: as in `estimate`.
    Raises StatisticsError if the scores are not of the same measure and the same examples with the same
    true labels and groups, or cannot carry an estimate.
    """
    _check_confidence(confidence)
    return interval(candidate, baseline, seed=seed).at(confidence)


def correction(
    scores: Scores, baseline: Scores | None, *, confidence: float = 0.95, seed: int = 0
) -> Correction | None:
    """What human grades correct in `estimate`, or with a baseline in `difference`; None where they correct nothing.

    Of scores with replicates: the weight is the mean over the seeds, n_human that of the seed with the fewest.
    Raises StatisticsError as these do.
    """
    _check(scores)
    found: list[Corrected] = []
    for ours, theirs in _by_seed(scores, baseline):
        _check(ours)
        if theirs is not None:
            _check(theirs)
            theirs = _aligned(ours, theirs)
        people = _people(ours, theirs)
        if people is None:
            return None
        judged, bounds = (ours.values, ours.bounds) if theirs is None else _differences(ours, theirs)
        found.append(corrected_mean(judged, people, groups=ours.groups, bounds=bounds, confidence=confidence))
    other = None if baseline is None else _without_people(baseline)
    alone = interval(_without_people(scores), other, seed=seed).at(confidence)
    weight = math.fsum(one.weight for one in found) / len(found)
    return Correction(alone, weight, min(one.n_human for one in found))


def interval(scores: Scores, baseline: Scores | None, *, seed: int = 0) -> Interval:
    """What `estimate` gives, or with a baseline `difference`, at any confidence from one set of resamples.

    Of scores with replicates it is on the mean over the seeds; see `over_seeds`.
    """
    _check(scores)
    if scores.replicates or (baseline is not None and baseline.replicates):
        return _over_seeds(scores, baseline, seed)
    rng = np.random.default_rng(seed)
    if baseline is None:
        return _of_one(scores, rng)
    _check(baseline)
    return _of_two(scores, _aligned(scores, baseline), rng)


def _over_seeds(scores: Scores, baseline: Scores | None, seed: int) -> Interval:
    pairs = _by_seed(scores, baseline)
    for one, _ in pairs:
        if one.ids != pairs[0][0].ids:
            raise StatisticsError(f"{_name(scores)}: the seeds were not scored on the same examples in one order")
    low, high = _example_bounds(scores)
    bounds = (low, high) if baseline is None else (low - high, high - low)
    if scores.statistic == "mean" and pairs[0][0].human is None:
        values = [point(one) - (0.0 if other is None else point(other)) for one, other in pairs]
        theirs = [other for _, other in pairs if other is not None]
        examples = interval(_averaged([one for one, _ in pairs]), _averaged(theirs) if theirs else None, seed=seed)
    else:
        each = [interval(one, other, seed=seed) for one, other in pairs]
        values, examples = [one.at(0.95).value for one in each], mean_distances(each)
    return over_seeds(values, examples, bounds)


def _averaged(seeds: Sequence[Scores]) -> Scores:
    """One view's scores with each example's mean over the seeds."""
    columns = zip(*(one.values for one in seeds), strict=True)
    return replace(seeds[0], values=tuple(math.fsum(column) / len(seeds) for column in columns), replicates=())


def _by_seed(scores: Scores, baseline: Scores | None) -> list[tuple[Scores, Scores | None]]:
    """What is estimated for each seed; for scores without replicates the one pair that there is.

    Either all seeds are corrected by people or none: a mean of both would be of nothing that can be named.
    """
    count = len(scores.replicates) or len(baseline.replicates if baseline is not None else ()) or 1
    ours = scores.replicates or (scores,) * count
    theirs: tuple[Scores | None, ...] = (
        (None,) * count if baseline is None else baseline.replicates or (baseline,) * count
    )
    if len(ours) != len(theirs):
        raise StatisticsError(
            f"{_name(scores)} is of {len(ours)} seeds, and {_name(theirs[0] or scores)} of {len(theirs)}; compare "
            "recipes of equally many"
        )
    pairs = list(zip(ours, theirs, strict=True))
    if count == 1 or all(_enough_people(one, other) for one, other in pairs):
        return pairs
    return [(_without_people(one), None if other is None else _without_people(other)) for one, other in pairs]


def _enough_people(scores: Scores, baseline: Scores | None) -> bool:
    if scores.human is None or (baseline is not None and baseline.human is None):
        return False
    return _people(scores, None if baseline is None else _aligned(scores, baseline)) is not None


def _without_people(scores: Scores) -> Scores:
    return replace(scores, human=None, replicates=tuple(map(_without_people, scores.replicates)))


def paired(scores: Scores, baseline: Scores | None) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Each example's value, or with a baseline its difference, (n,) in the order of scores, and its bounds.

    For accuracy, whose examples are right or wrong, as for a mean. Raises StatisticsError as `difference` does.
    """
    _check(scores)
    if baseline is None:
        return _each(scores), _example_bounds(scores)
    _check(baseline)
    low, high = _example_bounds(scores)
    return _each(scores) - _each(_aligned(scores, baseline)), (low - high, high - low)


def _each(scores: Scores) -> NDArray[np.float64]:
    if scores.statistic == "mean":
        return np.asarray(scores.values, dtype=np.float64)
    truth, predicted = _labels_of(scores)
    return np.array([float(true == guess) for true, guess in zip(truth, predicted, strict=True)])


def _example_bounds(scores: Scores) -> tuple[float, float]:
    return scores.bounds if scores.statistic == "mean" else (0.0, 1.0)


def _of_one(scores: Scores, rng: np.random.Generator) -> Interval:
    values, groups = scores.values, scores.groups
    people = _people(scores, None)
    if people is not None:
        correct = partial(corrected_mean, values, people, groups=groups, bounds=scores.bounds)
        return Interval(lambda confidence: correct(confidence=confidence).estimate)
    if scores.statistic != "mean":
        truth, predicted = _labels_of(scores)
        return estimate_interval(scores.statistic, truth, predicted, scores.labels, groups=groups, rng=rng)
    if _is_binary(scores):
        return Interval(lambda confidence: proportion(values, groups=groups, confidence=confidence))
    return Interval(lambda confidence: mean(values, groups=groups, bounds=scores.bounds, confidence=confidence))


def _of_two(candidate: Scores, baseline: Scores, rng: np.random.Generator) -> Interval:
    ours, theirs, groups = candidate.values, baseline.values, candidate.groups
    people = _people(candidate, baseline)
    if people is not None:
        judged, limits = _differences(candidate, baseline)
        correct = partial(corrected_mean, judged, people, groups=groups, bounds=limits)
        return Interval(lambda confidence: _paired(correct(confidence=confidence).estimate))
    if candidate.statistic != "mean":
        truth, guesses = _labels_of(candidate)
        _, others = _labels_of(baseline)
        return difference_interval(
            candidate.statistic, truth, guesses, others, candidate.labels, groups=groups, rng=rng
        )
    independent = groups is None or len(set(groups)) == len(groups)
    if _is_binary(candidate) and _is_binary(baseline) and independent:
        return Interval(lambda confidence: paired_proportions(ours, theirs, confidence=confidence))
    bounds = candidate.bounds
    return Interval(lambda confidence: paired_mean(ours, theirs, groups=groups, bounds=bounds, confidence=confidence))


def _people(scores: Scores, baseline: Scores | None) -> tuple[float | None, ...] | None:
    """Human grades, or with an aligned baseline their differences; None where too few to correct anything."""
    if scores.human is None or scores.statistic != "mean":
        return None
    people = scores.human
    if baseline is not None:
        others = baseline.human or (None,) * len(people)
        people = tuple(
            None if ours is None or theirs is None else ours - theirs
            for ours, theirs in zip(people, others, strict=True)
        )
    return people if labelled(people) >= FEWEST_LABELS else None


def _differences(candidate: Scores, baseline: Scores) -> tuple[tuple[float, ...], tuple[float, float]]:
    """What the judge's grades differ by, and within which bounds."""
    low, high = candidate.bounds
    pairs = zip(candidate.values, baseline.values, strict=True)
    return tuple(ours - theirs for ours, theirs in pairs), (low - high, high - low)


def _paired(estimate: Estimate) -> Estimate:
    return replace(estimate, method=f"paired: {estimate.method}")


def _is_binary(scores: Scores) -> bool:
    return scores.bounds == (0.0, 1.0) and all(value in (0.0, 1.0) for value in scores.values)


def _name(scores: Scores) -> str:
    return f"{scores.measure} of {scores.view}"


def _check(scores: Scores) -> None:
    problem = scores.problem()
    if problem is not None:
        raise StatisticsError(f"{_name(scores)}: {problem}")
    n = len(scores.ids)
    for what, column in (
        ("true labels", scores.truth),
        ("predicted labels", scores.predicted),
        ("groups", scores.groups),
        ("human grades", scores.human),
    ):
        if column is not None and len(column) != n:
            raise StatisticsError(f"{_name(scores)}: {len(column)} {what} for {n} examples")
    low, high = scores.bounds
    for example_id, grade in zip(scores.ids, scores.human or (), strict=False):
        if grade is not None and not low <= grade <= high:
            raise StatisticsError(
                f"{_name(scores)}: the human grade of {example_id} is {grade:g}, outside {low:g} to {high:g}"
            )
    if not low < high:
        raise StatisticsError(f"{_name(scores)}: bounds {low:g} to {high:g} leave no room for a value")
    for example_id, value in zip(scores.ids, scores.values, strict=True):
        if not low <= value <= high:
            raise StatisticsError(
                f"{_name(scores)}: the score of {example_id} is {value:g}, outside {low:g} to {high:g}"
            )


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise StatisticsError(f"confidence must lie between 0 and 1, got {confidence}")


def _labels_of(scores: Scores) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if scores.truth is None or scores.predicted is None:
        raise StatisticsError(f"{_name(scores)}: {scores.statistic} needs true and predicted labels")
    return scores.truth, scores.predicted


def _aligned(candidate: Scores, baseline: Scores) -> Scores:
    """The baseline in the candidate's order of examples."""
    pair = f"{candidate.measure}: {candidate.view} and {baseline.view}"
    for what, ours, theirs in (
        ("measures", candidate.measure, baseline.measure),
        ("statistics", candidate.statistic, baseline.statistic),
        ("labels", candidate.labels, baseline.labels),
        ("bounds", candidate.bounds, baseline.bounds),
    ):
        if ours != theirs:
            raise StatisticsError(f"{pair} have different {what}: {ours} and {theirs}")
    known = {example_id: index for index, example_id in enumerate(baseline.ids)}
    missing = [example_id for example_id in candidate.ids if example_id not in known]
    extra = sorted(known.keys() - set(candidate.ids), key=known.__getitem__)
    if missing or extra:
        only = (
            f"{len(missing)} examples only in {candidate.view}",
            f"{len(extra)} only in {baseline.view}",
        )
        first = (missing or extra)[0]
        raise StatisticsError(
            f"{pair} were not scored on the same examples: {only[0]}, {only[1]}, first {first}. "
            "Score both on the same test set."
        )
    order = [known[example_id] for example_id in candidate.ids]
    for what, ours_of, theirs_of in (
        ("true label", candidate.truth, baseline.truth),
        ("group", candidate.groups, baseline.groups),
    ):
        if (ours_of is None) != (theirs_of is None):
            raise StatisticsError(f"{pair}: only one of them has a {what} for each example")
        if ours_of is None or theirs_of is None:
            continue
        for example_id, ours_one, index in zip(candidate.ids, ours_of, order, strict=True):
            if ours_one != theirs_of[index]:
                raise StatisticsError(
                    f"{pair}: example {example_id} has the {what} {ours_one!r} and {theirs_of[index]!r}"
                )
    return Scores(
        measure=baseline.measure,
        view=baseline.view,
        ids=candidate.ids,
        values=tuple(baseline.values[index] for index in order),
        n_expected=baseline.n_expected,
        statistic=baseline.statistic,
        truth=candidate.truth,
        predicted=_reordered(baseline.predicted, order),
        labels=baseline.labels,
        groups=candidate.groups,
        bounds=baseline.bounds,
        human=None if baseline.human is None else tuple(baseline.human[index] for index in order),
    )


def _reordered(column: tuple[str, ...] | None, order: list[int]) -> tuple[str, ...] | None:
    return None if column is None else tuple(column[index] for index in order)
