from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import RubricError
from harness.judging import Rubric, load_rubric

ANCHORS = "{1: wrong, 2: poor, 3: fair, 4: good, 5: right}"
GOOD = f"""\
name: answers
task: Answers to questions.
criteria:
  - {{name: correctness, weight: 2, anchors: {ANCHORS}}}
  - {{name: brevity, weight: 0.5, anchors: {ANCHORS}}}
"""


def load(tmp_path: Path, text: str) -> Rubric:
    path = tmp_path / "answers.yaml"
    path.write_text(text, encoding="utf-8")
    return load_rubric(path)


def problems(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(RubricError) as caught:
        load(tmp_path, text)
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def test_reads_a_rubric(tmp_path: Path) -> None:
    rubric = load(tmp_path, GOOD)
    assert rubric.name == "answers"
    assert rubric.show_reference is True
    assert [(c.name, c.weight) for c in rubric.criteria] == [("correctness", 2.0), ("brevity", 0.5)]
    assert rubric.criteria[0].anchors[4] == "good"


def test_criteria_may_be_a_mapping_and_mean_the_same(tmp_path: Path) -> None:
    mapping = GOOD.replace("  - {name: correctness, ", "  correctness: {").replace(
        "  - {name: brevity, ", "  brevity: {"
    )
    assert load(tmp_path, mapping).digest == load(tmp_path, GOOD).digest


def test_overall_is_the_mean_by_weight(tmp_path: Path) -> None:
    rubric = load(tmp_path, GOOD)
    # (2 * 5 + 0.5 * 1) / 2.5
    assert rubric.overall({"correctness": 5, "brevity": 1}) == pytest.approx(4.2)


def test_overall_stays_in_the_scale_whatever_the_rounding() -> None:
    anchors = {grade: "x" for grade in range(1, 6)}
    for weights in ((0.1, 0.2, 0.3), (0.1, 0.7, 0.2), (0.3, 0.3, 0.3), (1e-3, 1e3, 7.7)):
        criteria = [{"name": f"c{k}", "weight": w, "anchors": anchors} for k, w in enumerate(weights)]
        rubric = Rubric.model_validate({"name": "r", "task": "t", "criteria": criteria})
        for grade in (1, 5):
            assert rubric.overall({c.name: grade for c in rubric.criteria}) == grade


def test_the_digest_follows_what_the_rubric_says(tmp_path: Path) -> None:
    digest = load(tmp_path, GOOD).digest
    assert load(tmp_path, "# a comment\n" + GOOD).digest == digest
    assert load(tmp_path, GOOD.replace("weight: 2", "weight: 3")).digest != digest
    assert load(tmp_path, GOOD.replace("3: fair", "3: middling", 1)).digest != digest
    assert load(tmp_path, GOOD + "show_reference: false\n").digest != digest
    assert len(digest) == 64


def test_all_problems_of_a_file_at_once(tmp_path: Path) -> None:
    text = """\
name: answers
tsak: Answers.
criteria:
  - {name: correctness, weight: -1, anchors: {1: a, 2: b, 3: c, 4: d}}
  - {name: Brevity!, weight: .nan, anchors: {1: a, 2: b, 3: c, 4: d, 5: ""}, wieght: 2}
"""
    assert problems(tmp_path, text) == (
        "answers.yaml: task is missing",
        "answers.yaml: criteria.0.weight should be greater than 0, got -1",
        "answers.yaml: criteria.0.anchors must describe the grades 1 to 5, found 1, 2, 3, 4",
        "answers.yaml: criteria.1.name should match pattern '^[a-z0-9_]+$', got 'Brevity!'",
        "answers.yaml: criteria.1.weight should be a finite number, got nan",
        "answers.yaml: criteria.1.anchors.5 should have at least 1 character, got ''",
        "answers.yaml: criteria.1.wieght is not a key of a rubric; did you mean weight?",
        "answers.yaml: tsak is not a key of a rubric; did you mean task?",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "name: other\n", "the key 'name' is given twice"),
        (GOOD.replace("1: wrong", "1: wrong, 1: bad", 1), "the key 1 is given twice"),
        (
            GOOD.replace(ANCHORS, "&a " + ANCHORS, 1).replace(f"anchors: {ANCHORS}", "anchors: *a"),
            "aliases are",
        ),
        ("name: !!python/object:os.system x\n", "could not determine a constructor"),
        ("[" * 5000, "nested too deeply"),
        ("name: [\n", "expected the node content"),
        ("", "must be a mapping with the keys name, task, show_reference, min_kappa, criteria"),
        ("- a\n", "must be a mapping with the keys"),
        (GOOD.replace("name: answers", "name: other"), "name must be 'answers' like the file, got 'other'"),
        (GOOD.replace("weight: 2", "weight: '2'"), "criteria.0.weight should be a valid number, got '2'"),
        (GOOD.replace("brevity", "correctness"), "criteria must differ in name, found twice: correctness"),
        (GOOD + "min_kappa: 1.5\n", "min_kappa should be less than or equal to 1, got 1.5"),
        (GOOD + "min_kappa: high\n", "min_kappa should be a valid number, got 'high'"),
        (GOOD + "min_kapa: 0.5\n", "min_kapa is not a key of a rubric; did you mean min_kappa?"),
        ("name: answers\ntask: t\ncriteria: []\n", "criteria must have at least one"),
        ("name: answers\ntask: 2020-13-45\n", "month must be in 1..12"),
    ],
)
def test_one_line_for_what_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    assert any(said in problem for problem in problems(tmp_path, text))


def test_a_missing_file_says_where_rubrics_live(tmp_path: Path) -> None:
    with pytest.raises(RubricError, match="no such file; a rubric is a YAML file in fixtures/rubrics/"):
        load_rubric(tmp_path / "none.yaml")


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "answers.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(RubricError, match="cannot be read"):
        load_rubric(path)


def test_the_shipped_rubrics_can_be_used() -> None:
    folder = Path(__file__).parents[3] / "fixtures" / "rubrics"
    rubrics = [load_rubric(path) for path in sorted(folder.glob("*.yaml"))]
    assert [rubric.name for rubric in rubrics] == ["postgres_assistant"]
