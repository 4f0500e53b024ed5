"""What a gate can decide on its test set: before a run, and as a warning in its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from harness.errors import StatisticsError
from harness.gates.informative import uninformative
from harness.gates.parts import check_named, restricted, slice_values
from harness.gates.rules import SHARE, check_slices, in_words
from harness.records import Rule, RuleKind, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.statistics import Design

__all__ = ["POWER", "Plan", "plan_gate", "plan_slices", "power_warning"]

POWER = 0.8
"""The chance of a decision that a plan asks for."""

# Above this the examples needed are extrapolated: adding up the outcomes of so many would take minutes.
_LARGEST_EXACT = 50_000
# As statistics.design_of.
_ANALYTIC = ("mean", "accuracy")
_PLANNED = (*_ANALYTIC, "macro_f1")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the test set of one gate decides.

    n: examples; None where their number is not known yet. groups: how many groups they form, None if independent.
    smallest: the smallest distance from the threshold or margin, in the measure's unit, that is decided with a
        power of 80 %; None where no distance is, and note says so.
    margin: the distance asked for: max_drop, or from what was measured to the threshold or gain; None without one.
    power: at this margin. needed: examples that decide it with a power of 80 %.
    measured: whether rests_on (name -> value: discordance, spread, level, correlation) was measured in an earlier
        run, or is assumed. problem: why there is no plan, else "". note: what to know beside the numbers.
    """

    measure: str
    view: str
    rule: str
    decide: Literal["point", "confident"]
    confidence: float
    n: int | None
    groups: int | None = None
    slice_name: str | None = None
    slice_value: str | None = None
    smallest: float | None = None
    margin: float | None = None
    power: float | None = None
    needed: int | None = None
    measured: bool = False
    rests_on: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    note: str = ""


def plan_gate(rule: Rule, scores: Scores, baseline: Scores | None, *, measured: bool) -> Plan:
    """The plan of a rule that `rule_from` accepted.

    measured: whether both scores are from an earlier run; else only their ids, labels, groups and bounds are
    used, one view's values to tell right or wrong from grades, and the planning defaults for the rest.
    Raises GateError for an example that must pass and is not there.
    """
    check_named(scores, rule.must_pass)
    plan = _empty(rule, scores)
    if rule.kind is RuleKind.MUST_PASS:
        return replace(plan, n=len(rule.must_pass), problem="named examples are no sample")
    problem = _problem(rule, scores, baseline)
    if problem:
        return replace(plan, problem=problem)
    if not rule.early_stop:
        return _planned(plan, rule, scores, baseline, measured)
    # What is decided early comes on top of what all examples decide, at the confidence left for these.
    left = 1 - (1 - SHARE) * (1 - rule.confidence)
    plan = _planned(plan, replace(rule, confidence=left), scores, baseline, measured)
    note = f"planned at the {100 * left:.4g} % confidence that stopping early leaves for all examples"
    return replace(plan, note="; ".join(filter(None, (plan.note, note))))


def plan_slices(
    rule: Rule, scores: Scores, baseline: Scores | None, *, slices: str | Sequence[str], min_n: int, measured: bool
) -> tuple[Plan, ...]:
    """The plans of a rule on each value of the slices that has at least min_n examples.

    Raises GateError for a slice that the examples do not have.
    """
    whole = _problem(rule, scores, baseline)
    plans = []
    for name in check_slices(scores.measure, slices, min_n, tuple(scores.slices)):
        found = slice_values(scores, name, min_n)
        if whole or not found.ids:
            problem = whole or f"no value of the slice has {min_n} examples: {found.left_out}"
            plans.append(replace(_empty(rule, scores), slice_name=name, problem=problem))
        for value, ids in () if whole else found.ids.items():
            ours, theirs = restricted(scores, ids), None if baseline is None else restricted(baseline, ids)
            part = replace(_empty(rule, ours), slice_name=name, slice_value=value)
            problem = _problem(replace(rule, n=None), ours, theirs, whole=False)
            plans.append(replace(part, problem=problem) if problem else _planned(part, rule, ours, theirs, measured))
    return tuple(plans)


