"""Rules on parts of a test set: slices, named examples, the declared number, and what cannot be shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import GateError
from harness.gates import decide, decide_slices, rule_from
from harness.records import Outcome, RuleKind, Scores, Verdict

PASS, FAIL, INCONCLUSIVE, INCOMPLETE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INCOMPLETE


def scores(values, view="adapter", **fields) -> Scores:
    ids = tuple(f"e{k}" for k in range(len(values)))
    known = {"measure": "m.score", "view": view, "ids": ids, "n_expected": len(values), **fields}
    return Scores(values=tuple(map(float, values)), **known)


def planned(*plans: tuple[str, int, int], view="adapter", **fields) -> Scores:
    """Examples of a slice `plan`: value, how many are right, how many there are."""
    values = [float(k < right) for _, right, n in plans for k in range(n)]
    column = tuple(value for value, _, n in plans for _ in range(n))
    return scores(values, view, slices={"plan": column, "all": ("x",) * len(values)}, **fields)


def sliced(given, baseline=None, *, slices="plan", min_n=20, **asked) -> tuple[Verdict, ...]:
    return decide_slices(
        rule_from(measure="m.score", **asked), given, baseline, view="adapter", slices=slices, min_n=min_n
    )


def single(given, baseline=None, *, answers=None, **asked) -> Verdict:
    return decide(rule_from(measure="m.score", **asked), given, baseline, view="adapter", answers=answers or {})


# Slices


def test_each_value_has_a_verdict_the_worst_first() -> None:
    given = planned(("free", 18, 20), ("business", 10, 25), ("enterprise", 16, 20), ("trial", 0, 7))
    verdicts = sliced(given, at_least=0.75)
    assert [(v.slice_value, v.outcome, v.n, v.value) for v in verdicts] == [
        ("business", FAIL, 25, 0.4),
        ("enterprise", PASS, 20, 0.8),
        ("free", PASS, 20, 0.9),
    ]
    assert {v.slice_name for v in verdicts} == {"plan"}
    # The same interval as on a test set of these examples alone.
    alone = single(scores([1] * 10 + [0] * 15), at_least=0.75)
    assert (verdicts[0].low, verdicts[0].high) == (alone.low, alone.high)
    # What was too small is named, once, and not with the verdicts that have nothing to do with it.
    assert verdicts[0].note == "not decided for having fewer than 20 examples: trial (7)"
    assert [v.note for v in verdicts[1:]] == ["", ""]


def test_at_most_is_worst_where_the_value_is_high() -> None:
    verdicts = sliced(planned(("a", 2, 20), ("b", 9, 20), ("c", 5, 20)), at_most=0.1)
    assert [v.slice_value for v in verdicts] == ["b", "c", "a"]
    assert [v.outcome for v in verdicts] == [FAIL, FAIL, PASS]


def test_min_n_is_the_fewest_that_are_decided() -> None:
    given = planned(("a", 19, 19), ("b", 20, 20))
    assert [v.slice_value for v in sliced(given, at_least=0.5)] == ["b"]
    assert {v.slice_value for v in sliced(given, at_least=0.5, min_n=19)} == {"a", "b"}


def test_a_slice_of_which_no_value_has_enough_is_incomplete() -> None:
    (verdict,) = sliced(planned(("a", 7, 7), ("b", 3, 3), ("", 30, 30)), at_least=0.5)
    assert verdict.outcome is INCOMPLETE
    assert (verdict.slice_name, verdict.slice_value, verdict.value) == ("plan", None, None)
    assert verdict.reason == (
        "Not decided: no value of the slice 'plan' has 20 examples: a (7), b (3), no value (30). Add examples, or "
        "lower min_n."
    )


def test_examples_without_a_value_are_named() -> None:
    (verdict,) = sliced(planned(("a", 25, 25), ("", 5, 40)), at_least=0.5)
    assert (verdict.slice_value, verdict.outcome) == ("a", PASS)
    assert verdict.note.endswith("no value (40)")


def test_several_slices_at_once() -> None:
    verdicts = sliced(planned(("a", 20, 20), ("b", 5, 20)), at_least=0.6, slices=["plan", "all"])
    assert [(v.slice_name, v.slice_value, v.outcome) for v in verdicts] == [
        ("plan", "b", FAIL),
        ("all", "x", PASS),
        ("plan", "a", PASS),
    ]


def test_a_comparison_is_paired_within_each_value() -> None:
    """The baseline in another order; 40 of each plan, of which `free` loses 15."""
    base = planned(("free", 40, 40), ("paid", 40, 40), view="base")
    given = planned(("free", 25, 40), ("paid", 40, 40))
    back = tuple(reversed(range(80)))
    base = replace(base, ids=tuple(base.ids[k] for k in back), values=tuple(base.values[k] for k in back))
    free, paid = sliced(given, base, compared_with="base", max_drop=0.1)
    assert (free.slice_value, free.outcome, free.difference) == ("free", FAIL, pytest.approx(-15 / 40))
    assert (paid.slice_value, paid.outcome, paid.difference) == ("paid", PASS, 0.0)
    assert free.baseline == 1.0
    assert free.n == 40


def test_groups_of_a_slice_are_kept() -> None:
    given = planned(("a", 20, 40), ("b", 20, 40))
    grouped = replace(given, groups=tuple(f"g{k // 4}" for k in range(80)))
    assert "groups" in sliced(grouped, at_least=0.5)[0].method
    assert "groups" not in sliced(given, at_least=0.5)[0].method


def classified(pairs: list[tuple[str, str]], column: list[str], view="adapter", **fields) -> Scores:
    truth, predicted = zip(*pairs, strict=True)
    known = {"statistic": "macro_f1", "labels": ("a", "b", "c"), **fields}
    right = [t == p for t, p in pairs]
    return scores(right, view, truth=truth, predicted=predicted, slices={"half": tuple(column)}, **known)


def test_macro_f1_of_a_slice_is_over_the_labels_that_it_has() -> None:
    # The first half has the labels a and b only. F1 of a: 20/22; of b: 20/21 (one b is answered c).
    first = [("a", "a")] * 10 + [("b", "b")] * 10 + [("b", "a")] * 1 + [("a", "c")] * 1
    second = [("a", "a")] * 5 + [("b", "b")] * 5 + [("c", "c")] * 10
    given = classified(first + second, ["1"] * len(first) + ["2"] * len(second))
    verdicts = {v.slice_value: v for v in sliced(given, slices="half", at_least=0.5)}
    # f1(a) = 2*10 / (2*10 + 1 false alarm + 1 miss), f1(b) = 2*10 / (2*10 + 0 + 1)
    assert verdicts["1"].value == pytest.approx((20 / 22 + 20 / 21) / 2)
    assert verdicts["1"].note == "mean over the 2 of 3 labels that occur here"
    assert verdicts["2"].value == 1.0
    base = replace(given, view="base")
    compared = {v.slice_value: v for v in sliced(given, base, slices="half", compared_with="base", max_drop=0.4)}
    assert compared["1"].difference == 0.0
    assert compared["1"].baseline == pytest.approx((20 / 22 + 20 / 21) / 2)


def test_f1_of_a_label_that_a_slice_hardly_has_is_incomplete() -> None:
    first = [("a", "a")] * 20 + [("b", "b")] * 4
    second = [("a", "a")] * 12 + [("b", "b")] * 12
    given = classified(first + second, ["1"] * 24 + ["2"] * 24, statistic="f1:b")
    verdicts = {v.slice_value: v for v in sliced(given, slices="half", at_least=0.5)}
    assert verdicts["1"].outcome is INCOMPLETE
    assert "fewer than 10 examples of b (4)" in verdicts["1"].reason
    assert verdicts["2"].outcome is PASS


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"unscored": {"e1": "the judge refused"}}, "have no score, first e1: the judge refused"),
        ({"n_expected": 81}, "80 examples scored where 81 were expected"),
    ],
)
def test_scores_with_a_fault_decide_no_slice(changed, message) -> None:
    (verdict,) = sliced(replace(planned(("a", 40, 40), ("b", 40, 40)), **changed), at_least=0.1)
    assert (verdict.outcome, verdict.slice_name) == (INCOMPLETE, "plan")
    assert message in verdict.reason


def test_a_baseline_without_some_examples_of_a_slice_is_incomplete() -> None:
    given = planned(("a", 20, 20), ("b", 20, 20))
    base = replace(given, view="base", ids=(*given.ids[:39], "other"))
    verdicts = {v.slice_value: v for v in sliced(given, base, compared_with="base", max_drop=0.5)}
    assert verdicts["b"].outcome is INCOMPLETE
    assert "19 examples scored where 20 were expected" in verdicts["b"].reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slices": "plna"}, "there is no slice 'plna'; its slices: plan, all"),
        ({"slices": []}, r"slices must be a name or a list of names, got \[\]"),
        ({"slices": 3}, "slices must be a name or a list of names, got 3"),
        ({"slices": ["plan", ""]}, "slices must be a name or a list of names"),
        ({"slices": ["plan", "plan"]}, "the slice 'plan' is named twice"),
        ({"min_n": 0}, "min_n must be a whole number of examples, at least 1, got 0"),
        ({"min_n": True}, "min_n must be a whole number of examples, at least 1, got True"),
        ({"min_n": 2.5}, "min_n must be a whole number of examples"),
        ({"must_pass": ["e1"]}, "must_pass names single examples, slices are many"),
    ],
)
def test_slices_that_cannot_be_decided_are_refused_in_one_line(arguments, message) -> None:
    with pytest.raises(GateError, match=message) as caught:
        sliced(planned(("a", 20, 20)), **{"at_least": 0.5, **arguments})
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("m.score: ")


def test_a_measure_without_slices_says_so() -> None:
    with pytest.raises(GateError, match="there is no slice 'plan'; its examples have no slices"):
        sliced(scores([1] * 30), at_least=0.5)


# Named examples


def test_named_examples_alone() -> None:
    given = scores([1, 1, 0, 1])
    verdict = single(given, must_pass=["e0", "e3"])
    assert (verdict.outcome, verdict.kind, verdict.rule) == (PASS, RuleKind.MUST_PASS, "right on 2 named examples")
    assert (verdict.value, verdict.n, verdict.reason) == (1.0, 2, "The 2 named examples are all right.")
    wrong = single(given, must_pass=["e0", "e2"], answers={"e2": "a\nlong  answer" + "x" * 99})
    assert (wrong.outcome, wrong.value, wrong.must_pass_failed) == (FAIL, 0.5, ("e2",))
    assert wrong.reason == ("1 of 2 named examples is wrong: e2 has 0 of 1, answered 'a long answer" + "x" * 66 + "…'.")
    assert single(given, must_pass=["e0"]).reason == "The 1 named example is right."


def test_named_examples_beside_a_rule() -> None:
    given = scores([1] * 18 + [0] * 2)
    missed = single(given, at_least=0.8, must_pass=["e0", "e19"])
    assert (missed.outcome, missed.kind, missed.value, missed.n) == (FAIL, RuleKind.THRESHOLD, 0.9, 20)
    assert missed.rule == "at least 0.800 and right on 2 named examples"
    assert missed.reason.startswith("1 of 2 named examples is wrong: e19 has 0 of 1. 0.900 [")
    assert single(given, at_least=0.8, must_pass=["e0", "e1"]).outcome is PASS
    # A rule that is missed is not saved by its examples.
    short = single(given, at_least=0.95, must_pass=["e0"])
    assert (short.outcome, short.must_pass_failed) == (FAIL, ())
    # And one that cannot be told fails where an example is wrong.
    unsure = single(given, at_least=0.8, decide="confident", must_pass=["e19"])
    assert unsure.outcome is FAIL
    assert single(given, at_least=0.8, decide="confident", must_pass=["e0"]).outcome is INCONCLUSIVE


def test_a_grade_is_right_at_its_highest_only() -> None:
    grades = scores([5, 4.999, 5, 1], bounds=(1.0, 5.0))
    verdict = single(grades, must_pass=["e0", "e1", "e2"], bounds=(1.0, 5.0))
    assert verdict.must_pass_failed == ("e1",)
    assert "e1 has 4.999 of 5" in verdict.reason


def test_a_classified_example_is_right_where_its_label_was_predicted() -> None:
    given = classified([("a", "a"), ("b", "c"), ("c", "c")], ["1"] * 3, statistic="f1:a")
    verdict = single(given, must_pass=["e0", "e1", "e2"])
    assert verdict.must_pass_failed == ("e1",)
    assert verdict.reason == "1 of 3 named examples is wrong: e1 was answered 'c' and is 'b'."


def test_of_many_wrong_examples_the_first_are_named_and_all_recorded() -> None:
    verdict = single(scores([0] * 9), must_pass=[f"e{k}" for k in range(9)])
    assert "e4 has 0 of 1; and 4 more." in verdict.reason
    assert len(verdict.must_pass_failed) == 9


def test_named_examples_without_a_score_decide_nothing() -> None:
    given = replace(scores([1, 1]), ids=("e0", "e1"), n_expected=3, unscored={"e2": "the judge refused"})
    verdict = single(given, must_pass=["e2"])
    assert verdict.outcome is INCOMPLETE
    assert "first e2: the judge refused" in verdict.reason


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"must_pass": ["e0", "e77"]}, "must_pass names 'e77', and the test set has no such example. An id .* 'e0'"),
        ({"must_pass": ["x", "y", "z"]}, "must_pass names 'x' and 2 more"),
        ({"must_pass": "e0"}, "must_pass must be a list of example ids, got 'e0'"),
        ({"must_pass": [7]}, r"must_pass must be a list of example ids, got \[7\]"),
        ({"must_pass": []}, "must_pass names no example"),
        ({"must_pass": [], "at_least": 0.5}, "must_pass names no example"),
        ({"must_pass": ["e0", "e0"]}, "must_pass names 'e0' twice"),
        ({"must_pass": ["e0"], "compared_with": "base"}, "needs max_drop .* or min_gain"),
        ({"must_pass": ["e0"], "bounds": (0.0, float("inf"))}, "has no upper bound"),
        ({"must_pass": ["e0"], "measure": "m.perplexity_loss"}, "lower is better here"),
    ],
)
def test_named_examples_that_cannot_be_decided_are_refused_in_one_line(arguments, message) -> None:
    with pytest.raises(GateError, match=message) as caught:
        decide(rule_from(**{"measure": "m.score", **arguments}), scores([1, 0, 1]), None, view="adapter")
    assert "\n" not in str(caught.value)


# The declared number


def test_another_number_than_declared_is_incomplete() -> None:
    given = scores([1] * 90)
    assert single(given, at_least=0.5, n=90).outcome is PASS
    verdict = single(given, at_least=0.5, n=180)
    assert (verdict.outcome, verdict.value) == (INCOMPLETE, None)
    assert verdict.reason == (
        "Not decided: the gate declares n=180 and the test set has 90 examples. Bring back what is missing, or "
        "declare the new number."
    )
    assert single(given, must_pass=["e0"], n=89).outcome is INCOMPLETE


def test_the_number_is_that_of_the_test_set_and_not_of_a_slice() -> None:
    given = planned(("a", 30, 30), ("b", 30, 30))
    assert [v.outcome for v in sliced(given, at_least=0.5, n=60)] == [PASS, PASS]
    assert [v.outcome for v in sliced(given, at_least=0.5, n=30)] == [INCOMPLETE]


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "180"])
def test_a_number_that_is_none_is_refused(n) -> None:
    with pytest.raises(GateError, match="n must be a whole number of examples, at least 1, got"):
        rule_from(at_least=0.5, n=n, measure="m.score")


# Informative or not


def labelled(counts: dict[str, int], statistic: str) -> Scores:
    """So many examples of each label, all answered right."""
    truth = tuple(label for label, n in counts.items() for _ in range(n))
    return scores(
        [1] * len(truth), truth=truth, predicted=truth, labels=tuple(counts), statistic=statistic, measure="m.score"
    )


@pytest.mark.parametrize(
    ("counts", "statistic", "said"),
    [
        ({"a": 30, "b": 10}, "macro_f1", None),
        ({"a": 30, "b": 9}, "macro_f1", "fewer than 10 examples of b (9). Add examples of it"),
        ({"a": 30, "b": 9, "c": 0}, "macro_recall", "fewer than 10 examples of c (0), b (9). Add examples of them"),
        ({"a": 30, "b": 9}, "f1:b", "fewer than 10 examples of b (9)"),
        ({"a": 30, "b": 9}, "f1:a", None),
        ({"a": 30, "b": 9}, "mean", None),
        ({"a": 30, "b": 9}, "weighted_f1", None),
        ({"a": 30, "b": 0}, "mean", "all 30 examples have the label 'a', and who always says so is right"),
        ({"a": 30, "b": 0}, "f1:a", "all 30 examples have the label 'a'"),
    ],
)
def test_labels_that_a_gate_needs_and_the_test_set_hardly_has(counts, statistic, said) -> None:
    verdict = single(labelled(counts, statistic), at_least=0.1)
    if said is None:
        assert verdict.outcome is PASS
    else:
        assert (verdict.outcome, verdict.value) == (INCOMPLETE, None)
        assert said in verdict.reason
        assert verdict.reason.startswith("Not decided: not informative: ")


def test_named_examples_need_no_number_of_labels() -> None:
    assert single(labelled({"a": 3, "b": 0}, "macro_f1"), must_pass=["e0"]).outcome is PASS


@pytest.mark.parametrize(
    ("right", "chance", "informative"),
    [
        # 100 items of four choices: 0.30 is guessing's 0.25 and 5 points.
        (30, 0.25, False),
        (31, 0.25, True),
        # Worse than guessing shows as little.
        (10, 0.25, False),
        # Where guessing is not known, there is nothing to compare with.
        (30, None, True),
    ],
)
def test_a_task_that_the_base_guesses_shows_no_drop(right, chance, informative) -> None:
    base = scores([1] * right + [0] * (100 - right), "base", chance=chance)
    ours = replace(base, view="adapter")
    verdict = single(ours, base, compared_with="base", max_drop=0.2)
    if informative:
        assert verdict.outcome is PASS
    else:
        assert verdict.outcome is INCOMPLETE
        assert verdict.reason == (
            f"Not decided: not informative: 0.{right}0 of base is not above guessing (0.250) by more than 0.05, so "
            "there is nothing to lose. Take a task that base can do."
        )
    # A gain over it, and the level of the adapter, can be told.
    assert single(scores([1] * 100, chance=chance), base, compared_with="base", min_gain=0.2).outcome is PASS
    assert single(scores([1] * 100, chance=chance), at_least=0.9).outcome is PASS
