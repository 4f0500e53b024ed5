"""Deciding a rule on scores. Nothing but evidence passes: whatever is missing is `incomplete`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from harness.errors import GateError, StatisticsError
from harness.gates.rules import check_rule, in_words
from harness.records import Estimate, Outcome, Rule, Scores, Verdict

__all__ = ["decide", "overall"]

# Differences below this are rounding of floating-point arithmetic, as in 0.90 - 0.85 > 0.05.
_ROUNDING = 1e-9
# Beyond a hundred times the examples at hand, more examples are no advice.
_OUT_OF_REACH = 100.0


def decide(rule: Rule, scores: Scores, baseline: Scores | None, *, view: str, seed: int = 0) -> Verdict:
    """The verdict of a rule on one view's scores.

    scores: of `view`. baseline: of `rule.compared_with` on the same examples; not used by a threshold.
    seed: of the resampling behind an interval; the same scores and seed give the same verdict.

    A threshold is decided by the estimate ("point") or by its two-sided interval at `rule.confidence`
    ("confident"). A comparison is decided by the one-sided bound of the paired difference at
    `rule.confidence`; shown is the two-sided interval that has this bound at each end, at 95 % the one at
    90 %, which is how non-inferiority is tested.
    Raises GateError if the rule itself cannot be decided, e.g. has a threshold of NaN, or if the scores are
    of another view than said.
    """
    # Loads scipy: not on import, which collecting tests pays for.
    from harness import statistics

    check_rule(rule, bounds=_value_bounds(scores), measure=scores.measure, view=view)
    if scores.view != view:
        raise GateError(f"{scores.measure}: the scores are of {scores.view}, the gate is on {view}.")
    if baseline is not None and rule.compared_with is not None and baseline.view != rule.compared_with:
        raise GateError(
            f"{scores.measure}: the baseline's scores are of {baseline.view}, the gate compares with "
            f"{rule.compared_with}."
        )
    verdict = _undecided(rule, scores, baseline)
    problem = _problem(rule, scores, baseline)
    if problem is not None:
        return replace(verdict, reason=problem)
    try:
        estimate = statistics.estimate(scores, confidence=rule.confidence, seed=seed)
        if rule.compared_with is None or baseline is None:
            return _decide_threshold(rule, verdict, estimate)
        difference = statistics.difference(scores, baseline, confidence=2 * rule.confidence - 1, seed=seed)
        return _decide_comparison(rule, verdict, estimate, statistics.point(baseline), difference)
    except StatisticsError as error:
        return replace(verdict, reason=f"Not decided: {str(error).rstrip('.')}.")


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of several gates together: the worst of them.

    fail before incomplete before inconclusive before pass; no gate at all is incomplete.
    """
    seen = set(outcomes)
    if not seen:
        return Outcome.INCOMPLETE
    order = (Outcome.FAIL, Outcome.INCOMPLETE, Outcome.INCONCLUSIVE)
    return next((outcome for outcome in order if outcome in seen), Outcome.PASS)


def _value_bounds(scores: Scores) -> tuple[float, float]:
    """Bounds of the measure: a mean has those of its examples, a confusion statistic is in [0, 1]."""
    return scores.bounds if scores.statistic == "mean" else (0.0, 1.0)


def _undecided(rule: Rule, scores: Scores, baseline: Scores | None) -> Verdict:
    notes = _parts(scores.note)
    if baseline is not None:
        notes += [f"{baseline.view}: {part}" for part in _parts(baseline.note) if part not in notes]
    return Verdict(
        measure=scores.measure,
        view=scores.view,
        rule=in_words(rule),
        outcome=Outcome.INCOMPLETE,
        reason="",
        n=len(scores.ids),
        threshold=rule.at_least if rule.at_least is not None else rule.at_most,
        compared_with=rule.compared_with,
        margin=rule.max_drop if rule.max_drop is not None else rule.min_gain,
        note="; ".join(notes),
    )


def _parts(note: str) -> list[str]:
    return [part for part in note.split("; ") if part]


def _problem(rule: Rule, scores: Scores, baseline: Scores | None) -> str | None:
    """Why the scores cannot carry this verdict, as a sentence, or None."""
    problem = scores.problem()
    if problem is not None:
        return f"Not decided: {scores.view}: {problem}."
    if rule.compared_with is None:
        return None
    if baseline is None:
        return f"Not decided: there are no scores of {rule.compared_with} to compare with."
    problem = baseline.problem()
    if problem is not None:
        return f"Not decided: {baseline.view}: {problem}."
    if baseline.n_expected != scores.n_expected:
        return (
            f"Not decided: {scores.n_expected} examples of {scores.view} and {baseline.n_expected} of "
            f"{baseline.view}; score both on the same test set."
        )
    return None


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
    shown = f"{value:.3f} [{low:.3f}, {high:.3f}] on {_examples(estimate.n)}"
    if rule.decide == "point":
        outcome = Outcome.PASS if clears else Outcome.FAIL
        reason = f"{shown} {'is' if clears else 'is not'} {in_words(rule)}."
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
            f"{shown}: the interval straddles {nearest:.3f}, so {_examples(estimate.n)} cannot tell; "
            f"{_more_examples(estimate, nearest)} to decide."
        )
    else:
        # No threshold inside the interval: all of it is on the estimate's side.
        outcome = Outcome.PASS if clears else Outcome.FAIL
        reason = f"{shown}: the whole interval {'is' if clears else 'is not'} {in_words(rule)}."
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
        f"{estimate.value:.3f} against {baseline:.3f} of {rule.compared_with} on {_examples(difference.n)}: "
        f"difference {value:+.3f} [{low:+.3f}, {high:+.3f}]"
    )
    confident = _percent(rule.confidence)
    if rule.decide == "point":
        # Being no better than the baseline is not a gain, even where any gain would do.
        clears = value >= target - _ROUNDING and (rule.max_drop is not None or value > _ROUNDING)
        outcome = Outcome.PASS if clears else Outcome.FAIL
        reason = f"{shown}; {in_words(rule)} is {'met' if clears else 'missed'} by the estimate."
        if low < target < high:
            other = "fail" if clears else "pass"
            reason += f" The interval straddles {target:+.3f}: another sample of this size could {other}."
    elif low > target:
        outcome = Outcome.PASS
        reason = f"{shown}; {in_words(rule)} is met with {confident} confidence."
    elif high < target:
        outcome = Outcome.FAIL
        reason = f"{shown}; {in_words(rule)} is missed with {confident} confidence."
    else:
        outcome = Outcome.INCONCLUSIVE
        reason = (
            f"{shown} straddles {target:+.3f}, so {_examples(difference.n)} cannot tell; "
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
            f"{difference.method}, {_percent(difference.confidence)} interval (one-sided {confident}); "
            f"value: {estimate.method}, {_percent(estimate.confidence)} interval"
        ),
    )


def _more_examples(estimate: Estimate, target: float) -> str:
    """How many more examples would bring the interval clear of the target, if the estimate stayed.

    An interval's half width falls with the square root of the number of examples.
    """
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


def _examples(n: int) -> str:
    return f"{n} example" if n == 1 else f"{n} examples"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
