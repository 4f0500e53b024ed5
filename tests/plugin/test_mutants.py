"""`pytest suites/` over what must not pass: exit status, reason, and the verdict in the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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

def test_accuracy(classification, gate):
    gate(classification.accuracy, at_least={bar}, n=24)
    gate(classification.accuracy, compared_with="base", max_drop=0.99)

def test_facts(capability, gate):
    for task in capability("facts"):
        gate(task.accuracy, at_least=0.0)
"""


@pytest.fixture
def project(pytester: pytest.Pytester, tiny_model: Path, trained_store: Path) -> Path:
    """A project with a sound adapter whose suite passes."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    root = tiny.save_project(pytester.path, tiny_model, suite=SUITE.format(bar="0.0"))
    shutil.copytree(trained_store / "adapters", root / ".harness" / "adapters")
    return root


def report_of(project: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((project / "reports" / "latest" / "report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    return report


def test_the_suite_passes_with_a_sound_adapter(project: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    report = report_of(project)
    assert report["outcome"] == "pass"
    assert [check["passed"] for check in report["recipes"][0]["integrity"]] == [True] * 8
    result.stdout.no_fnmatch_line("*integrity of the adapter*")  # the terminal has it only where a check failed
    folder = project / "reports" / "latest"
    assert "- ✅ Integrity of the adapter: all 8 checks passed" in (folder / "summary.md").read_text()
    assert "All 8 checks passed before anything was measured" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("mutant", "reason"),
    [
        (mutants.zero, "all 14 B matrices are zero, so the adapter is one before training and equals its base"),
        (mutants.not_a_number, "1 of 28 tensors hold values that are not finite"),
        (mutants.other_keys, "does not fit the model: 28 keys missing, 28 unknown"),
        (mutants.mute, "switching the adapter on changes no logit on 4 test examples"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_an_unsound_adapter_fails_every_test_with_its_reason(
    project: Path, pytester: pytest.Pytester, mutant: Callable[[Path], None], reason: str
) -> None:
    mutant(mutants.adapter_folder(project))
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    result.assert_outcomes(failed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            f"INCOMPLETE  classification.accuracy: * Not decided: the adapter is not sound: *{reason}*",
            f"animals: integrity of the adapter: * of * checks failed: *{reason}*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    report = report_of(project)
    assert report["outcome"] == "incomplete"
    gates = report["recipes"][0]["gates"]
    assert [gate["outcome"] for gate in gates] == ["incomplete"] * 3
    assert all(reason in gate["reason"] for gate in gates)


def test_half_a_test_set_fails(project: Path, pytester: pytest.Pytester) -> None:
    mutants.halve_test_set(project)
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["INCOMPLETE *the gate declares n=24 and the test set has 12 examples*"])
    assert report_of(project)["outcome"] == "incomplete"


def test_a_threshold_that_is_no_number_fails(project: Path, pytester: pytest.Pytester) -> None:
    (project / "suites" / "test_animals.py").write_text(SUITE.format(bar="float('nan')"))
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*classification.accuracy: at_least must be a finite number, got nan*"])
    assert report_of(project)["outcome"] == "incomplete"


SKIPS = {
    "marked": SUITE.format(bar="0.0").replace(
        'pytest.mark.recipes("animals")', '[pytest.mark.recipes("animals"), pytest.mark.skip(reason="later")]'
    ),
    "in_the_test": SUITE.format(bar="0.0")
    .replace("    gate(", "    pytest.skip('later')\n    gate(", 1)
    .replace("    for task", "    pytest.skip('later')\n    for task"),
}


@pytest.mark.parametrize("way", SKIPS)
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["here", "worker"])
def test_a_suite_that_skips_everything_fails(
    project: Path, pytester: pytest.Pytester, way: str, workers: tuple[str, ...]
) -> None:
    """To pytest alone that is exit status 0."""
    (project / "suites" / "test_animals.py").write_text(SKIPS[way])
    run = pytester.runpytest_subprocess if workers else pytester.runpytest_inprocess
    result = run("suites", "--harness-no-train", *workers)
    result.assert_outcomes(skipped=2)
    assert result.ret == 1
    said = "animals: all 2 of its tests were skipped, so nothing says that it is good enough."
    result.stdout.fnmatch_lines([said])
    report = report_of(project)
    assert report["outcome"] == "incomplete"
    assert report["problems"] == [said]


def test_a_recipe_of_which_one_test_ran_is_judged_by_it(project: Path, pytester: pytest.Pytester) -> None:
    """The recipe is incomplete, as with tests that were deselected; the exit status stays pytest's."""
    text = SUITE.format(bar="0.0").replace("def test_facts", "@pytest.mark.skip(reason='later')\ndef test_facts")
    (project / "suites" / "test_animals.py").write_text(text)
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0
    report = report_of(project)
    assert report["outcome"] == "incomplete"
    assert report["recipes"][0]["problem"] == "1 of its tests were skipped; run them all for a verdict."
