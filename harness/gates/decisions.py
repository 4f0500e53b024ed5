"""Deciding a rule on scores. Nothing but evidence passes: whatever is missing is `incomplete`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from harness.errors import GateError, StatisticsError
from harness.gates.informative import uninformative
from harness.gates.parts import SliceValues, check_named, restricted, slice_values, with_named
from harness.gates.plans import power_warning
from harness.gates.rules import check_rule, check_slices, check_whole, in_words
from harness.records import Estimate, Outcome, Rule, RuleKind, Scores, Verdict

__all__ = ["MIN_N", "Estimates", "decide", "decide_slices", "other_number", "overall", "unmeasured"]

MIN_N = 20
"""The fewest examples that a slice's value is decided on, where a gate does not say otherwise."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_WORST_FIRST = (Outcome.FAIL, Outcome.INCOMPLETE, Outcome.INCONCLUSIVE, Outcome.NOT_APPLICABLE, Outcome.PASS)

# Differences below this are rounding of floating-point arithmetic, as in 0.90 - 0.85 > 0.05.
_ROUNDING = 1e-9
# Beyond a hundred times the examples at hand, more examples are no advice.
_OUT_OF_REACH = 100.0


class Estimates(NamedTuple):
    """What a rule is decided by: the measure on the view, and the paired difference where it compares."""

    value: Estimate
    difference: Estimate | None


def decide(
    rule: Rule,
    scores: Scores,
    baseline: Scores | None,
    *,
    view: str,
    seed: int = 0,
    texts: Mapping[str, str] = _NOTHING,
    answers: Mapping[str, str] = _NOTHING,
    estimates: Estimates | None = None,
) -> Verdict:
    """The verdict of a rule on one view's scores.

    scores: of `view`. baseline: of `rule.baseline` on the same examples; not used by a threshold.
    seed: of the resampling behind an interval; the same scores and seed give the same verdict.
    texts, answers: id -> what was asked and what the view answered, where known; they explain a verdict.
    estimates: to decide by, where the usual intervals do not hold because of when the scores end; then p_value and
    warning are left to the caller.

    A threshold is decided by the estimate ("point") or by its two-sided interval at `rule.confidence`
    ("confident"). A comparison is decided by the one-sided bound of the paired difference at
    `rule.confidence`; shown is the two-sided interval that has this bound at each end, at 95 % the one at
    90 %, which is how non-inferiority is tested. An example that must pass and is wrong makes it a fail.
    Raises GateError if the rule itself cannot be decided, e.g. has a threshold of NaN or names an example
    that there is not, or if the scores are of another view than said.
    """
    _check(rule, scores, baseline, view)
    check_named(scores, rule.must_pass)
    verdict = _undecided(rule, scores, baseline)
    problem = _problem(rule, scores, baseline) or _not_informative(rule, scores, baseline)
    if problem is not None:
        return replace(verdict, reason=problem)
    if rule.kind is not RuleKind.MUST_PASS:
        verdict = _decided(rule, verdict, scores, baseline, seed, texts, estimates)
    if rule.must_pass and (verdict.value is not None or rule.kind is RuleKind.MUST_PASS):
        return with_named(verdict, scores, rule.must_pass, answers)
    return verdict


def decide_slices(
    rule: Rule,
    scores: Scores,
    baseline: Scores | None,
    *,
    view: str,
    slices: str | Sequence[str],
    min_n: int = MIN_N,
    seed: int = 0,
    texts: Mapping[str, str] = _NOTHING,
) -> tuple[Verdict, ...]:
    """The verdicts of a rule on each value of a slice, or of several, the worst first.

    min_n: the fewest examples that a value is decided on. Values with fewer are named in the note of the
    slice's first verdict; where no value has enough, the slice has one verdict, `incomplete`, which says so.
    The rest as in `decide`. Raises GateError also for a slice that the examples do not have.
    """
    _check(rule, scores, baseline, view)
    names = check_slices(scores.measure, slices, min_n, tuple(scores.slices))
    if rule.must_pass:
        raise GateError(f"{scores.measure}: must_pass names single examples, slices are many. Write a gate for each.")
    check_whole(rule, scores.measure)
    undecided = _undecided(rule, scores, baseline)
    problem = _problem(rule, scores, baseline) or _not_informative(rule, scores, baseline)
    verdicts: list[Verdict] = []
    for name in names:
        values = slice_values(scores, name, min_n)
        if problem is not None or not values.ids:
            reason = problem or (
                f"Not decided: no value of the slice {name!r} has {min_n} examples: {values.left_out}. Add examples, "
                "or lower min_n."
            )
            verdicts.append(replace(undecided, reason=reason, slice_name=name))
            continue
        found = [
            _slice_verdict(rule, scores, baseline, name, value, values, seed=seed, texts=texts) for value in values.ids
        ]
        found.sort(key=lambda verdict: _badness(rule, verdict))
        if values.left_out:
            left_out = f"not decided for having fewer than {min_n} examples: {values.left_out}"
            found[0] = replace(found[0], note="; ".join(filter(None, (found[0].note, left_out))))
        verdicts += found
    return tuple(sorted(verdicts, key=lambda verdict: _badness(rule, verdict)))


