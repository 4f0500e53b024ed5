"""A judge is measured against people before its grades decide anything, and asked again where it can change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.judging import Answer, Grade
from harness.pipeline import Places, Session, calibrating
from harness.pipeline.calibrating import JudgeCheck, check_of
from harness.records import Outcome, Outputs, RecipeResult, Verdict
from harness.report import read_report, report_html, report_json, summary_md
from harness.store import Store

RUBRIC = """\
name: animals
task: Says what it is.
criteria:
  - {name: correctness, weight: 1, anchors: {1: a, 2: b, 3: c, 4: d, 5: e}}
"""


@dataclass
class NumberJudge:
    """Gives the grade that stands in the response, moved by `more`; keeps the ids that it was asked."""

    name: str = "numbers"
    note: str = "a double"
    criteria: tuple[str, ...] = ("correctness",)
    deterministic: bool = False
    more: Callable[[int], float] = lambda grade: 0.0
    refuses: str = ""
    asked: list[list[str]] = field(default_factory=list)

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        if items:
            self.asked.append([item.id for item in items])
        return [self._grade(item) for item in items]

    def _grade(self, item: Answer) -> Grade:
        if item.id == self.refuses:
            return Grade(item.id, None, problem="the judge refused to grade it")
        said = int(item.response.split()[-1])
        grade = min(5.0, max(1.0, said + self.more(said)))
        return Grade(item.id, grade, {"correctness": grade})


@pytest.fixture
def rubrics(project: Path) -> Path:
    """A rubric, and 40 answers in which the number is the grade that people gave."""
    folder = project / "fixtures" / "rubrics"
    folder.mkdir()
    (folder / "animals.yaml").write_text(RUBRIC)
    (project / "fixtures" / "calibration").mkdir()
    write_set(folder, 40)
    return folder


def write_set(rubrics: Path, n: int) -> None:
    rows = [
        {
            "id": f"c{k}",
            "question": f"{k}?",
            "reference": "r",
            "response": f"{k}: {1 + k % 5}",
            "human": {"correctness": 1 + k % 5},
        }
        for k in range(n)
    ]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (rubrics.parent / "calibration" / "animals.jsonl").write_text(text)


def check(judge: NumberJudge, rubrics: Path, monkeypatch: pytest.MonkeyPatch) -> JudgeCheck:
    monkeypatch.setattr(calibrating, "configured_judges", lambda *_, **__: (judge,))
    return check_of("animals", rubrics, store=Store(rubrics.parent / "store"), environ={})


def wrong(grade: int) -> float:
    """Says 6 less the grade: as far from people as can be."""
    return 6 - 2 * grade


def test_a_fit_judge_is_asked_once_and_its_agreement_noted(rubrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = NumberJudge(deterministic=True)
    first = check(judge, rubrics, monkeypatch)
    assert judge.asked == []
    assert (first.problem(), first.problem()) == (None, None)
    assert first.grades.note == "a double; weighted kappa 1.00 [1.00, 1.00] with people on 40 graded answers"
    assert first.facts()["kappa"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    again = check(NumberJudge(deterministic=True), rubrics, monkeypatch)
    assert again.problem() is None
    assert again.drift is None
    assert [len(ids) for ids in judge.asked] == [40]


def test_only_new_answers_of_a_set_are_graded(rubrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(NumberJudge(deterministic=True), rubrics, monkeypatch).problem()
    write_set(rubrics, 42)
    judge = NumberJudge(deterministic=True)
    assert check(judge, rubrics, monkeypatch).problem() is None
    assert judge.asked == [["c40", "c41"]]


@pytest.mark.parametrize(
    "change", [lambda path: path.write_text(RUBRIC.replace("1: a", "1: wrong")), lambda path: None]
)
def test_another_rubric_or_judge_is_calibrated_anew(
    rubrics: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    check(NumberJudge(), rubrics, monkeypatch).problem()
    before = (rubrics / "animals.yaml").read_text()
    change(rubrics / "animals.yaml")
    changed = (rubrics / "animals.yaml").read_text() != before
    judge = NumberJudge() if changed else NumberJudge(name="other numbers")
    assert check(judge, rubrics, monkeypatch).problem() is None
    assert [len(ids) for ids in judge.asked] == [40]


def test_a_judge_that_does_not_agree_with_people_is_not_fit(rubrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check(NumberJudge(more=wrong), rubrics, monkeypatch)
    # 8 of each grade: squared distances 16, 4, 0, 4, 16, mean 8; by chance 2 + 2: 1 - 8 / 4.
    assert found.problem() == (
        "judge not fit for this rubric: numbers agrees with people's grades of 40 answers at a weighted kappa of -1.00 "
        "[-1.00, -1.00], and animals asks for 0.4"
    )
    assert found.facts()["fit"] is False
    assert found.facts()["problem"] == found.problem()


def test_a_judge_behind_an_api_is_asked_the_anchors_in_every_run(
    rubrics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = NumberJudge()
    assert check(judge, rubrics, monkeypatch).problem() is None
    later = check(judge, rubrics, monkeypatch)
    assert later.problem() is None
    assert [len(ids) for ids in judge.asked] == [40, 20]
    assert later.drift is not None
    assert not later.drift.found
    # Each grade of people four times among the anchors.
    assert sorted(int(name[1:]) % 5 for name in judge.asked[1]) == [g for g in range(5) for _ in range(4)]


def test_a_judge_that_became_stricter_has_drifted(rubrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(NumberJudge(), rubrics, monkeypatch).problem()
    found = check(NumberJudge(more=lambda grade: -1.0), rubrics, monkeypatch)
    problem = found.problem()
    # One grade less but for people's 4 answers of grade 1: 16 of 20.
    assert problem is not None
    assert problem.startswith(
        "judge drift: asked the same 20 graded answers again, numbers grades them -0.80 (p=0.0002) and +0.80 farther"
    )
    assert "Remove grades.sqlite from the store" in problem
    assert found.facts()["drift"]["found"] is True


def test_what_cannot_be_graded_keeps_the_judge_from_deciding(rubrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = check(NumberJudge(refuses="c7"), rubrics, monkeypatch)
    assert refusing.problem() == (
        "the judge cannot be calibrated: 1 of 40 graded answers of the calibration set have no grade by numbers, "
        "first c7: the judge refused to grade it"
    )
    assert refusing.facts()["calibrated"] is False
    file = rubrics.parent / "calibration" / "animals.jsonl"
    file.write_text(re.sub(r'"question": "\d+\?"', '"question": "?"', file.read_text()))
    assert check(NumberJudge(), rubrics, monkeypatch).problem() == (
        "the judge cannot be calibrated: agreement needs answers to at least two questions for an interval"
    )
    file.write_text("{}\n")
    broken = check(NumberJudge(), rubrics, monkeypatch).problem()
    assert broken is not None
    assert "animals.jsonl:1: id is missing" in broken


def test_without_a_set_everything_says_so(rubrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rubrics.parent / "calibration" / "animals.jsonl").unlink()
    judge = NumberJudge()
    found = check(judge, rubrics, monkeypatch)
    assert found.problem() is None
    assert judge.asked == []
    assert found.grades.note == "a double; not calibrated against grades by people"
    assert found.facts() == {
        "judge": "numbers",
        "rubric": "animals",
        "rubric_digest": found.rubric.digest,
        "min_kappa": 0.4,
        "calibrated": False,
        "problem": None,
        "drift": None,
    }


def gated(project: Path, judge: NumberJudge, monkeypatch: pytest.MonkeyPatch) -> tuple[Verdict, RecipeResult, Session]:
    """A gate on the base's judged answers, which all are "x 4"."""
    monkeypatch.setattr(calibrating, "configured_judges", lambda *_, **__: (judge,))
    session = Session(Places.below(project), environ={}, allow_training=False)
    run = session.open("animals")
    ids = tuple(example.id for example in run.splits.test)
    answers = tuple(f"{name} {3 + k % 2}" for k, name in enumerate(ids))
    run.outputs["base"] = Outputs("base", ids, answers)
    verdict = session.gate("animals", run.judge().score, test="t", view="base", at_least=3.0)
    return verdict, session.finish().recipes[0], session


