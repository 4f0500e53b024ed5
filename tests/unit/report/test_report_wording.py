from __future__ import annotations

from dataclasses import replace

import pytest
from report_runs import JUDGING, STAND_IN, by_slice, comparison, failing, gates, named, recipe, run, verdict

from harness.records import Drivers, Outcome, RuleKind, Run, SliceShare
from harness.report import format_value, gates_table, headline, recipe_headline
from harness.report.charts import interval_bar, loss_curve
from harness.report.wording import (
    clip,
    drivers_in_words,
    duration,
    is_ready,
    judging_in_words,
    measure_title,
    moment,
    number,
    one_line,
    ordered_views,
    signed,
    target,
    visible,
)


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [
        (0.91249, "classification.accuracy", "0.912"),
        (0.0, "classification.accuracy", "0.000"),
        (-0.0001, "classification.accuracy", "0.000"),
        (3.456, "judge.score", "3.46"),
        (3.456, "judge.score[tone]", "3.46"),
        (None, "classification.accuracy", "not measured"),
    ],
)
def test_values_have_three_decimals_and_grades_two(value: float | None, measure: str, text: str) -> None:
    assert format_value(value, measure) == text


def test_a_value_never_looks_equal_to_the_bar_it_misses() -> None:
    assert number(0.89996, 3, apart_from=0.9) == "0.89996"
    assert number(0.9, 3, apart_from=0.9) == "0.900"
    # A gate takes these two for equal.
    assert number(0.9 - 1e-12, 3, apart_from=0.9) == "0.900"
    assert number(0.89, 3, apart_from=0.9) == "0.890"
    assert signed(-0.05004, 3, apart_from=-0.05) == "-0.05004"
    assert signed(0.05, 3) == "+0.050"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (252.4, "4 min 12 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_moment() -> None:
    assert moment("2026-11-23T14:07:12+00:00") == "23 November 2026, 14:07 UTC"
    assert moment("2026-11-23T14:07:12") == "23 November 2026, 14:07"
    assert moment("this morning") == "this morning"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("classification.macro_f1", "Macro F1"),
        ("classification.f1[payroll]", "F1: payroll"),
        ("classification.generated.accuracy", "Accuracy (generated answers)"),
        ("capability.general_knowledge.accuracy", "General knowledge: accuracy"),
        ("judge.score", "Judge score"),
        ("judge.score[tone]", "Judge score: tone"),
        ("generation.rougeL", "ROUGE-L"),
        ("structure.matches[a[0-9]]", "Matches: a[0-9]"),
        ("own.new_measure", "New measure"),
        ("", ""),
    ],
)
def test_measure_titles(name: str, title: str) -> None:
    assert measure_title(name) == title


def test_views_are_in_the_order_of_the_comparison() -> None:
    assert ordered_views(["adapter", "promoted", "prompted_base", "base"]) == [
        "base",
        "prompted_base",
        "promoted",
        "adapter",
    ]


def test_hidden_characters_are_named() -> None:
    assert visible("a\u202eb\x1b[0m\x00\x85\ud800\ufeff") == "a[U+202E]b␛[0m␀[U+0085][U+D800][U+FEFF]"
    assert visible("line\r\nline\ttab") == "line\nline\ttab"
    # Persian needs the non-joiner, and the emoji of a person at a computer the joiner.
    for text in ("\u0646\u0633\u062e\u0647\u200c\u0647\u0627", "\U0001f469\u200d\U0001f4bb", "é"):
        assert visible(text) == text


def test_long_text_is_cut_with_a_note() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("a" * 1_003, 3) == "aaa… [1,000 more characters, the full text is in report.json]"
    assert one_line("a\n b", 10) == "a b"
    assert one_line("abcdef", 5) == "abcd…"
    assert one_line("a" + " " * 100, 5).endswith("…")


P, F, U, M = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INCOMPLETE


@pytest.mark.parametrize(
    ("outcomes", "text"),
    [
        ([P, P], "Ready to promote: all 2 gates passed"),
        ([P], "Ready to promote: the one gate passed"),
        ([P, F, F], "Not ready: 2 of 3 gates failed"),
        ([F], "Not ready: 1 of 1 gate failed"),
        ([U, P], "Not ready: 1 of 2 gates is inconclusive"),
        ([U, U, P], "Not ready: 2 of 3 gates are inconclusive"),
        ([F, P, M, U, U], "Not ready: 1 of 5 gates failed, 1 is incomplete, 2 are inconclusive"),
        ([], "Not ready: no gate was decided"),
    ],
)
def test_headlines(outcomes: list[Outcome], text: str) -> None:
    tested = recipe(gates=gates(*(verdict(outcome) for outcome in outcomes)))
    overall = Outcome.PASS if outcomes and set(outcomes) == {P} else Outcome.FAIL
    assert headline(run(tested, outcome=overall)) == text
    assert recipe_headline(tested) == text


