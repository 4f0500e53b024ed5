"""The shipped calibration set keeps what its data card promises."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from harness.judging import Rubric, load_rubric
from harness.judging.calibration import GradedAnswer, load_calibration
from harness.statistics import whole_grades

FIXTURES = Path(__file__).parents[2] / "fixtures"
FILE = FIXTURES / "calibration" / "postgres_assistant.jsonl"
CARD = (FIXTURES / "calibration" / "README.md").read_text(encoding="utf-8")
VERSION = re.compile(r"Minimum version: PostgreSQL (8\.[0-4]|9\.[0-6]|1[0-8])")


@pytest.fixture(scope="module")
def rubric() -> Rubric:
    return load_rubric(FIXTURES / "rubrics" / "postgres_assistant.yaml")


@pytest.fixture(scope="module")
def answers(rubric: Rubric) -> tuple[GradedAnswer, ...]:
    return load_calibration(FILE, rubric)


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_sixty_answers_to_thirty_questions(answers: tuple[GradedAnswer, ...]) -> None:
    assert [answer.id for answer in answers] == [f"pg-cal-{k:02d}{letter}" for k in range(1, 31) for letter in "ab"]
    assert set(Counter(answer.question for answer in answers).values()) == {2}
    assert len({(answer.question, answer.reference) for answer in answers}) == 30
    assert all(answer.note for answer in answers)


def test_every_grade_of_every_criterion_occurs_as_the_card_says(
    answers: tuple[GradedAnswer, ...], rubric: Rubric
) -> None:
    counted = {c.name: Counter(a.human[c.name] for a in answers) for c in rubric.criteria}
    counted["overall, rounded"] = Counter(whole_grades([rubric.overall(a.human) for a in answers]).tolist())
    for name, counts in counted.items():
        assert set(counts) == {1, 2, 3, 4, 5}
        assert f"| {name} | {' | '.join(str(counts[grade]) for grade in range(1, 6))} |" in CARD


def test_the_version_grades_follow_their_anchors(answers: tuple[GradedAnswer, ...]) -> None:
    for answer in answers:
        grade = answer.human["minimum_version"]
        stated = "PostgreSQL" in answer.response and re.search(r"PostgreSQL (\d+|\d\.\d)", answer.response)
        last = answer.response.rstrip().split("\n")[-1]
        on_last_line = re.fullmatch(r"Minimum version: PostgreSQL [\d.]+", last) is not None
        if grade == 1:
            assert not stated, answer.id
        elif grade == 5:
            assert on_last_line, answer.id
        elif grade == 4:
            assert stated, answer.id
            assert not on_last_line, answer.id
        else:
            assert stated, answer.id


def test_references_state_their_version(answers: tuple[GradedAnswer, ...]) -> None:
    assert all(VERSION.fullmatch(answer.reference.split("\n")[-1]) for answer in answers)


def test_nothing_of_the_data_set_is_in_it(answers: tuple[GradedAnswer, ...]) -> None:
    seen = set()
    for split in ("train", "validation", "test"):
        for line in (FIXTURES / "data" / "postgres_assistant" / f"{split}.jsonl").read_text("utf-8").splitlines():
            seen |= {words(message["content"]) for message in json.loads(line)["messages"][1:]}
    assert len(seen) > 400
    ours = {words(text) for answer in answers for text in (answer.question, answer.reference, answer.response)}
    assert not ours & seen


def test_good_and_bad_answers_are_long_and_short(answers: tuple[GradedAnswer, ...]) -> None:
    right = [a for a in answers if a.human["correctness"] == 5]
    wrong = [a for a in answers if a.human["correctness"] <= 2]
    for some in (right, wrong):
        lengths = [len(answer.response.split()) for answer in some]
        assert min(lengths) <= 20
        assert max(lengths) >= 60
