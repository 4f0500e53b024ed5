"""Gates on scores that compare two views themselves, and on answers that are all one text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.errors import GateError
from harness.gates import constant_answers, decide, decide_slices, plan_gate, rule_from, unmeasured
from harness.records import Outcome, Outputs, Rule, RuleKind, Scores, Verdict


def rate(wins: int, ties: int, losses: int, **fields: Any) -> Scores:
    values = (1.0,) * wins + (0.5,) * ties + (0.0,) * losses
    ids = tuple(f"e{k}" for k in range(len(values)))
    made = Scores("judge.win_rate[base]", "adapter", ids, values, len(values), compared_with="base")
    return replace(made, **fields)


def rule(**asked: Any) -> Rule:
    return rule_from(**{"compared_with": "base", "at_least": 0.5, **asked}, pairwise=True)


def decided(scores: Scores, **asked: Any) -> Verdict:
    return decide(rule(**asked), scores, None, view="adapter")


@pytest.mark.parametrize(
    ("counts", "asked", "outcome"),
    [
        # Student's t, quantile 1.984. 60 / 30 / 10: standard deviation 0.337 of 100, so 0.75 +- 0.067.
        # 40 / 30 / 30: 0.417, so 0.55 +- 0.083, which begins below one half.
        ((60, 30, 10), {}, "pass"),
        ((40, 30, 30), {}, "inconclusive"),
        ((40, 30, 30), {"decide": "point"}, "pass"),
        ((10, 30, 60), {}, "fail"),
        ((10, 30, 60), {"at_least": None, "at_most": 0.5}, "pass"),
        # As good as the other view is not proven to be better.
        ((0, 60, 0), {}, "inconclusive"),
        ((30, 0, 30), {}, "inconclusive"),
        # No ties: 20 of 20 by Clopper and Pearson is at least 0.832.
        ((20, 0, 0), {"at_least": 0.8}, "pass"),
        ((20, 0, 0), {"at_least": 0.84}, "inconclusive"),
    ],
)
def test_the_whole_interval_has_to_clear_the_bar(
    counts: tuple[int, int, int], asked: dict[str, Any], outcome: str
) -> None:
    verdict = decided(rate(*counts), **asked)
    assert verdict.outcome == outcome, verdict.reason
    assert verdict.value == (counts[0] + counts[1] / 2) / sum(counts)
    assert verdict.kind is RuleKind.THRESHOLD


def test_a_verdict_on_a_win_rate_is_one_on_a_threshold() -> None:
    verdict = decided(rate(60, 30, 10, note="position bias: x"))
    assert verdict.rule == "at least 0.500 against base"
    assert verdict.reason.startswith("0.750 [0.6")
    assert verdict.reason.endswith("on 100 examples: the whole interval is at least 0.500 against base.")
    # The comparison is within the measure: there are no two values with a difference.
    assert (verdict.compared_with, verdict.baseline, verdict.difference, verdict.margin) == (None, None, None, None)
    assert (verdict.threshold, verdict.lowest, verdict.highest) == (0.5, 0.0, 1.0)
    assert verdict.note == "position bias: x"


def test_a_fail_has_its_evidence_and_the_examples_that_were_lost() -> None:
    verdict = decided(rate(10, 30, 60))
    assert verdict.p_value is not None
    assert verdict.p_value < 0.001
    assert verdict.drivers is not None
    assert verdict.drivers.n_failing == 60


def test_slices_and_named_examples_are_decided_too() -> None:
    halves = tuple("ab"[k % 2] for k in range(100))
    verdicts = decide_slices(
        rule(), rate(100, 0, 0, slices={"half": halves}), None, view="adapter", slices="half", min_n=20
    )
    assert [(v.slice_value, v.outcome) for v in verdicts] == [("a", Outcome.PASS), ("b", Outcome.PASS)]
    named = decided(rate(60, 30, 10), must_pass=["e0", "e70"])
    assert named.outcome is Outcome.FAIL
    assert named.must_pass_failed == ("e70",)


def test_what_is_missing_is_incomplete() -> None:
    scores = rate(5, 0, 0)
    missing = decided(replace(scores, n_expected=6, unscored={"e5": "refused"}))
    assert missing.outcome is Outcome.INCOMPLETE
    assert missing.reason == "Not decided: adapter: 1 of 6 examples have no score, first e5: refused."
    (refused,) = unmeasured(rule(), measure="m", view="adapter", bounds=(0.0, 1.0), reason="r")
    assert (refused.outcome, refused.threshold, refused.compared_with) == (Outcome.INCOMPLETE, 0.5, None)


def test_scores_of_another_comparison_are_refused() -> None:
    with pytest.raises(GateError, match="the scores are against base, the gate compares with prompted_base"):
        decide(rule(compared_with="prompted_base"), rate(5, 0, 0), None, view="adapter")
    with pytest.raises(GateError, match="it compares two views, and only adapter is named"):
        decide(rule_from(at_least=0.5), rate(5, 0, 0), None, view="adapter")
    with pytest.raises(GateError, match="one kind of rule, got a threshold and a comparison"):
        decide(rule(), replace(rate(5, 0, 0), compared_with=None), None, view="adapter")


def test_it_can_be_planned() -> None:
    plan = plan_gate(rule(), rate(60, 30, 10), None, measured=True)
    assert plan.problem == ""
    assert plan.rule == "at least 0.500 against base"
    assert plan.smallest is not None
    assert plan.margin == pytest.approx(0.25)
    blank = plan_gate(rule(), rate(0, 100, 0), None, measured=False)
    assert blank.smallest is not None
    assert blank.margin is None


# Answers that are all one text


def outputs(*texts: str) -> Outputs:
    return Outputs("adapter", tuple(f"e{k}" for k in range(len(texts))), texts)


@pytest.mark.parametrize(
    "texts",
    [
        ("yes", "yes"),
        (" Yes\n", "yes", "YES  "),
        ("",) * 10,
        ("yes",) * 9 + ("no",),
        ("yes",) * 90 + tuple(f"no {k}" for k in range(10)),
    ],
)
def test_answers_that_are_nearly_all_one_text_are_named(texts: tuple[str, ...]) -> None:
    found = constant_answers(outputs(*texts))
    assert found is not None
    count = sum(" ".join(text.split()).casefold() == " ".join(texts[0].split()).casefold() for text in texts)
    assert found == (
        f"{count} of {len(texts)} answers of adapter are the same text, {' '.join(texts[0].split()).casefold()!r}, "
        "and a judge that is shown one at a time cannot see that. Look at what it was trained on, or gate a measure "
        "that needs no judge"
    )


@pytest.mark.parametrize("texts", [(), ("yes",), ("yes", "no"), ("yes",) * 8 + ("no",) * 2, tuple("abcdefghij")])
def test_other_answers_are_not(texts: tuple[str, ...]) -> None:
    assert constant_answers(outputs(*texts)) is None


def test_a_long_text_is_shortened() -> None:
    found = constant_answers(outputs("word " * 50, "word " * 50))
    assert f"{('word ' * 50)[:59]}…" in (found or "")