def test_a_run_with_nothing_to_compare_with_is_ready_as_a_first_promotion_alone() -> None:
    tested = recipe(gates=gates(verdict(P), comparison(Outcome.NOT_APPLICABLE)))
    text = "Not ready, except as a first promotion: 1 of 2 gates passed, 1 is not applicable"
    assert recipe_headline(tested) == text
    assert headline(run(tested, outcome=Outcome.NOT_APPLICABLE)) == text
    assert not is_ready(run(tested, outcome=Outcome.NOT_APPLICABLE))
    assert not is_ready(run(tested, outcome=P))
    alone = recipe(gates=gates(comparison(Outcome.NOT_APPLICABLE), comparison(Outcome.NOT_APPLICABLE)))
    assert recipe_headline(alone) == "Not ready: 2 of 2 gates are not applicable"
    for changes in ({"problem": "stopped"}, {"gates": gates(verdict(F), comparison(Outcome.NOT_APPLICABLE))}):
        assert "except as a first promotion" not in recipe_headline(recipe(**{"gates": tested.gates, **changes}))
    assert "except" not in headline(run(tested, outcome=Outcome.NOT_APPLICABLE, problems=("gone",)))


@pytest.mark.parametrize(
    ("contradiction", "text"),
    [
        (run(outcome=Outcome.INCOMPLETE), "all 2 gates passed, but the run is not complete"),
        (run(problems=("a test vanished",)), "all 2 gates passed, but the run is not complete"),
        (run(recipe(problem="stopped")), "invoices did not finish"),
        (run(recipe(gates=gates(verdict(Outcome.FAIL)))), "1 of 1 gate failed"),
        (run(recipe(), recipe(name="tickets", gates=())), "tickets decided no gate"),
        (run(recipes=()), "no gate was decided"),
    ],
)
def test_a_run_that_says_pass_is_not_ready_where_anything_contradicts(contradiction: Run, text: str) -> None:
    if contradiction.recipes and contradiction.outcome is not Outcome.INCOMPLETE:
        assert contradiction.outcome is Outcome.PASS
    assert headline(contradiction) == f"Not ready: {text}"


def test_recipe_that_stopped() -> None:
    assert recipe_headline(recipe(problem="x")) == "Not ready: all 2 gates passed, but the recipe did not finish"
    assert recipe_headline(recipe(problem="x", gates=())) == "Not ready: the recipe did not finish"


def test_gates_table_puts_first_what_did_not_pass() -> None:
    rows = gates_table(failing())
    assert [row.verdict for row in rows] == ["failed", "incomplete", "inconclusive", "passed", "passed"]
    assert [row.reason for row in rows[-2:]] == ["first passed", "second passed"]
    assert rows[0].value == "0.741, -0.160 [-0.200, -0.120] vs base"
    assert rows[0].rule == "drop vs base at most 0.050"
    assert rows[1].value == "not measured"
    assert rows[3] == (
        "invoices",
        "classification.macro_f1",
        "0.912 [0.880, 0.938]",
        "at least 0.900",
        "passed",
        "first passed",
        "",
        "",
    )


def test_gates_table_says_what_must_be_said_with_a_number() -> None:
    grade = verdict(measure="judge.score", value=3.456, low=3.2, high=3.7, note=STAND_IN)
    other = verdict(view="prompted_base", low=None, high=None)
    undecided = comparison(Outcome.INCOMPLETE, difference=None, difference_low=None, difference_high=None)
    rows = gates_table(run(recipe(gates=gates(grade, other, undecided))))
    texts = {row.measure: row for row in rows}
    assert texts["judge.score"].value == "3.46 [3.20, 3.70] (stand-in judge)"
    assert texts["judge.score"].reason.endswith(f"Note: {STAND_IN}")
    assert texts["classification.macro_f1 (prompted base)"].value == "0.912"
    assert texts["capability.grammar.accuracy"].value == "0.741, difference not measured"


def test_gates_table_is_one_plain_line_a_cell() -> None:
    rows = gates_table(run(recipe(name="a\nb", gates=gates(verdict(reason="x\n::error::y\u202e\x1b" + "z" * 9999)))))
    for cell in rows[0][:-1]:
        assert "\n" not in cell
        assert cell.replace("…", "").replace("␛", "").isprintable()
        assert len(cell) <= 800