def unmeasured(
    rule: Rule,
    *,
    measure: str,
    view: str,
    bounds: tuple[float, float],
    reason: str,
    slices: str | Sequence[str] | None = None,
    min_n: int = MIN_N,
    outcome: Outcome = Outcome.INCOMPLETE,
) -> tuple[Verdict, ...]:
    """The verdicts of a rule where nothing may be measured: `incomplete`, for the reason given.

    bounds: the lowest and highest value of the measure. outcome: NOT_APPLICABLE where there is nothing to compare
    with yet. slices, min_n: as in `decide_slices`; one verdict a
    slice, since its values are not known. Raises GateError for what is no name of a slice.
    """
    lowest, highest = bounds
    verdict = Verdict(
        measure=measure,
        view=view,
        rule=in_words(rule),
        outcome=outcome,
        reason=reason,
        n=0,
        threshold=rule.at_least if rule.at_least is not None else rule.at_most,
        compared_with=rule.baseline,
        margin=rule.max_drop if rule.max_drop is not None else rule.min_gain,
        kind=rule.kind,
        confidence=None if rule.kind is RuleKind.MUST_PASS else rule.confidence,
        at_least=rule.at_least,
        at_most=rule.at_most,
        lowest=lowest if math.isfinite(lowest) else None,
        highest=highest if math.isfinite(highest) else None,
        asked=rule,
    )
    if slices is None:
        return (verdict,)
    return tuple(replace(verdict, slice_name=name) for name in check_slices(measure, slices, min_n, None))


def _slice_verdict(
    rule: Rule,
    scores: Scores,
    baseline: Scores | None,
    name: str,
    value: str,
    values: SliceValues,
    *,
    seed: int,
    texts: Mapping[str, str],
) -> Verdict:
    ours = restricted(scores, values.ids[value])
    theirs = None if baseline is None else restricted(baseline, values.ids[value])
    verdict = replace(_undecided(rule, ours, theirs), slice_name=name, slice_value=value)
    # That there are as many examples as the suite declares was asked of all of them together.
    problem = _problem(replace(rule, n=None), ours, theirs) or _not_informative(rule, ours, theirs, whole=False)
    if problem is not None:
        return replace(verdict, reason=problem)
    return _decided(rule, verdict, ours, theirs, seed, texts)


def _badness(rule: Rule, verdict: Verdict) -> tuple[int, float]:
    """Sorts the worst first: by outcome, then by how far the estimate is on the wrong side of the bar."""
    if verdict.difference is not None:
        distance = verdict.difference
    elif verdict.value is None:
        distance = -math.inf
    else:
        sides = [verdict.value - rule.at_least] if rule.at_least is not None else []
        sides += [rule.at_most - verdict.value] if rule.at_most is not None else []
        distance = min(sides, default=verdict.value)
    return _WORST_FIRST.index(verdict.outcome), distance


def _check(rule: Rule, scores: Scores, baseline: Scores | None, view: str) -> None:
    pairwise = scores.compared_with is not None
    check_rule(rule, bounds=_value_bounds(scores), measure=scores.measure, view=view, pairwise=pairwise)
    if scores.view != view:
        raise GateError(f"{scores.measure}: the scores are of {scores.view}, the gate is on {view}.")
    if pairwise and scores.compared_with != rule.compared_with:
        raise GateError(
            f"{scores.measure}: the scores are against {scores.compared_with}, the gate compares with "
            f"{rule.compared_with}."
        )
    if baseline is not None and rule.baseline is not None and baseline.view != rule.baseline:
        raise GateError(
            f"{scores.measure}: the baseline's scores are of {baseline.view}, the gate compares with {rule.baseline}."
        )


