from __future__ import annotations

from typing import Any

import pytest

from harness.errors import GateError
from harness.gates import Plan, decide, plan_gate, plan_slices, rule_from
from harness.records import Outcome, Rule, Scores
from harness.statistics import design_of, detectable, needed, power


def scores(right: int, n: int = 100, view: str = "adapter", **fields: Any) -> Scores:
    values = tuple(float(k < right) for k in range(n))
    return Scores("m.accuracy", view, tuple(f"t-{k}" for k in range(n)), values, n, **fields)


def macro(n: int, *, labels: int = 3, view: str = "adapter", wrong: int = 10) -> Scores:
    names = tuple(f"l{k}" for k in range(labels))
    truth = tuple(names[k % labels] for k in range(n))
    predicted = tuple(names[(k + (k < wrong)) % labels] for k in range(n))
    return scores(n, n, view, statistic="macro_f1", truth=truth, predicted=predicted, labels=names)


DROP = rule_from(compared_with="base", max_drop=0.05)


def test_a_drop_before_anything_is_measured() -> None:
    """The numbers of docs/statistics.md."""
    plan = plan_gate(DROP, scores(0, 150), scores(0, 150, "base"), measured=False)
    assert plan.smallest == pytest.approx(0.081, abs=5e-4)
    assert plan.power == pytest.approx(0.46, abs=5e-3)
    assert (plan.n, plan.needed, plan.margin, plan.measured) == (150, 382, 0.05, False)
    assert plan.rests_on == {"discordance": 0.15}


def test_a_drop_rests_on_what_was_measured() -> None:
    """30 of 100 differ: with one example of each kind added 31 of 102."""
    base = scores(70, view="base")
    plan = plan_gate(DROP, scores(100), base, measured=True)
    design = design_of(scores(100), base, truth=0.0)
    assert plan.measured
    assert plan.rests_on == {"discordance": 31 / 102}
    assert plan.smallest == detectable(design)
    assert (plan.needed, plan.power) == (needed(design, 0.05), power(design, 0.05))


def test_a_threshold_is_planned_for_the_distance_that_was_measured() -> None:
    rule = rule_from(at_least=0.8, decide="confident")
    blank = plan_gate(rule, scores(0), None, measured=False)
    assert (blank.margin, blank.needed, blank.power) == (None, None, None)
    plan = plan_gate(rule, scores(90), None, measured=True)
    assert plan.smallest == blank.smallest == detectable(design_of(scores(90), target=0.8))
    assert plan.margin == pytest.approx(0.1)
    assert plan.needed == needed(design_of(scores(90), target=0.8), plan.margin)
    missed = plan_gate(rule, scores(70), None, measured=True)
    assert (missed.margin, missed.needed) == (None, None)


def test_two_thresholds_are_as_good_as_the_worse() -> None:
    both = plan_gate(rule_from(at_least=0.5, at_most=0.95, decide="confident"), scores(0), None, measured=False)
    low = plan_gate(rule_from(at_least=0.5, decide="confident"), scores(0), None, measured=False)
    high = plan_gate(rule_from(at_most=0.95, decide="confident"), scores(0), None, measured=False)
    assert low.smallest is not None
    assert high.smallest is not None
    assert both.smallest == max(low.smallest, high.smallest)


def test_groups_and_grades() -> None:
    """Unequal grades are no shares, and blank answers of two views do not hide that."""
    values = tuple((0.25, 0.75)[k % 2] for k in range(60))
    groups = tuple(f"g{k // 2}" for k in range(60))
    ours, base = (
        Scores("m", view, tuple(map(str, range(60))), values, 60, groups=groups) for view in ("adapter", "base")
    )
    plan = plan_gate(DROP, ours, base, measured=False)
    assert plan.groups == 30
    assert plan.rests_on == {"spread": 0.25, "correlation": 0.5}


def test_macro_f1_leaves_room_for_a_gain() -> None:
    gain = rule_from(compared_with="base", min_gain=0.2)
    plan = plan_gate(gain, macro(60), macro(60, view="base"), measured=False)
    assert plan.smallest is not None
    assert 0.05 < plan.smallest < 0.3
    assert plan.rests_on["level"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("rule", "measured", "problem"),
    [
        (Rule(must_pass=("t-1",)), scores(0), "named examples are no sample"),
        (Rule(at_least=0.5, n=90), scores(0), "the gate declares n=90 and the test set has 100 examples"),
        (Rule(at_least=0.5), scores(0, statistic="f1:a", truth=("a", "b") * 50, predicted=("a", "b") * 50,
                                    labels=("a", "b")), "f1 of one label has none"),
        (Rule(at_least=0.5), macro(27), "not informative: fewer than 10 examples of l0 (9), l1 (9), l2 (9)"),
        (Rule(at_least=0.5), scores(0, unscored={"t-3": "no grade"}), "adapter: 1 of 100 examples have no score"),
        (Rule(at_least=0.5), scores(0, groups=("a",) * 100), "group"),
    ],
)  # fmt: skip
def test_no_plan(rule: Rule, measured: Scores, problem: str) -> None:
    plan = plan_gate(rule, measured, None, measured=True)
    assert problem in plan.problem
    assert (plan.smallest, plan.needed, plan.power) == (None, None, None)