def test_gates_table_names_slices_and_what_stands_behind_a_verdict() -> None:
    missed, undecided, passed = gates_table(by_slice())
    assert (missed.measure, missed.slice) == ("classification.accuracy", "where plan=free")
    assert missed.reason == (
        "missed Largest parts of the drop: tone=angry 0.110 (40 examples), label=fee 0.052 (31 examples). "
        "14 examples worse than base: t-4, t-17, t-21, t-30, t-41 and 9 more. Words that stand out in them: "
        "“refund” in 9 of 14, else 2 of 41; “invoice” in 6 of 14, else 1 of 41."
    )
    assert passed.slice == "where plan=enterprise"
    assert passed.reason.endswith("Note: not decided: trial (7)")
    assert undecided.slice == "by region"
    (wrong,) = gates_table(named())
    assert (wrong.value, wrong.slice) == ("2 of 3 right", "")


def test_drivers_are_worded_by_the_kind_of_the_rule() -> None:
    drivers = Drivers(slices=(SliceShare("a", "x\ny", 3, 0.5),), failing=("t-1",), n_failing=1, n_others=9)
    assert drivers_in_words(comparison(Outcome.FAIL, kind=RuleKind.GAIN, drivers=drivers)) == (
        "Largest parts of the shortfall: a=x y 0.500 (3 examples). 1 example no better than base: t-1."
    )
    assert drivers_in_words(verdict(Outcome.FAIL, drivers=Drivers(failing=("t-1",), n_failing=1))) == (
        "1 example on the wrong side: t-1."
    )
    assert drivers_in_words(verdict()) == ""


def test_the_bar_of_a_drop_lies_below_zero_and_of_a_gain_above() -> None:
    """By the kind of the rule, whatever its words are."""
    assert target(comparison(rule="no worse than 5 points", margin=0.05)) == -0.05
    assert target(comparison(kind=RuleKind.GAIN, margin=0.1)) == 0.1
    assert target(verdict()) == 0.9
    assert target(named().recipes[0].gates[0].verdict) is None
    # A record that contradicts itself has no bar, rather than a wrong one.
    assert target(comparison(kind=RuleKind.THRESHOLD)) is None


def test_interval_bar_of_a_threshold() -> None:
    bar = interval_bar(verdict())
    assert bar is not None
    # The scale 0 to 1 lies between 2 % and 98 %.
    assert bar.estimate == pytest.approx(2 + 96 * 0.912, abs=0.01)
    assert bar.low == pytest.approx(2 + 96 * 0.88, abs=0.01)
    assert bar.target is not None
    assert bar.target.at == pytest.approx(2 + 96 * 0.9, abs=0.01)
    assert bar.zone == (bar.target.at, 98.0)
    assert bar.title == (
        "Estimate 0.912, interval 0.880 to 0.938, on a scale from 0 to 1. Rule: at least 0.900. Verdict: passed."
    )
    most = interval_bar(verdict(at_least=None, at_most=0.9))
    assert most is not None
    assert most.zone == (2.0, most.target.at if most.target else None)
    both = interval_bar(verdict(at_least=0.5, at_most=0.9))
    assert both is not None
    assert both.zone == pytest.approx((2 + 96 * 0.5, 2 + 96 * 0.9))
    neither = interval_bar(verdict(at_least=None, at_most=None))
    assert neither is not None
    assert neither.zone is None


def test_interval_bar_of_a_comparison_has_zero_in_the_middle() -> None:
    bar = interval_bar(comparison())
    assert bar is not None
    assert bar.zero == 50.0
    # 1.1 times the margin of 0.05 fits on a scale of 0.1 to both sides.
    assert [end.label for end in bar.ends] == ["\N{MINUS SIGN}0.1", "0", "+0.1"]
    assert bar.estimate == pytest.approx(50 + 48 * -0.12, abs=0.01)
    assert bar.target is not None
    assert bar.target.at == pytest.approx(50 - 24, abs=0.01)


