from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from harness.errors import CapabilityError, JudgeError
from harness.measures import CapabilityResult, CapabilityTask, Judged, JudgedAnswer
from harness.records import Example, Message, Outputs


@dataclass(frozen=True)
class Graded:
    id: str
    score: float | None
    criteria: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None


class FixedJudge:
    """Gives the grades it was made with, and keeps what it was shown."""

    name = "fixed"
    criteria = ("correctness",)

    def __init__(self, *grades: Graded, note: str = "a caveat") -> None:
        self.note = note
        self.shown: list[JudgedAnswer] = []
        self._grades = grades

    def grade(self, items: Sequence[JudgedAnswer], /) -> list[Graded]:
        self.shown.extend(items)
        return list(self._grades)


def example(name: str, *turns: tuple[str, str]) -> Example:
    messages = tuple(Message(role, text) for role, text in turns or (("user", f"{name}?"),))  # type: ignore[arg-type]
    return Example(name, messages, f"{name}!")


EXAMPLES = (example("a"), example("b"), example("c"))


def answer(view: str) -> Outputs:
    return Outputs(view, ("a", "b", "c"), ("ra", "rb", "rc"))


def test_scores_and_criteria_in_the_order_of_the_examples() -> None:
    judge = FixedJudge(
        Graded("c", 2.5, {"correctness": 2.0}),
        Graded("a", 1.0, {"correctness": 1.0}),
        Graded("b", 5.0, {"correctness": 5.0}),
    )
    judged = Judged(EXAMPLES, answer, judge)
    scores = judged.score.scores("adapter")
    assert (scores.measure, scores.ids, scores.values) == ("judge.score", ("a", "b", "c"), (1.0, 5.0, 2.5))
    assert scores.bounds == judged.score.bounds == (1.0, 5.0)
    assert scores.note == "a caveat"
    assert scores.problem() is None
    correctness = judged.score_by_criterion["correctness"]
    assert correctness.name == "judge.score[correctness]"
    assert correctness.scores("adapter").values == (1.0, 5.0, 2.0)
    assert len(judge.shown) == 3, "one call serves all measures"


def test_the_judge_sees_question_reference_and_response_and_no_view() -> None:
    talk = example("a", ("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?"))
    judge = FixedJudge(Graded("a", 3.0), Graded("b", 3.0))
    Judged([talk, example("b", ("system", "s"), ("user", "Q"))], answer, judge).score.scores("base")
    assert judge.shown == [
        JudgedAnswer("a", "user: Hi\n\nassistant: Yes?\n\nuser: Why?", "a!", "ra"),
        JudgedAnswer("b", "Q", "b!", "rb"),
    ]


def test_what_was_not_graded_is_unscored_with_the_reason() -> None:
    judge = FixedJudge(Graded("a", None, problem="the judge refused to grade it"), Graded("b", 4.0))
    scores = Judged(EXAMPLES, answer, judge).score.scores("base")
    assert (scores.ids, scores.values) == (("b",), (4.0,))
    assert scores.unscored == {"a": "the judge refused to grade it", "c": "the judge gave no grade"}
    assert "2 of 3 examples have no score" in (scores.problem() or "")


@pytest.mark.parametrize("bad", [0.0, 5.5, math.nan, math.inf])
def test_a_grade_outside_the_scale_is_unscored(bad: float) -> None:
    scores = Judged(EXAMPLES[:1], answer, FixedJudge(Graded("a", bad))).score.scores("base")
    assert scores.unscored == {"a": f"the judge's grade is {bad}, not within 1 to 5"}


def test_a_problem_outweighs_a_grade() -> None:
    judge = FixedJudge(Graded("a", 5.0, problem="unsure"))
    assert Judged(EXAMPLES[:1], answer, judge).score.scores("base").unscored == {"a": "unsure"}


def test_an_answer_that_is_missing_is_not_shown_and_unscored() -> None:
    judge = FixedJudge(Graded("b", 4.0))
    scores = Judged(EXAMPLES[:2], lambda v: Outputs(v, ("b",), ("rb",)), judge).score.scores("base")
    assert [item.id for item in judge.shown] == ["b"]
    assert scores.unscored == {"a": "no answer from the view base"}


def test_cut_off_answers_are_noted_beside_the_judges_own_note() -> None:
    judged = Judged(EXAMPLES[:1], lambda v: Outputs(v, ("a",), ("x",), frozenset({"a"})), FixedJudge(Graded("a", 2.0)))
    note = judged.score.scores("base").note
    assert note == "a caveat; 1 of 1 answers were cut off at the token limit"


