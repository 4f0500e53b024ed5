"""Calibration sets and human grades: what is read, what is refused, and what is measured on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import DataError, JudgeError
from harness.judging import Grade, Rubric
from harness.judging.calibration import (
    GradedAnswer,
    anchors,
    calibrate,
    drift,
    load_calibration,
    load_human_grades,
)

ANCHORS = {grade: f"like {grade}" for grade in range(1, 6)}
RUBRIC = Rubric.model_validate(
    {
        "name": "answers",
        "task": "t",
        "criteria": [
            {"name": "correctness", "weight": 3.0, "anchors": ANCHORS},
            {"name": "brevity", "weight": 1.0, "anchors": ANCHORS},
        ],
    }
)


def row(k: int, **changes: Any) -> dict[str, Any]:
    known = {
        "id": f"a{k}",
        "question": f"Question {k // 2}?",
        "reference": "yes",
        "response": f"answer {k}",
        "human": {"correctness": 1 + k % 5, "brevity": 5},
        "note": "",
    }
    return {**known, **changes}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in rows))
    return path


def answers(n: int = 60) -> tuple[GradedAnswer, ...]:
    return tuple(GradedAnswer(**row(k)) for k in range(n))


def graded(answers: tuple[GradedAnswer, ...], off: Callable[[int], float] = lambda k: 0.0) -> list[Grade]:
    """A judge's grades: people's, and `off` more for the k-th correctness."""
    found = []
    for k, answer in enumerate(answers):
        criteria = {
            "correctness": float(np.clip(answer.human["correctness"] + off(k), 1, 5)),
            "brevity": float(answer.human["brevity"]),
        }
        found.append(Grade(answer.id, RUBRIC.overall(criteria), criteria))
    return found


def test_a_set_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "answers.jsonl", [row(k) for k in range(20)])
    found = load_calibration(path, RUBRIC)
    assert len(found) == 20
    assert found[3] == GradedAnswer("a3", "Question 1?", "yes", "answer 3", {"correctness": 4, "brevity": 5})


WRONG = [
    ("not JSON", ":1: not a line of JSON; write one object a line"),
    ("[1]", ":1: must be an object with the keys id, question, reference, response, human, note"),
    (row(0, answer="x"), ":1: unknown key 'answer'; known are id, question"),
    ({k: v for k, v in row(0).items() if k != "response"}, ":1: response is missing"),
    (row(0, response=7), ":1: response must be a text, got 7"),
    (row(0, question=" "), ":1: question is empty"),
    (row(0, human={"correctness": 3}), ":1: human must have exactly the criteria of the rubric: correctness, brevity"),
    (row(0, human={"correctness": 3, "brevity": 2.5}), ":1: human.brevity must be a whole grade from 1 to 5, got 2.5"),
    (row(0, human={"correctness": True, "brevity": 2}), ":1: human.correctness must be a whole grade from 1 to 5"),
    (row(0, human={"correctness": 6, "brevity": 2}), ":1: human.correctness must be a whole grade from 1 to 5, got 6"),
    (row(1), "the same id twice, first at 'a1'; write each answer once"),
    (row(0, question="Question 1?", response="answer 2"), "the same question and response twice, first at 'a0'"),
]


@pytest.mark.parametrize(("first", "message"), WRONG)
def test_what_is_no_graded_answer_is_named_by_its_line(tmp_path: Path, first: Any, message: str) -> None:
    path = write(tmp_path / "answers.jsonl", [first, *(row(k) for k in range(1, 21))])
    with pytest.raises(DataError) as caught:
        load_calibration(path, RUBRIC)
    assert any(message in problem for problem in caught.value.problems)
    assert all("\n" not in problem for problem in caught.value.problems)


def test_all_problems_at_once_and_sets_that_say_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "answers.jsonl", ["{", "7", *(row(k) for k in range(30))])
    with pytest.raises(DataError) as caught:
        load_calibration(path, RUBRIC)
    assert len(caught.value.problems) == 2
    for rows, message in (
        ([row(k) for k in range(19)], "19 graded answers say too little on agreement; 20 are needed"),
        (
            [row(k, human={"correctness": 3, "brevity": 3}) for k in range(20)],
            "all answers have the same overall grade",
        ),
    ):
        with pytest.raises(DataError, match=message):
            load_calibration(write(path, rows), RUBRIC)
    with pytest.raises(DataError, match="cannot be read"):
        load_calibration(tmp_path / "absent.jsonl", RUBRIC)


def test_a_judge_that_says_what_people_say_is_fit() -> None:
    found = calibrate(answers(), graded(answers()), RUBRIC, judge="j")
    assert found.kappa.value == 1.0
    assert found.fit
    # brevity is 5 throughout: no agreement is defined.
    assert found.by_criterion["correctness"] is not None
    assert found.by_criterion["brevity"] is None
    # Overall (3 c + 5) / 4: 2, 2.75, 3.5, 4.25, 5 for correctness 1 to 5, rounded 2, 3, 4, 4, 5; 12 answers each.
    assert found.counts == ((0,) * 5, (0, 12, 0, 0, 0), (0, 0, 12, 0, 0), (0, 0, 0, 24, 0), (0, 0, 0, 0, 12))
    assert found.people == found.judged == pytest.approx(3.5)


def test_a_judge_that_grades_at_random_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(1, 6, 60)
    found = calibrate(answers(), graded(answers(), lambda k: noise[k] - (1 + k % 5)), RUBRIC, judge="j")
    assert not found.fit
    assert found.kappa.low < 0.1 < found.kappa.high
    facts = found.facts()
    json.dumps(facts, allow_nan=False)
    assert (facts["fit"], facts["min_kappa"], facts["examples"], facts["position_bias"]) == (False, 0.4, 60, None)


def test_the_rubric_says_how_much_agreement_is_enough() -> None:
    alternating = graded(answers(), lambda k: 1.0 if k % 2 else -1.0)
    value = calibrate(answers(), alternating, RUBRIC, judge="j").kappa.value
    for bar, fit in ((value - 0.01, True), (value + 0.01, False)):
        rubric = RUBRIC.model_copy(update={"min_kappa": bar})
        assert rubric.digest == RUBRIC.digest, "another bar must not cost new grades"
        assert calibrate(answers(), alternating, rubric, judge="j").fit is fit


def test_answers_without_a_grade_are_named() -> None:
    grades = graded(answers())
    grades[7] = Grade("a7", None, problem="the judge refused to grade it")
    with pytest.raises(JudgeError, match=r"1 of 60 graded answers .* have no grade by j, first a7: the judge refused"):
        calibrate(answers(), grades, RUBRIC, judge="j")
    grades[7] = Grade("a7", 9.0)
    with pytest.raises(JudgeError, match="first a7: the grade is 9"):
        calibrate(answers(), grades, RUBRIC, judge="j")
    with pytest.raises(JudgeError, match="for other answers than asked"):
        calibrate(answers(), graded(answers())[::-1], RUBRIC, judge="j")


def test_anchors_are_the_same_each_time_and_spread_over_the_grades() -> None:
    chosen = anchors(answers(), RUBRIC)
    assert chosen == anchors(answers()[::-1], RUBRIC)
    assert len({answer.id for answer in chosen}) == 20
    # Overall grades 2, 3, 4 and 5 occur, five of each.
    overall = Counter(int(RUBRIC.overall(answer.human) + 0.5) for answer in chosen)
    assert overall == {2: 5, 3: 5, 4: 5, 5: 5}
    assert len(anchors(answers(20), RUBRIC, 30)) == 20


def again(seed: int, spread: float, more: float = 0.0) -> bool:
    """Whether drift is found between two askings whose grades of correctness scatter by `spread`."""
    rng = np.random.default_rng(seed)
    asked = anchors(answers(), RUBRIC)
    before, now = (
        graded(asked, np.round(spread * rng.standard_normal(20) + add).tolist().__getitem__) for add in (0.0, more)
    )
    return drift(asked, before, now, RUBRIC, judge="j").found


def test_drift_is_seldom_found_where_there_is_none_and_mostly_where_there_is() -> None:
    # Two tests at 0.5 %: of 60, 0.6 are expected at most, and more than 4 once in a thousand times.
    assert sum(again(seed, 0.5) for seed in range(60)) <= 4
    # A whole grade of correctness, which weighs 3 of 4: beyond the tolerance, and seen nearly always.
    assert sum(again(seed, 0.5, more=-1.0) for seed in range(15)) >= 12


def test_drift_within_the_tolerance_is_none() -> None:
    asked = anchors(answers(), RUBRIC)
    found = drift(asked, graded(asked), graded(asked, lambda k: -0.2), RUBRIC, judge="j")
    assert found.shift_p < 0.005
    assert not found.found
    assert drift(asked, graded(asked), graded(asked), RUBRIC, judge="j").shift_p == 1.0


def test_a_judge_that_scatters_without_moving_its_mean_has_drifted() -> None:
    asked = anchors(answers(), RUBRIC)
    found = drift(asked, graded(asked), graded(asked, lambda k: 2.0 if k % 2 else -2.0), RUBRIC, judge="j")
    assert abs(found.shift) < 0.25 < found.distance
    assert found.found


def test_human_grades_belong_to_a_response(tmp_path: Path) -> None:
    path = write(
        tmp_path / "answers.jsonl",
        [
            {"id": "e1", "response": "yes", "human": {"correctness": 5, "brevity": 1}},
            {"id": "e1", "response": "no", "human": {"correctness": 1, "brevity": 5}, "note": "wrong"},
        ],
    )
    human = load_human_grades(path, RUBRIC)
    # (3 * 5 + 1) / 4
    assert human("e1", "yes") == Grade("e1", 4.0, {"correctness": 5.0, "brevity": 1.0})
    assert human("e1", "yes ") is None
    assert human("e2", "yes") is None
    assert load_human_grades(tmp_path / "absent.jsonl", RUBRIC)("e1", "yes") is None


def test_wrong_human_grades_are_refused(tmp_path: Path) -> None:
    line = {"id": "e1", "response": "yes", "human": {"correctness": 5, "brevity": 1}}
    path = write(tmp_path / "answers.jsonl", [line, line, {**line, "question": "?"}])
    with pytest.raises(DataError) as caught:
        load_human_grades(path, RUBRIC)
    assert [problem.rpartition("jsonl")[2] for problem in caught.value.problems] == [
        ":3: unknown key 'question'; known are id, response, human, note",
        ": a response to 'e1' is graded twice; keep one of the two lines",
    ]