def power_warning(rule: Rule, scores: Scores, baseline: Scores | None) -> str:
    """Why the gate is unlikely to decide what it is asked, by what was measured in this run; "" where it is likely.

    Only of gates with decide="confident". A max_drop is planned for an adapter as good as the other view; of a
    threshold or gain, where no margin is planned, only that not even the best value there can be would meet it.
    Macro F1 is left out: its power is simulated, which takes seconds. So is what has no plan.
    """
    from harness.statistics import detectable, power

    if rule.decide != "confident" or rule.kind is RuleKind.MUST_PASS or scores.statistic not in _ANALYTIC:
        return ""
    if scores.replicates:  # what seeds add is not known beforehand
        return ""
    n = len(scores.ids)
    try:
        designs = _designs(rule, scores, baseline, measured=True)
    except StatisticsError:  # e.g. of a measure without bounds; a verdict needs no plan
        return ""
    for design in designs:
        try:
            smallest = detectable(design, power=POWER, confidence=rule.confidence)
        except StatisticsError:
            return f"{_examples(n)} cannot decide this with a chance of 80 %, whatever the true value is"
        if rule.max_drop is None:
            continue
        chance = power(design, rule.max_drop, confidence=rule.confidence)
        if chance < POWER:
            enough = _needed(design, rule.max_drop, smallest, rule.confidence)
            return (
                f"an adapter exactly as good as {rule.compared_with} would pass on {100 * chance:.0f} % of such test "
                f"sets of {_examples(n)}; 80 % takes {f'about {enough:,} examples' if enough else 'more than it has'} "
                f"or a margin of {smallest:.3f}"
            )
    return ""


def _empty(rule: Rule, scores: Scores) -> Plan:
    return Plan(
        measure=scores.measure,
        view=scores.view,
        rule=in_words(rule),
        decide=rule.decide,
        confidence=rule.confidence,
        n=scores.n_expected,
    )


def _problem(rule: Rule, scores: Scores, baseline: Scores | None, *, whole: bool = True) -> str:
    """Why the gate would be incomplete, or ""."""
    for one in (scores, baseline):
        problem = None if one is None else one.problem()
        if one is not None and problem is not None:
            return f"{one.view}: {problem}"
    if rule.n is not None and rule.n != scores.n_expected:
        return f"the gate declares n={rule.n} and the test set has {_examples(scores.n_expected)}"
    return uninformative(rule, scores, baseline, whole=whole) or ""


def _planned(plan: Plan, rule: Rule, scores: Scores, baseline: Scores | None, measured: bool) -> Plan:
    from harness import statistics

    if scores.statistic not in _PLANNED:
        name, _, label = scores.statistic.partition(":")
        return replace(plan, problem=f"{name} of one label has none" if label else f"{name} has none")
    try:
        designs = _designs(rule, scores, baseline, measured=measured)
        margin = _margin(rule, scores, baseline, measured)
    except StatisticsError as error:
        # Its own words begin with the measure, which the plan names already.
        return replace(plan, problem=str(error).removeprefix(f"{scores.measure}: ").rstrip("."))
    plan = replace(plan, groups=designs[0].groups, measured=measured, rests_on=_rests_on(designs[0]), margin=margin)
    try:
        smallest = max(statistics.detectable(d, power=POWER, confidence=rule.confidence) for d in designs)
    except StatisticsError:
        return replace(plan, note=f"{_examples(len(scores.ids))} decide no distance with a power of 80 %")
    plan = replace(plan, smallest=smallest)
    if margin is None:
        return plan
    if margin == 0:
        return replace(plan, note="a margin of 0 is met only by an adapter that is better")
    try:
        counts = [_needed(d, margin, smallest, rule.confidence) for d in designs]
        chance = min(statistics.power(d, margin, confidence=rule.confidence) for d in designs)
    except StatisticsError as error:
        return replace(plan, note=str(error).rstrip("."))
    known = [count for count in counts if count is not None]
    more = "" if len(known) == len(counts) else "no affordable number of examples decides this margin"
    return replace(plan, needed=max(known) if not more else None, power=chance, note=more)


