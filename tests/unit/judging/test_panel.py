"""Several judges as one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.errors import JudgeError
from harness.judging import Answer, Grade, Judge, JudgeItem, Panel, Rubric, StandInJudge

RUBRIC = Rubric.model_validate(
    {
        "name": "answers",
        "task": "Answers.",
        "criteria": [
            {"name": name, "weight": weight, "anchors": {g: f"{name} is {g}" for g in range(1, 6)}}
            for name, weight in (("correctness", 3.0), ("brevity", 1.0))
        ],
    }
)
ITEM = JudgeItem("q", "Q", "R", "A")


class Fixed:
    """Gives every answer the same grades."""

    def __init__(self, name: str, *grades: float, note: str = "") -> None:
        self.name = name
        self.note = note
        self.criteria = ("correctness", "brevity")
        self._grades = dict(zip(self.criteria, grades, strict=False))

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        if not self._grades:
            return [Grade(item.id, None, problem="no answer") for item in items]
        return [Grade(item.id, RUBRIC.overall(self._grades), self._grades, f"says {self.name}") for item in items]


def one(*judges: Judge, combine: str = "majority") -> Grade:
    (grade,) = Panel(judges, RUBRIC, combine).grade([ITEM])  # type: ignore[arg-type]
    return grade


def test_the_majority_of_each_criterion_counts() -> None:
    grade = one(Fixed("a", 4, 1), Fixed("b", 4, 2), Fixed("c", 1, 2))
    assert grade.criteria == {"correctness": 4.0, "brevity": 2.0}
    assert grade.score == 3.5  # (3 * 4 + 1 * 2) / 4
    assert grade.rationale == "a: says a\nb: says b\nc: says c"


def test_without_a_majority_it_is_the_median() -> None:
    assert one(Fixed("a", 1, 5), Fixed("b", 3, 2), Fixed("c", 4, 5)).criteria == {"correctness": 3.0, "brevity": 5.0}
    assert one(Fixed("a", 1, 5), Fixed("b", 4, 5)).criteria == {"correctness": 2.5, "brevity": 5.0}


def test_the_mean_can_be_chosen() -> None:
    grade = one(Fixed("a", 4, 1), Fixed("b", 4, 2), Fixed("c", 1, 3), combine="mean")
    assert grade.criteria == {"correctness": 3.0, "brevity": 2.0}


def test_an_answer_that_one_judge_did_not_grade_has_no_grade() -> None:
    grade = one(Fixed("a", 4, 1), Fixed("b"))
    assert (grade.score, grade.criteria, grade.problem) == (None, {}, "b: no answer")


def test_the_note_says_how_far_the_judges_agree() -> None:
    panel = Panel([Fixed("a", 4, 1, note="not calibrated"), Fixed("b", 4, 2, note="not calibrated")], RUBRIC)
    assert panel.note == "panel of 2 judges by majority; not calibrated"
    panel.grade([ITEM])
    # Of two grades one is the same and one differs by 1.
    assert panel.note == (
        "panel of 2 judges by majority, two of them agree on 50% of the grades (mean distance 0.50); not calibrated"
    )
    assert panel.name == "panel of a, b"


@pytest.mark.parametrize(
    ("judges", "said"),
    [
        ([], "a panel needs two or more judges that differ, got none"),
        ([Fixed("a", 1, 1)], "a panel needs two or more judges that differ, got a"),
        (
            [Fixed("a", 1, 1), Fixed("b", 1, 1), Fixed("a", 2, 2)],
            "a panel needs two or more judges that differ, got a, b, a",
        ),
        (
            [Fixed("a", 1, 1), StandInJudge()],
            "the judge stand-in cannot sit in a panel: it does not grade correctness, brevity",
        ),
    ],
)
def test_judges_that_make_no_panel_are_refused(judges: list[Judge], said: str) -> None:
    with pytest.raises(JudgeError) as caught:
        Panel(judges, RUBRIC)
    assert str(caught.value) == said