@pytest.mark.parametrize(
    ("bounds", "numbers", "ends"),
    [
        # A share differs by 1 at most; 1.1 times 0.95 would ask for a scale of 2.
        ((0.0, 1.0), (0.95, 0.9, 0.98), (-1.0, 1.0)),
        ((0.0, 1.0), (-1.0, -1.0, -0.99), (-1.0, 1.0)),
        ((0.0, 1.0), (0.3, 0.2, 0.4), (-0.5, 0.5)),
        # Grades from 1 to 5 differ by 4.
        ((1.0, 5.0), (2.1, 1.9, 2.3), (-4.0, 4.0)),
        ((1.0, 5.0), (0.95, 0.9, 0.98), (-2.0, 2.0)),
        # Without bounds, or with numbers beyond them, the numbers alone decide.
        ((None, None), (0.95, 0.9, 0.98), (-2.0, 2.0)),
        ((0.0, None), (0.95, 0.9, 0.98), (-2.0, 2.0)),
        ((0.0, 1.0), (1.5, 1.4, 1.6), (-2.0, 2.0)),
    ],
)
def test_a_difference_is_drawn_no_further_than_it_can_be(
    bounds: tuple[float | None, float | None], numbers: tuple[float, float, float], ends: tuple[float, float]
) -> None:
    value, low, high = numbers
    made = comparison(difference=value, difference_low=low, difference_high=high, lowest=bounds[0], highest=bounds[1])
    bar = interval_bar(made)
    assert bar is not None
    labels = [end.label.replace("\N{MINUS SIGN}", "-") for end in bar.ends]
    assert [float(label) for label in labels] == [ends[0], 0, ends[1]]
    assert bar.estimate == pytest.approx(50 + 48 * value / ends[1], abs=0.01)


def test_interval_bar_of_a_grade_is_on_the_scale_of_grades() -> None:
    grade = verdict(measure="judge.score", value=3.0, low=2.0, high=4.0, threshold=4.0, lowest=1.0, highest=5.0)
    bar = interval_bar(grade)
    assert bar is not None
    assert bar.estimate == 50.0
    assert [end.label for end in bar.ends] == ["1", "5"]


@pytest.mark.parametrize("value", [-7.5, 0.0, 1.0, 12_345.678, 1e99, -1e99, 5e-324])
def test_every_mark_stays_on_the_scale(value: float) -> None:
    for made in (
        verdict(value=value, low=value - 1, high=value + 1),
        comparison(difference=value, difference_low=value - 1, difference_high=value + 1),
    ):
        bar = interval_bar(made)
        assert bar is not None
        assert bar.target is not None
        marks = [bar.estimate, bar.low, bar.high, bar.target.at, *(end.at for end in bar.ends)]
        assert all(mark is not None and 2 <= mark <= 98 for mark in marks)


def test_nothing_is_drawn_of_nothing() -> None:
    assert interval_bar(verdict(value=None, low=None, high=None)) is None
    assert interval_bar(comparison(difference=None)) is None
    assert interval_bar(named().recipes[0].gates[0].verdict) is None
    assert interval_bar(verdict(value=1e308)) is None
    training = recipe().training
    assert training is not None
    assert loss_curve(type(training)(1.0, 0, 0, 0, (), ())) is None


def test_loss_curve() -> None:
    training = recipe().training
    assert training is not None
    curve = loss_curve(training)
    assert curve is not None
    assert curve.training is not None
    # Losses 2.5 and 0.25 at steps 1 and 100, axes from 0 to 100 and from 0 to 2.5.
    assert curve.training.points == "1,0 100,90"
    assert [label for _, label in curve.y_ticks] == ["0", "0.5", "1", "1.5", "2", "2.5"]
    assert [label for _, label in curve.x_ticks] == ["0", "50", "100"]
    assert curve.validation is not None
    assert curve.validation.dots == ((50.0, 80.0), (100.0, 84.0))
    assert "Training loss 2.500 at step 1, 0.250 at step 100." in curve.title


def test_a_long_loss_curve_is_averaged() -> None:
    training = recipe().training
    assert training is not None
    # 1,000 steps in 240 points at most: 5 steps a point, 200 points. The first mean, of 1 0 1 0 1, is 0.6.
    long = type(training)(1.0, 0, 1000, 1000, tuple((k, float(k % 2)) for k in range(1, 1001)), ())
    curve = loss_curve(long)
    assert curve is not None
    assert curve.training is not None
    assert curve.averaged == 5
    points = curve.training.points.split()
    assert len(points) == 200
    assert points[0] == "0.5,40"


def test_what_judging_took_is_one_line() -> None:
    assert judging_in_words(recipe(judging=JUDGING)) == (
        "anthropic claude-sonnet-5-5: 112 graded, 8 known from before, 2 without a grade; 117 calls, 172,112 tokens in "
        "(50,400 from the prompt cache), 20,031 out; $0.4563 of $5.00, at most: 1 did not say what they used"
    )
    without_price = replace(JUDGING, cost_usd=None, budget_usd=None, unknown_calls=0, cache_read_tokens=0, calls=1)
    assert judging_in_words(recipe(judging=without_price)).endswith(
        "; 1 call, 121,712 tokens in, 20,031 out; price not known"
    )
    known = replace(JUDGING, calls=0, graded=0, unscored=0)
    assert judging_in_words(recipe(judging=known)) == "anthropic claude-sonnet-5-5: 0 graded, 8 known from before"
    assert judging_in_words(recipe()) == ""