@pytest.mark.parametrize(
    ("rule", "note"),
    [
        (Rule(compared_with="base", max_drop=0.0, decide="confident"), "a margin of 0 is met only by"),
        (Rule(compared_with="base", max_drop=1e-4, decide="confident"), "no affordable number of examples"),
        (Rule(at_least=0.995, decide="confident"), "100 examples decide no distance with a power of 80 %"),
    ],
)
def test_what_no_number_of_examples_decides(rule: Rule, note: str) -> None:
    plan = plan_gate(rule, scores(0), scores(0, view="base") if rule.compared_with else None, measured=False)
    assert plan.note.startswith(note)
    assert plan.needed is None


def test_an_example_that_is_not_there() -> None:
    with pytest.raises(GateError, match="must_pass names 't-100'"):
        plan_gate(Rule(must_pass=("t-100",)), scores(0), None, measured=False)


def test_slices_are_planned_on_their_own_examples() -> None:
    parts = {"half": ("a",) * 70 + ("b",) * 30, "rare": ("x",) * 100}
    both = [scores(0, view=view, slices=parts) for view in ("adapter", "base")]

    def plans(min_n: int, name: str = "half") -> tuple[Plan, ...]:
        return plan_slices(DROP, both[0], both[1], slices=name, min_n=min_n, measured=False)

    assert [(plan.slice_value, plan.n) for plan in plans(20)] == [("a", 70), ("b", 30)]
    assert plans(20)[1].smallest == plan_gate(DROP, scores(0, 30), scores(0, 30, "base"), measured=False).smallest
    (none,) = plans(80)
    assert (none.slice_name, none.slice_value) == ("half", None)
    assert none.problem == "no value of the slice has 80 examples: a (70), b (30)"
    with pytest.raises(GateError, match="there is no slice 'hlaf'"):
        plans(20, "hlaf")


# The warning in a verdict


def differing(wins: int, losses: int, n: int = 100) -> tuple[Scores, Scores]:
    """Views of which one or the other alone is right on so many examples."""
    ours = [k < wins or k >= wins + losses for k in range(n)]
    theirs = [k >= wins for k in range(n)]
    ids = tuple(map(str, range(n)))
    return tuple(  # type: ignore[return-value]
        Scores("m.accuracy", view, ids, tuple(map(float, values)), n)
        for view, values in (("adapter", ours), ("base", theirs))
    )


def test_a_margin_that_the_examples_hardly_decide() -> None:
    """It speaks of an adapter as good as the base, whatever this one got: 10 won and 5 lost is a pass."""
    ours, base = differing(10, 5)
    verdict = decide(DROP, ours, base, view="adapter")
    design = design_of(ours, base, truth=0.0)
    assert verdict.outcome is Outcome.PASS
    assert verdict.warning == (
        f"an adapter exactly as good as base would pass on {100 * power(design, 0.05):.0f} % of such test sets of 100 "
        f"examples; 80 % takes about {needed(design, 0.05)} examples or a margin of {detectable(design):.3f}"
    )
    assert power(design, 0.05) < 0.8


@pytest.mark.parametrize(
    "rule",
    [
        rule_from(compared_with="base", max_drop=0.2),
        rule_from(compared_with="base", max_drop=0.01, decide="point"),
        rule_from(compared_with="base", min_gain=0.05),
        rule_from(at_least=0.9, decide="confident"),
        rule_from(at_least=0.999),
    ],
)
def test_no_warning(rule: Rule) -> None:
    ours, base = differing(10, 5)
    assert decide(rule, ours, base, view="adapter").warning == ""


def test_a_threshold_that_not_even_right_answers_meet() -> None:
    """100 right of 100 have a lower bound of 0.964 at most."""
    rule = rule_from(at_least=0.99, decide="confident")
    verdict = decide(rule, scores(100), None, view="adapter")
    assert verdict.warning == "100 examples cannot decide this with a chance of 80 %, whatever the true value is"


def test_macro_f1_is_not_simulated_in_a_run() -> None:
    rule = rule_from(compared_with="base", max_drop=0.001)
    assert decide(rule, macro(60), macro(60, view="base", wrong=20), view="adapter").warning == ""
