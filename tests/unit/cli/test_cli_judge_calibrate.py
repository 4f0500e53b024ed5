"""`harness judge calibrate`: the table, the exit code, and what is wrong said in a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.judging import Answer, Grade
from harness.pipeline import calibrating

RUBRIC = """\
name: support
task: Answers to customers.
criteria:
  - {name: correctness, weight: 1, anchors: {1: a, 2: b, 3: c, 4: d, 5: e}}
"""


class FirstWord:
    """Gives the grade that the answer begins with; counts the answers that it was asked."""

    name = "first word"
    note = ""
    criteria = ("correctness",)
    deterministic = True
    asked = 0

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        FirstWord.asked += len(items)
        return [self._grade(item) for item in items]

    def _grade(self, item: Answer) -> Grade:
        grade = float(item.response.split()[0])
        return Grade(item.id, grade, {"correctness": grade})


@pytest.fixture
def calibrated(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[int]], None]:
    """calibrated(grades): a rubric and 25 answers, with the judge's grade the same as people's but for `grades`."""
    monkeypatch.setattr(calibrating, "configured_judges", lambda *_, **__: (FirstWord(),))
    monkeypatch.setattr(FirstWord, "asked", 0)
    for folder in ("rubrics", "calibration"):
        (project / "fixtures" / folder).mkdir()
    (project / "fixtures" / "rubrics" / "support.yaml").write_text(RUBRIC)

    def write(said: Sequence[int]) -> None:
        rows = []
        for k in range(25):
            human = 1 + k % 5
            grade = said[k] if k < len(said) else human
            more = " word" * (1 + 3 * k % 7)
            rows.append(
                {"id": f"s{k}", "question": f"{k}?", "response": f"{grade}{more}", "human": {"correctness": human}}
            )
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (project / "fixtures" / "calibration" / "support.jsonl").write_text(text)

    return write


Harness = Callable[..., Any]


def test_a_fit_judge(calibrated: Callable[[Sequence[int]], None], harness: Harness) -> None:
    calibrated([])
    result = harness("judge", "calibrate")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "first word by the rubric support, 25 answers graded by people: fit"
    assert "  weighted kappa (min_kappa 0.4)               1.00 [1.00, 1.00]" in lines
    assert "  mean grade, people and judge                 3.00, 3.00" in lines
    assert lines[-1] == "    5    0    0    0    0    5"
    assert FirstWord.asked == 25
    assert harness("judge", "calibrate", "support").out == result.out
    assert FirstWord.asked == 25, "grades come from the store"


def test_an_unfit_judge_ends_with_1_and_its_figures(
    calibrated: Callable[[Sequence[int]], None], harness: Harness
) -> None:
    calibrated([5, 4, 3, 2, 1] * 5)
    result = harness("judge", "calibrate", "support")
    assert result.code == 1
    assert result.err == (
        "error: support: judge not fit for this rubric: first word agrees with people's grades of 25 answers at a "
        "weighted kappa of -1.00 [-1.00, -1.00], and support asks for 0.4\n"
    )
    assert result.out.startswith("first word by the rubric support, 25 answers graded by people: not fit\n")


def test_json(calibrated: Callable[[Sequence[int]], None], harness: Harness) -> None:
    calibrated([3, 3])
    code, out, _ = harness("judge", "calibrate", "--json")
    (known,) = json.loads(out)["judges"]
    assert code == 0
    assert known["fit"] is True
    assert known["kappa"]["low"] < known["kappa"]["value"] < known["kappa"]["high"] <= 1
    assert known["by_criterion"]["correctness"] == known["kappa"]
    assert sum(map(sum, known["confusion_matrix"]["counts"])) == 25


def test_a_set_that_cannot_be_used(
    calibrated: Callable[[Sequence[int]], None], harness: Harness, project: Path
) -> None:
    calibrated([])
    (project / "fixtures" / "calibration" / "support.jsonl").write_text('{"id": 1}\n')
    code, out, err = harness("judge", "calibrate")
    assert (code, out) == (1, "")
    assert err.endswith("support.jsonl:1: id must be a text, got 1\n")
    assert err.count("\n") == 1


def test_what_is_not_there_is_a_wrong_call(
    calibrated: Callable[[Sequence[int]], None], harness: Harness, project: Path
) -> None:
    calibrated([])
    code, _, err = harness("judge", "calibrate", "suport")
    assert (code, err) == (2, "error: there is no rubric 'suport' in fixtures/rubrics; it has: support\n")
    (project / "fixtures" / "calibration" / "support.jsonl").unlink()
    for name, asked in (("support", ["support"]), ("RUBRIC", [])):
        code, _, err = harness("judge", "calibrate", *asked)
        assert code == 2
        assert err == (
            f"error: there is no fixtures/calibration/{name}.jsonl; write answers with grades by people into it "
            "(docs/calibration.md)\n"
        )
