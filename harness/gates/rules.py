"""What a gate may be asked, checked before anything is measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from harness.errors import GateError
from harness.records import ADAPTER, VIEWS, Rule

__all__ = ["LOWER_IS_BETTER", "SHARE", "check_rule", "check_slices", "check_whole", "in_words", "rule_from"]

LOWER_IS_BETTER = ("_loss", "_error")

SHARE = 0.2
"""How much of the error that a rule is allowed is spent on stopping early; the rest decides on all examples."""


def rule_from(
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    compared_with: str | None = None,
    max_drop: float | None = None,
    min_gain: float | None = None,
    decide: Literal["point", "confident"] | None = None,
    confidence: float = 0.95,
    must_pass: Sequence[str] | None = None,
    n: int | None = None,
    early_stop: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    measure: str = "the measure",
    view: str = ADAPTER,
    pairwise: bool = False,
) -> Rule:
    """The rule that a gate's arguments ask for.

    at_least, at_most: absolute thresholds in the measure's unit; one or both.
    compared_with: the view to compare with, and one of max_drop (how much worse is still good enough) and
    min_gain (how much better it must be); neither is negative, both in the measure's unit.
    decide: "point" by the estimate, "confident" by its interval; default "point" for thresholds,
    "confident" for comparisons. confidence: above 0.5 and below 1.
    must_pass: ids of examples that have to be right, beside a rule or alone. n: how many examples there are
    to be. early_stop: stop asking as soon as the rule is decided, which is then confident whatever `decide` says.
    bounds, measure, view: of what is gated. pairwise: whether its values compare two views, as a win rate's do; then
    compared_with names the other view and goes with a threshold.
    Raises GateError with one line that says what is wrong and what to write.
    """
    for name, number in (
        ("at_least", at_least),
        ("at_most", at_most),
        ("max_drop", max_drop),
        ("min_gain", min_gain),
        ("confidence", confidence),
    ):
        if number is not None or name == "confidence":
            _check_number(measure, name, number)
    if decide is None:
        decide = "point" if compared_with is None else "confident"
    if decide == "point" and early_stop is True:
        # Who may look at the value until it is on the right side, and stop there, would pass what he likes.
        decide = "confident"
    if must_pass is not None:
        _check_ids(measure, must_pass)
    rule = Rule(
        at_least=None if at_least is None else float(at_least),
        at_most=None if at_most is None else float(at_most),
        compared_with=compared_with,
        max_drop=None if max_drop is None else float(max_drop),
        min_gain=None if min_gain is None else float(min_gain),
        decide=decide,
        confidence=float(confidence),
        must_pass=tuple(must_pass or ()),
        n=n,
        early_stop=early_stop,
    )
    check_rule(rule, bounds=bounds, measure=measure, view=view, pairwise=pairwise)
    return rule


def check_rule(rule: Rule, *, bounds: tuple[float, float], measure: str, view: str, pairwise: bool = False) -> None:
    """Raises GateError if the rule cannot decide this measure on this view."""
    for name in ("at_least", "at_most", "max_drop", "min_gain"):
        number = getattr(rule, name)
        if number is not None:
            _check_number(measure, name, number)
    _check_number(measure, "confidence", rule.confidence)
    if not 0.5 < rule.confidence < 1:
        raise GateError(f"{measure}: confidence must be above 0.5 and below 1, got {rule.confidence:g}. 0.95 is usual.")
    if rule.decide not in ("point", "confident"):
        raise GateError(f'{measure}: decide must be "point" or "confident", got {rule.decide!r}.')
    if rule.n is not None:
        _check_count(measure, "n", rule.n)
    if rule.must_pass:
        _check_must_pass(rule, bounds, measure)
    _check_early_stop(rule, bounds, measure)
    absolute = rule.at_least is not None or rule.at_most is not None
    relative = rule.max_drop is not None or rule.min_gain is not None
    if pairwise:
        _check_pairwise(rule, measure, view)
    elif absolute and (relative or rule.compared_with is not None):
        raise GateError(
            f"{measure}: a gate has one kind of rule, got a threshold and a comparison. "
            "Write two gates: one with at_least or at_most, one with compared_with."
        )
    if absolute:
        _check_thresholds(rule, bounds, measure)
    elif not pairwise and (relative or rule.compared_with is not None):
        _check_comparison(rule, bounds, measure, view)
    elif pairwise and not rule.must_pass:
        raise GateError(f"{measure}: the gate has no rule. Give at_least, e.g. at_least=0.5, which is even.")
    elif not rule.must_pass:
        raise GateError(
            f"{measure}: the gate has no rule. Give at_least, at_most, compared_with with max_drop or min_gain, "
            "or must_pass."
        )


def check_slices(measure: str, slices: Any, min_n: Any, known: Sequence[str] | None) -> tuple[str, ...]:
    """The names of slices that a gate asks for.

    slices: a name or several. min_n: the fewest examples that a value may have. known: the names there are,
    or None where that cannot be told.
    Raises GateError with one line that says what is wrong.
    """
    names = [slices] if isinstance(slices, str) else slices
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise GateError(f'{measure}: slices must be a name or a list of names, got {slices!r}. Write slices="plan".')
    for name in names:
        if known is not None and name not in known:
            there = f"its slices: {', '.join(known)}" if known else "its examples have no slices"
            raise GateError(f"{measure}: there is no slice {name!r}; {there}.")
        if names.count(name) > 1:
            raise GateError(f"{measure}: the slice {name!r} is named twice.")
    _check_count(measure, "min_n", min_n)
    return tuple(names)


def check_whole(rule: Rule, measure: str) -> None:
    """Raises GateError for a rule that is to be decided on the values of a slice and cannot be."""
    if rule.early_stop:
        raise GateError(
            f"{measure}: early_stop is for the whole test set; of a slice, which examples come is left to chance. "
            "Leave early_stop or slices out."
        )


def in_words(rule: Rule) -> str:
    """The rule as a person reads it, e.g. "drop vs base at most 0.050"."""
    parts = []
    if rule.max_drop is not None:
        parts.append(f"drop vs {rule.compared_with} at most {rule.max_drop:.3f}")
    if rule.min_gain is not None:
        parts.append(f"gain over {rule.compared_with} at least {rule.min_gain:.3f}")
    if rule.at_least is not None:
        parts.append(f"at least {rule.at_least:.3f}")
    if rule.at_most is not None:
        parts.append(f"at most {rule.at_most:.3f}")
    if parts and rule.baseline != rule.compared_with:
        parts[-1] += f" against {rule.compared_with}"
    if rule.must_pass:
        count = len(rule.must_pass)
        parts.append(f"right on {count} named {'example' if count == 1 else 'examples'}")
    return " and ".join(parts)


def _check_ids(measure: str, ids: Any) -> None:
    if not isinstance(ids, list | tuple) or not all(isinstance(one, str) for one in ids):
        raise GateError(f'{measure}: must_pass must be a list of example ids, got {ids!r}. Write must_pass=["t-17"].')
    if not ids:
        raise GateError(f"{measure}: must_pass names no example. Leave it out, or name the ids that have to be right.")
    doubled = [one for one, count in Counter(ids).items() if count > 1]
    if doubled:
        raise GateError(f"{measure}: must_pass names {doubled[0]!r} twice.")


def _check_count(measure: str, name: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise GateError(f"{measure}: {name} must be a whole number of examples, at least 1, got {count!r}.")


def _check_must_pass(rule: Rule, bounds: tuple[float, float], measure: str) -> None:
    _check_ids(measure, rule.must_pass)
    if measure.endswith(LOWER_IS_BETTER):
        raise GateError(f"{measure}: lower is better here, so no example of it can be right. Gate it with at_most.")
    if not math.isfinite(bounds[1]):
        raise GateError(f"{measure}: it has no upper bound, so no example of it can be right. Gate it with at_least.")


def _check_early_stop(rule: Rule, bounds: tuple[float, float], measure: str) -> None:
    if not isinstance(rule.early_stop, bool):
        raise GateError(f"{measure}: early_stop must be True or False, got {rule.early_stop!r}.")
    if not rule.early_stop:
        return
    if rule.must_pass:
        raise GateError(
            f"{measure}: must_pass names examples that early_stop may leave out. Write two gates, one with each."
        )
    if not all(map(math.isfinite, bounds)):
        raise GateError(
            f"{measure}: early_stop needs a lowest and a highest value that an example can have, and the measure goes "
            f"from {bounds[0]:g} to {bounds[1]:g}. Leave early_stop out."
        )
    for name, threshold in (("at_least", rule.at_least), ("at_most", rule.at_most)):
        if threshold is not None and threshold in bounds:
            raise GateError(
                f"{measure}: {name}={threshold:g} is the end of the scale, which no part of the examples can show. "
                "Leave early_stop out."
            )


def _check_number(measure: str, name: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise GateError(f"{measure}: {name} must be a number, got {number!r}.")
    if not math.isfinite(number):
        raise GateError(f"{measure}: {name} must be a finite number, got {number}.")


def _check_thresholds(rule: Rule, bounds: tuple[float, float], measure: str) -> None:
    low, high = bounds
    for name, threshold in (("at_least", rule.at_least), ("at_most", rule.at_most)):
        if threshold is not None and not low <= threshold <= high:
            raise GateError(f"{measure}: {name}={threshold:g} is outside what the measure can be, {low:g} to {high:g}.")
    if rule.at_least is not None and rule.at_most is not None and rule.at_least > rule.at_most:
        raise GateError(f"{measure}: nothing is at least {rule.at_least:g} and at most {rule.at_most:g}. Swap the two.")


def _check_pairwise(rule: Rule, measure: str, view: str) -> None:
    if rule.max_drop is not None or rule.min_gain is not None:
        name = "max_drop" if rule.max_drop is not None else "min_gain"
        raise GateError(
            f"{measure}: it is a comparison already, so {name} makes no sense here. Give compared_with and at_least."
        )
    if rule.compared_with is None:
        raise GateError(
            f"{measure}: it compares two views, and only {view} is named. "
            f'Add compared_with="{VIEWS[0]}" or another view.'
        )
    _check_other_view(rule.compared_with, measure, view)


def _check_other_view(other: str, measure: str, view: str) -> None:
    if other not in VIEWS:
        raise GateError(f"{measure}: compared_with={other!r} is not a view. Views: {', '.join(VIEWS)}.")
    if other == view:
        others = ", ".join(one for one in VIEWS if one != view)
        raise GateError(f"{measure}: {view} is compared with itself. Compare with one of: {others}.")


def _check_comparison(rule: Rule, bounds: tuple[float, float], measure: str, view: str) -> None:
    if rule.compared_with is None:
        name = "max_drop" if rule.max_drop is not None else "min_gain"
        raise GateError(
            f'{measure}: {name} needs a view to compare with. Add compared_with="{VIEWS[0]}" or another view.'
        )
    _check_other_view(rule.compared_with, measure, view)
    if rule.max_drop is not None and rule.min_gain is not None:
        raise GateError(
            f"{measure}: max_drop and min_gain contradict each other. Keep max_drop to allow a small loss, "
            "or min_gain to demand an improvement."
        )
    name, margin = ("max_drop", rule.max_drop) if rule.max_drop is not None else ("min_gain", rule.min_gain)
    if margin is None:
        raise GateError(
            f"{measure}: compared_with={rule.compared_with!r} needs max_drop (how much worse is still good "
            "enough) or min_gain (how much better it must be)."
        )
    if measure.endswith(LOWER_IS_BETTER):
        raise GateError(f"{measure}: lower is better here, and {name} is for measures where higher is. Use at_most.")
    width = bounds[1] - bounds[0]
    if not 0 <= margin < width:
        raise GateError(
            f"{measure}: {name}={margin:g} must be at least 0 and below {width:g}, the largest difference there can be."
        )