def _decided(
    rule: Rule,
    verdict: Verdict,
    scores: Scores,
    baseline: Scores | None,
    seed: int,
    texts: Mapping[str, str],
    estimates: Estimates | None = None,
) -> Verdict:
    # Loads scipy: not on import, which collecting tests pays for.
    from harness import statistics
    from harness.gates.drivers import drivers_of

    try:
        estimate, difference = estimates or _usual(rule, scores, baseline, seed)
        if baseline is None or difference is None:
            verdict = _decide_threshold(rule, verdict, estimate)
        else:
            verdict = _decide_comparison(rule, verdict, estimate, statistics.point(baseline), difference)
        against = None if rule.compared_with is None else baseline
        verdict = replace(verdict, note=_with_correction(verdict.note, scores, against, rule, seed))
    except StatisticsError as error:
        return replace(verdict, reason=f"Not decided: {str(error).rstrip('.')}.")
    if verdict.value is not None and estimates is None:
        verdict = replace(verdict, warning=power_warning(rule, scores, baseline))
    if verdict.outcome not in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        return verdict
    if verdict.outcome is Outcome.FAIL and estimates is None:
        verdict = replace(verdict, p_value=_p_of_fail(rule, verdict, scores, baseline, seed))
    bar = verdict.threshold if rule.kind is RuleKind.THRESHOLD else None
    against = None if rule.baseline is None else baseline
    # Of the adapter that would be promoted: the others would have examples and words of their own.
    return replace(verdict, drivers=drivers_of(rule, replace(scores, replicates=()), against, bar, texts))


def _usual(rule: Rule, scores: Scores, baseline: Scores | None, seed: int) -> Estimates:
    from harness import statistics

    estimate = statistics.estimate(scores, confidence=rule.confidence, seed=seed)
    if rule.baseline is None or baseline is None:
        return Estimates(estimate, None)
    confidence = 2 * rule.confidence - 1
    return Estimates(estimate, statistics.difference(scores, baseline, confidence=confidence, seed=seed))


def _with_correction(note: str, scores: Scores, against: Scores | None, rule: Rule, seed: int) -> str:
    """The note, and what the judge's grades said before people's corrected them, where they do."""
    from harness.statistics import correction

    confidence = rule.confidence if against is None else 2 * rule.confidence - 1
    if scores.human is None:
        return note
    found = correction(scores, against, confidence=confidence, seed=seed)
    if found is None:
        return "; ".join(filter(None, (note, "too few grades by people to correct the judge")))
    value, low, high = found.alone.value, found.alone.low, found.alone.high
    if against is None:
        alone = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    else:
        alone = f"difference {value:+.3f} [{low:+.3f}, {high:+.3f}]"
    said = f"corrected by {found.n_human} grades by people, the judge alone says {alone}"
    return "; ".join(filter(None, (note, said)))


