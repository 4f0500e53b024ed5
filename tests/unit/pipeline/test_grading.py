"""A judge is asked only for what it has not graded before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.judging import Answer, Grade, JudgeItem
from harness.pipeline.grading import StoredGrades
from harness.store import Store


@dataclass
class CountingJudge:
    """Grades by the length of the response, keeps what it was asked, and cannot grade an empty response."""

    name: str = "counting"
    note: str = "a double"
    criteria: tuple[str, ...] = ("length",)
    asked: list[list[str]] = field(default_factory=list)

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        self.asked.append([item.id for item in items])
        return [self._grade(item) for item in items]

    @staticmethod
    def _grade(item: Answer) -> Grade:
        if not item.response:
            return Grade(item.id, None, problem="the response is empty")
        score = float(min(5, len(item.response)))
        return Grade(item.id, score, criteria={"length": score}, rationale=f"{len(item.response)} letters")


ITEMS = [
    JudgeItem("a", "What?", "this", "x"),
    JudgeItem("b", "What?", "this", "xxx"),
    JudgeItem("c", "Why?", "that", "xxx"),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def graded(judge: CountingJudge, store: Store, *, rubric: str = "r", code: str = "c") -> StoredGrades:
    return StoredGrades(judge, rubric, code, store)


def test_the_judge_is_shown_through() -> None:
    judge = CountingJudge()
    stored = graded(judge, Store(Path("unused")))
    assert (stored.name, stored.note, stored.criteria) == ("counting", "a double", ("length",))


def test_grades_come_back_as_given_and_are_not_asked_again(store: Store) -> None:
    judge = CountingJudge()
    first = graded(judge, store).grade(ITEMS)
    assert first == [judge._grade(item) for item in ITEMS]
    again = CountingJudge()
    assert graded(again, store).grade(ITEMS) == first
    assert again.asked in ([], [[]])


def test_only_what_is_new_is_asked(store: Store) -> None:
    judge = CountingJudge()
    grader = graded(judge, store)
    grader.grade(ITEMS[:1])
    new = JudgeItem("d", "Why?", "that", "xxxx")
    grades = grader.grade([ITEMS[1], ITEMS[0], new])
    assert judge.asked == [["a"], ["b", "d"]]
    assert [(grade.id, grade.score) for grade in grades] == [("b", 3.0), ("a", 1.0), ("d", 4.0)]


@pytest.mark.parametrize("change", [{"question": "How?"}, {"reference": "other"}, {"response": "xx"}])
def test_another_question_reference_or_response_is_new(store: Store, change: dict[str, str]) -> None:
    judge = CountingJudge()
    graded(judge, store).grade(ITEMS[:1])
    graded(judge, store).grade([replace(ITEMS[0], **change)])
    assert judge.asked == [["a"], ["a"]]


@pytest.mark.parametrize(
    ("name", "rubric", "code"), [("another", "r", "c"), ("counting", "r2", "c"), ("counting", "r", "c2")]
)
def test_another_judge_rubric_or_code_is_new(store: Store, name: str, rubric: str, code: str) -> None:
    graded(CountingJudge(), store).grade(ITEMS[:1])
    judge = CountingJudge(name=name)
    graded(judge, store, rubric=rubric, code=code).grade(ITEMS[:1])
    assert judge.asked == [["a"]]


def test_the_same_answer_under_two_ids_is_asked_once_and_graded_twice(store: Store) -> None:
    judge = CountingJudge()
    grades = graded(judge, store).grade([ITEMS[0], replace(ITEMS[0], id="twin")])
    assert [len(ids) for ids in judge.asked] == [1]
    assert [(grade.id, grade.score) for grade in grades] == [("a", 1.0), ("twin", 1.0)]


def test_a_problem_is_reported_and_not_remembered(store: Store) -> None:
    judge = CountingJudge()
    empty = JudgeItem("e", "What?", "this", "")
    (grade,) = graded(judge, store).grade([empty])
    assert (grade.score, grade.problem) == (None, "the response is empty")
    graded(judge, store).grade([ITEMS[0], empty])
    graded(judge, store).grade([ITEMS[0], empty])
    assert judge.asked == [["e"], ["a", "e"], ["e"]]