def test_a_gate_by_an_unfit_judge_is_incomplete_and_nothing_is_graded_for_it(
    project: Path, rubrics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = NumberJudge(more=wrong)
    verdict, recipe, session = gated(project, judge, monkeypatch)
    assert verdict.outcome is Outcome.INCOMPLETE
    assert verdict.reason.startswith("Not decided: judge not fit for this rubric: numbers agrees")
    assert [len(ids) for ids in judge.asked] == [40], "the test answers were not graded"
    (slices,) = session.gate_slices(
        "animals", session.open("animals").judge().score, test="t", view="base", slices="half", at_least=3.0
    )
    assert (slices.outcome, slices.reason) == (Outcome.INCOMPLETE, verdict.reason)
    assert recipe.calibration["fit"] is False
    assert recipe.calibration["kappa"]["value"] == pytest.approx(-1.0)


def test_a_fit_judge_decides_and_the_report_says_how_fit(
    project: Path, rubrics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict, _, session = gated(project, NumberJudge(), monkeypatch)
    assert (verdict.outcome, verdict.value) == (Outcome.PASS, 3.5)
    assert "weighted kappa 1.00 [1.00, 1.00] with people on 40 graded answers" in verdict.note
    run = session.finish()
    assert read_report(report_json(run)).recipes[0].calibration["confusion_matrix"]["counts"][4] == [0, 0, 0, 0, 8]
    said = "numbers agrees with people's grades of 40 answers at a weighted kappa of 1.00 [1.00, 1.00]"
    page = report_html(run).replace("&#39;", "'")
    assert said in page
    assert "Weighted kappa of correctness" in page
    assert f"- ✅ Judge: {said.replace('[', chr(92) + '[').replace(']', chr(92) + ']')}" in summary_md(run)


def test_human_grades_of_the_answers_correct_the_gate(
    project: Path, rubrics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # People give every answer one grade less than the number in it, but for the first ones.
    (project / "fixtures" / "human").mkdir()
    ids = [f"test-{k}" for k in range(24)]
    rows = [
        {"id": name, "response": f"{name} {3 + k % 2}", "human": {"correctness": 2 + k % 2 - (k % 3 == 0)}}
        for k, name in enumerate(ids[:22])
    ]
    (project / "fixtures" / "human" / "animals.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    verdict, recipe, _ = gated(project, NumberJudge(), monkeypatch)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.value is not None
    assert verdict.value < 2.5
    assert "corrected by 22 grades by people, the judge alone says 3.500 [" in verdict.note
    assert verdict.method.startswith(("PPI++ with 22 human grades", "human grades alone (22 of 24)"))
    (measure,) = recipe.measures
    assert measure.value == verdict.value
    assert measure.details["judge_alone"]["value"] == 3.5
    assert measure.details["human_grades"] == 22


def test_a_few_human_grades_are_noted_and_correct_nothing(
    project: Path, rubrics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "fixtures" / "human").mkdir()
    row = {"id": "test-0", "response": "test-0 3", "human": {"correctness": 1}}
    (project / "fixtures" / "human" / "animals.jsonl").write_text(json.dumps(row))
    verdict, recipe, _ = gated(project, NumberJudge(), monkeypatch)
    assert (verdict.outcome, verdict.value) == (Outcome.PASS, 3.5)
    assert verdict.note.endswith("; too few grades by people to correct the judge")
    assert "judge_alone" not in recipe.measures[0].details