def _designs(rule: Rule, scores: Scores, baseline: Scores | None, *, measured: bool) -> list[Design]:
    """The questions that a rule asks: one, or two where it has two thresholds."""
    if rule.kind is RuleKind.DROP:
        return [_design(scores, baseline, measured, truth=0.0)]
    if rule.kind is RuleKind.GAIN:
        return [_design(scores, baseline, measured, target=rule.min_gain)]
    designs = []
    if rule.at_least is not None:
        designs.append(_design(scores, None, measured, target=rule.at_least))
    if rule.at_most is not None:
        designs.append(_design(scores, None, measured, target=rule.at_most, direction="below"))
    return designs


def _design(
    scores: Scores,
    baseline: Scores | None,
    measured: bool,
    *,
    truth: float | None = None,
    target: float | None = None,
    direction: Literal["above", "below"] = "above",
) -> Design:
    from harness.statistics import Design, design_of
    from harness.statistics.planning import LEVEL

    if measured:
        return design_of(scores, baseline, truth=truth, target=target, direction=direction)
    # Two views that answered nothing do not differ, so what kind of values they have is asked of one.
    one = design_of(scores)
    kinds = {"proportion": "paired_proportions", "mean": "paired_mean", "macro_f1": "paired_macro_f1"}
    return Design(
        kind=one.kind if baseline is None else kinds[one.kind],  # type: ignore[arg-type]
        n=one.n,
        truth=truth,
        target=target,
        direction=direction,
        groups=one.groups,
        bounds=one.bounds,
        # Below a gain there has to be room for it, and for what goes beyond it.
        level=LEVEL if target is None or one.kind != "macro_f1" else min(LEVEL, (1 - target) / 2),
        support=one.support,
    )


def _rests_on(design: Design) -> dict[str, float]:
    """The numbers of a design that a test set does not have by itself."""
    found: dict[str, float] = {}
    if design.paired and design.discordance is not None:
        found["discordance"] = design.discordance
    if design.kind in ("mean", "paired_mean") and design.spread is not None:
        found["spread"] = design.spread
    if design.kind == "paired_macro_f1":
        found["level"] = design.level
    if design.groups is not None:
        found["correlation"] = design.correlation
    return found


def _margin(rule: Rule, scores: Scores, baseline: Scores | None, measured: bool) -> float | None:
    """The distance to plan for; None for a threshold or gain that nothing was measured of, or that was missed."""
    from harness.statistics import point

    if rule.max_drop is not None:
        return rule.max_drop
    if not measured:
        return None
    value = point(scores) - (0.0 if baseline is None or rule.min_gain is None else point(baseline))
    distances = [value - bar for bar in (rule.min_gain, rule.at_least) if bar is not None]
    distances += [rule.at_most - value] if rule.at_most is not None else []
    margin = min(distances)
    return margin if margin > 0 else None


def _needed(design: Design, margin: float, smallest: float, confidence: float) -> int | None:
    """The examples needed; None where a million would not do."""
    from harness.statistics import needed

    # What is decided shrinks with the square root of the number of examples.
    roughly = design.n * (smallest / margin) ** 2
    if roughly > 1_000_000:
        return None
    if roughly > _LARGEST_EXACT:
        return int(round(roughly, -3))
    try:
        return needed(design, margin, power=POWER, confidence=confidence)
    except StatisticsError:
        return None


def _examples(n: int) -> str:
    return f"{n} example" if n == 1 else f"{n} examples"