def _p_of_fail(rule: Rule, verdict: Verdict, scores: Scores, baseline: Scores | None, seed: int) -> float:
    """The evidence that the truth is on the wrong side of the bar that was missed."""
    from harness.statistics import p_value

    if rule.kind is RuleKind.DROP or rule.kind is RuleKind.GAIN:
        target = -(rule.max_drop or 0.0) if rule.min_gain is None else rule.min_gain
        return p_value(scores, baseline, target, alternative="less", seed=seed)
    if rule.at_least is not None and (rule.at_most is None or (verdict.value or 0.0) < rule.at_least):
        return p_value(scores, None, rule.at_least, alternative="less", seed=seed)
    if rule.at_most is None:
        raise GateError(f"{verdict.measure}: a threshold needs at_least or at_most.")
    return p_value(scores, None, rule.at_most, alternative="greater", seed=seed)


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of several gates together: the worst of them.

    fail before incomplete before inconclusive before not applicable before pass; no gate at all is incomplete.
    """
    seen = set(outcomes)
    if not seen:
        return Outcome.INCOMPLETE
    return next(outcome for outcome in _WORST_FIRST if outcome in seen)


def _value_bounds(scores: Scores) -> tuple[float, float]:
    """Bounds of the measure: a mean has those of its examples, a confusion statistic is in [0, 1]."""
    return scores.bounds if scores.statistic == "mean" else (0.0, 1.0)


def _undecided(rule: Rule, scores: Scores, baseline: Scores | None) -> Verdict:
    notes = _parts(scores.note)
    if baseline is not None:
        notes += [f"{baseline.view}: {part}" for part in _parts(baseline.note) if part not in notes]
    bounds = _value_bounds(scores)
    (verdict,) = unmeasured(rule, measure=scores.measure, view=scores.view, bounds=bounds, reason="")
    return replace(verdict, n=len(scores.ids), note="; ".join(notes))


def _parts(note: str) -> list[str]:
    return [part for part in note.split("; ") if part]


def _problem(rule: Rule, scores: Scores, baseline: Scores | None) -> str | None:
    """Why the scores cannot carry this verdict, as a sentence, or None."""
    problem = scores.problem()
    if problem is not None:
        return f"Not decided: {scores.view}: {problem}."
    problem = other_number(rule, scores.n_expected)
    if problem is not None:
        return problem
    if rule.baseline is None:
        return None
    if baseline is None:
        return f"Not decided: there are no scores of {rule.baseline} to compare with."
    problem = baseline.problem()
    if problem is not None:
        return f"Not decided: {baseline.view}: {problem}."
    if baseline.n_expected != scores.n_expected:
        return (
            f"Not decided: {scores.n_expected} examples of {scores.view} and {baseline.n_expected} of "
            f"{baseline.view}; score both on the same test set."
        )
    return None


def other_number(rule: Rule, n: int) -> str | None:
    """That the suite declares another number of examples than the test set has, as a sentence, or None."""
    if rule.n is None or rule.n == n:
        return None
    return (
        f"Not decided: the gate declares n={rule.n} and the test set has {_examples(n)}. Bring back what is missing, "
        "or declare the new number."
    )


def _not_informative(rule: Rule, scores: Scores, baseline: Scores | None, *, whole: bool = True) -> str | None:
    problem = uninformative(rule, scores, baseline, whole=whole)
    return None if problem is None else f"Not decided: {problem}."


def _finite(estimate: Estimate) -> bool:
    return all(math.isfinite(number) for number in (estimate.value, estimate.low, estimate.high))


def _decide_threshold(rule: Rule, verdict: Verdict, estimate: Estimate) -> Verdict:
    value, low, high = estimate.value, estimate.low, estimate.high
    if not _finite(estimate):
        return replace(verdict, reason=_no_interval(estimate))
    at_least = -math.inf if rule.at_least is None else rule.at_least
    at_most = math.inf if rule.at_most is None else rule.at_most
    nearest = at_least if abs(value - at_least) <= abs(at_most - value) else at_most
    open_bounds = []
    if low < at_least - _ROUNDING <= high:
        open_bounds.append(at_least)
    if low <= at_most + _ROUNDING < high:
        open_bounds.append(at_most)
    clears = at_least - _ROUNDING <= value <= at_most + _ROUNDING
    shown = f"{value:.3f} [{low:.3f}, {high:.3f}] on {_basis(estimate)}"
    if rule.decide == "point":
        outcome = Outcome.PASS if clears else Outcome.FAIL
        reason = f"{shown} {'is' if clears else 'is not'} {_bar_in_words(rule)}."
        if open_bounds:
            other = "fail" if clears else "pass"
            reason += (
                f" The interval straddles {nearest:.3f}: another sample of this size could {other}; "
                f"{_more_examples(estimate, nearest)} to be {_percent(rule.confidence)} confident."
            )
    elif open_bounds:
        nearest = min(open_bounds, key=lambda bound: abs(value - bound))
        outcome = Outcome.INCONCLUSIVE
        reason = (
            f"{shown}: the interval straddles {nearest:.3f}, so {_basis(estimate)} cannot tell; "
            f"{_more_examples(estimate, nearest)} to decide."
        )
    else:
        # No threshold inside the interval: all of it is on the estimate's side.
        outcome = Outcome.PASS if clears else Outcome.FAIL
        reason = f"{shown}: the whole interval {'is' if clears else 'is not'} {_bar_in_words(rule)}."
    return replace(
        verdict,
        outcome=outcome,
        reason=reason,
        value=value,
        low=low,
        high=high,
        threshold=nearest,
        method=f"{estimate.method}, {_percent(estimate.confidence)} interval",
    )


def _decide_comparison(
    rule: Rule, verdict: Verdict, estimate: Estimate, baseline: float, difference: Estimate
) -> Verdict:
    if not (_finite(estimate) and _finite(difference) and math.isfinite(baseline)):
        return replace(verdict, reason=_no_interval(difference if _finite(estimate) else estimate))
    value, low, high = difference.value, difference.low, difference.high
    target = 0.0 - rule.max_drop if rule.max_drop is not None else rule.min_gain
    if target is None:
        raise GateError(f"{verdict.measure}: a comparison needs max_drop or min_gain.")
    shown = (
        f"{estimate.value:.3f} against {baseline:.3f} of {rule.compared_with} on {_basis(difference)}: "
        f"difference {value:+.3f} [{low:+.3f}, {high:+.3f}]"
    )
    confident = _percent(rule.confidence)
    if rule.decide == "point":
        # Being no better than the baseline is not a gain, even where any gain would do.
        clears = value >= target - _ROUNDING and (rule.max_drop is not None or value > _ROUNDING)
        outcome = Outcome.PASS if clears else Outcome.FAIL
        reason = f"{shown}; {_bar_in_words(rule)} is {'met' if clears else 'missed'} by the estimate."
        if low < target < high:
            other = "fail" if clears else "pass"
            reason += f" The interval straddles {target:+.3f}: another sample of this size could {other}."
    elif low > target:
        outcome = Outcome.PASS
        reason = f"{shown}; {_bar_in_words(rule)} is met with {confident} confidence."
    elif high < target:
        outcome = Outcome.FAIL
        reason = f"{shown}; {_bar_in_words(rule)} is missed with {confident} confidence."
    else:
        outcome = Outcome.INCONCLUSIVE
        reason = (
            f"{shown} straddles {target:+.3f}, so {_basis(difference)} cannot tell; "
            f"{_more_examples(difference, target)} to decide.{_deciding_margin(rule, low)}"
        )
    return replace(
        verdict,
        outcome=outcome,
        reason=reason,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        baseline=baseline,
        difference=value,
        difference_low=low,
        difference_high=high,
        method=(
            f"{difference.method}, {_percent(difference.confidence)} interval "
            f"(one-sided {_percent((1 + difference.confidence) / 2)}); "
            f"value: {estimate.method}, {_percent(estimate.confidence)} interval"
        ),
    )


def _bar_in_words(rule: Rule) -> str:
    """The rule's number in words; the examples that must pass have a sentence of their own."""
    return in_words(replace(rule, must_pass=()))


