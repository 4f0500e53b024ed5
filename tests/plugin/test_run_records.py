"""Every run is recorded in the store, with the scores that its gates were decided on. Nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny

from harness.report import read_report
from harness.store import list_runs, read_run

SUITE = """\
import pytest
from harness.measures import Measure
from harness.records import Scores

pytestmark = pytest.mark.recipes("animals", "beasts")

def measure(name, right, n=20):
    def compute(view):
        count = n if view == "prompted_base" else right
        values = tuple(float(k < count) for k in range(n))
        return Scores(name, view, tuple(map(str, range(n))), values, n)
    return Measure(name, compute)

# An adapter would have to be loaded for its integrity; the views of the base are only asked what the measure knows.
def test_own(gate):
    gate(measure("own.good", 19), view="base", at_least=0.8)
    gate(measure("own.same", 19), view="base", compared_with="prompted_base", max_drop=0.9)

def test_again(gate):
    gate(measure("own.good", 19), view="prompted_base", at_least=0.8)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    model = pytester.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    root = tiny.save_project(pytester.path, model, suite=SUITE)
    recipe = root / "fixtures" / "recipes" / "animals.yaml"
    recipe.with_name("beasts.yaml").write_text(recipe.read_text().replace("name: animals", "name: beasts"))
    return root


@pytest.mark.parametrize("options", [[], ["-n", "2"], ["-n", "2", "--dist", "loadfile"]], ids=" ".join)
def test_a_run_is_recorded_with_its_scores(project: Path, pytester: pytest.Pytester, options: list[str]) -> None:
    result = pytester.runpytest_subprocess("suites", *options, timeout=120)
    result.stdout.no_fnmatch_line("*not in the history*")
    (run_id,) = list_runs(project / ".harness")
    run = read_run(project / ".harness", run_id)
    assert run.report_text == (project / "reports" / "latest" / "report.json").read_text()
    assert run.run_id == read_report(run.report_text).run_id
    for recipe in ("animals", "beasts"):
        found = {(one.measure, one.view): sum(one.values) for one in run.scores[recipe]}
        assert found == {
            ("own.good", "base"): 19,
            ("own.good", "prompted_base"): 20,
            ("own.same", "base"): 19,
            ("own.same", "prompted_base"): 20,
        }


def test_a_failed_run_is_recorded_too(project: Path, pytester: pytest.Pytester) -> None:
    suite = project / "suites" / "test_animals.py"
    suite.write_text(SUITE.replace("at_least=0.8)", "at_least=0.99)", 1))
    pytester.runpytest_inprocess("suites").assert_outcomes(passed=2, failed=2)
    run = read_run(project / ".harness", "latest")
    assert json.loads(run.report_text)["outcome"] == "fail"
    assert run.scores["animals"]


def test_a_store_that_cannot_be_written_is_a_warning_and_the_report_is_kept(
    project: Path, pytester: pytest.Pytester
) -> None:
    store = project / ".harness"
    store.mkdir(exist_ok=True)
    (store / "runs").write_text("in the way")
    result = pytester.runpytest_inprocess("suites")
    result.stdout.fnmatch_lines(
        ["This run is not in the history and cannot be promoted. *: the run cannot be recorded (*). Make the store *"]
    )
    assert json.loads((project / "reports" / "latest" / "report.json").read_text())["outcome"] == "pass"
    assert result.ret == 0


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=" ".join)
def test_scores_that_cannot_be_recorded_cost_no_verdict(
    project: Path, pytester: pytest.Pytester, options: list[str]
) -> None:
    suite = project / "suites" / "test_animals.py"
    suite.write_text(SUITE.replace("tuple(map(str, range(n)))", "tuple(str(k).encode() for k in range(n))"))
    result = pytester.runpytest_subprocess("suites", *options, timeout=120)
    result.stdout.fnmatch_lines(["This run is not in the history *scores cannot be written as JSON *plain numbers"])
    assert json.loads((project / "reports" / "latest" / "report.json").read_text())["outcome"] == "pass"
    assert result.ret == 0
    assert list_runs(project / ".harness") == ()


def test_a_report_that_cannot_be_written_does_not_cost_the_record(project: Path, pytester: pytest.Pytester) -> None:
    (project / "reports").write_text("in the way")
    result = pytester.runpytest_inprocess("suites")
    assert result.ret != 0
    assert read_run(project / ".harness", "latest").scores["animals"]


@pytest.mark.parametrize("option", ["--collect-only", "--harness-plan=plan.json"])
def test_what_decides_nothing_is_not_recorded(project: Path, pytester: pytest.Pytester, option: str) -> None:
    shutil.rmtree(project / ".harness", ignore_errors=True)
    pytester.runpytest_inprocess("suites", option)
    assert list_runs(project / ".harness") == ()