@pytest.mark.parametrize(
    ("grades", "said"),
    [
        ((Graded("a", 1.0), Graded("a", 5.0)), "the judge fixed graded 'a' twice"),
        ((Graded("z", 1.0),), "the judge fixed graded 'z' without being asked"),
    ],
)
def test_grades_that_are_not_one_to_one_are_refused(grades: tuple[Graded, ...], said: str) -> None:
    with pytest.raises(JudgeError, match=said):
        Judged(EXAMPLES[:1], answer, FixedJudge(*grades)).score.scores("base")


def result(view: str = "base", **changes: object) -> CapabilityResult:
    fields: dict[str, object] = {
        "view": view,
        "ids": ("1", "2", "3"),
        "values": {"acc": (1.0, 0.0, 1.0), "acc_norm": (0.0, 0.0, 1.0)},
        "n_expected": 3,
    }
    return CapabilityResult(**{**fields, **changes})  # type: ignore[arg-type]


def test_capability_measures_and_their_names() -> None:
    asked = []

    def run(view: str) -> CapabilityResult:
        asked.append(view)
        return result(view)

    task = CapabilityTask("grammar", run)
    assert task.accuracy is task.accuracy
    scores = task.accuracy.scores("base")
    assert scores.measure == task.accuracy.name == "capability.grammar.accuracy"
    assert (scores.ids, scores.values, scores.n_expected) == (("1", "2", "3"), (1.0, 0.0, 1.0), 3)
    assert scores.problem() is None
    assert task.accuracy_norm.name == "capability.grammar.accuracy_norm"
    assert task.accuracy_norm.scores("base").values == (0.0, 0.0, 1.0)
    assert asked == ["base"]


def test_items_that_must_not_count_are_unscored() -> None:
    values = {"acc": (1.0, math.nan, 1.0)}
    task = CapabilityTask("grammar", lambda v: result(v, values=values, unscored={"3": "log-likelihood nan"}))
    scores = task.accuracy.scores("base")
    assert (scores.ids, scores.values) == (("1",), (1.0,))
    assert scores.unscored == {"3": "log-likelihood nan", "2": "its acc is nan, not a finite number"}


def test_a_run_in_which_nothing_was_scored_says_why() -> None:
    nothing = {str(k): "a log-likelihood is not a finite number" for k in (1, 2, 3)}
    task = CapabilityTask("grammar", lambda v: result(v, ids=(), values={}, unscored=nothing))
    assert task.accuracy.scores("base").problem() == (
        "3 of 3 examples have no score, first 1: a log-likelihood is not a finite number"
    )


def test_fewer_items_than_the_task_has_cannot_carry_a_verdict() -> None:
    scores = CapabilityTask("grammar", lambda v: result(v, n_expected=5)).accuracy.scores("base")
    assert scores.problem() == "3 examples scored where 5 were expected"


def test_groups_and_slices_of_items() -> None:
    run = result(groups=("x", "x", "y"), slices={"phenomenon": ("p", "q", "q")}, unscored={"1": "nan"})
    scores = CapabilityTask("grammar", lambda _: run).accuracy.scores("base")
    assert scores.groups == ("x", "y")
    assert scores.slices == {"phenomenon": ("q", "q")}


def test_the_accuracy_of_guessing_comes_with_the_scores() -> None:
    task = CapabilityTask("grammar", lambda v: result(v, chance=0.25))
    assert task.accuracy.scores("base").chance == 0.25
    assert CapabilityTask("grammar", result).accuracy.scores("base").chance is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": {"exact": (1.0, 0.0, 1.0)}}, "task grammar does not measure 'acc'; it has: exact"),
        ({"values": {"acc": (1.0,)}}, "task grammar: 1 values of 'acc' for 3 items"),
        ({"values": {"acc": (1.0, 7.0, 0.0)}}, "'acc' of item 2 is 7.0, not within 0 to 1"),
        ({"view": "adapter"}, "task grammar: asked for 'base', got 'adapter'"),
    ],
)
def test_results_that_cannot_be_used(changes: dict[str, object], said: str) -> None:
    with pytest.raises(CapabilityError, match=said):
        CapabilityTask("grammar", lambda _: result(**changes)).accuracy.scores("base")  # type: ignore[arg-type]