def _more_examples(estimate: Estimate, target: float) -> str:
    """How many more examples would bring the interval clear of the target, if the estimate stayed.

    An interval's half width falls with the square root of the number of examples; where seeds differ too, no number of
    examples alone does it.
    """
    if estimate.seeds > 1:
        return "more seeds or more examples are needed"
    distance = abs(estimate.value - target)
    half = estimate.value - estimate.low if estimate.value > target else estimate.high - estimate.value
    factor = (half / distance) ** 2 if distance > _ROUNDING else math.inf
    if factor > _OUT_OF_REACH:
        return f"the estimate is too close to {target:.3f} for any affordable number of examples"
    more = max(1, math.ceil(estimate.n * (factor - 1)))
    # Two digits are more than such an extrapolation is good for.
    step = 10 ** max(0, len(str(more)) - 2)
    return f"about {math.ceil(more / step) * step} more like them are needed"


def _deciding_margin(rule: Rule, low: float) -> str:
    """The margin that these examples could have decided. Thousandths, on the passing side."""
    warning = "but a margin is chosen before looking"
    if rule.max_drop is not None:
        margin = math.floor(-low * 1000) / 1000 + 0.001
        return f" With max_drop={margin:.3f} these examples would pass, {warning}."
    margin = math.ceil(low * 1000) / 1000 - 0.001
    if margin < 0:
        return ""
    return f" With min_gain={margin:.3f} these examples would pass, {warning}."


def _no_interval(estimate: Estimate) -> str:
    return (
        f"Not decided: the estimate {estimate.value} [{estimate.low}, {estimate.high}] by {estimate.method} "
        "is not finite."
    )


def _basis(estimate: Estimate) -> str:
    return _examples(estimate.n) + (f" and {estimate.seeds} seeds" if estimate.seeds > 1 else "")


def _examples(n: int) -> str:
    return f"{n} example" if n == 1 else f"{n} examples"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
