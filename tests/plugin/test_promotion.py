"""From `pytest suites/` to a promoted adapter, and the ways to a green run that must not get there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny

ROOT = Path(__file__).parents[2]

SUITE = """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_accuracy(classification, gate):
    gate(classification.accuracy, at_least={bar}, n=24)
    gate(classification.accuracy, compared_with="base", max_drop=0.99)
"""

PROMOTED = """\

def test_promoted(classification, capability, gate):
    gate(classification.accuracy, compared_with="promoted", max_drop=0.2)
    (facts,) = capability("facts")
    gate(facts.accuracy, compared_with="promoted", max_drop=0.5, decide="point")
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def project(pytester: pytest.Pytester, tiny_model: Path, trained_store: Path) -> Path:
    """A project with an adapter whose suite passes."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    root = tiny.save_project(pytester.path, tiny_model, suite=SUITE.format(bar="0.5"))
    tiny.save_learned_task(root, model=tiny_model)
    shutil.copytree(trained_store / "adapters", root / ".harness" / "adapters")
    return root


@pytest.fixture
def harness(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    from harness.cli import main

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(arguments)
        return Result(code, *capsys.readouterr())

    return run


def write_suite(project: Path, text: str) -> None:
    (project / "suites" / "test_animals.py").write_text(text, encoding="utf-8")


def report_of(project: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((project / "reports" / "latest" / "report.json").read_text())
    return report


def last_run(project: Path) -> Path:
    return max((project / ".harness" / "runs").iterdir())


def gates_of(project: Path) -> list[dict[str, Any]]:
    gates: list[dict[str, Any]] = report_of(project)["recipes"][0]["gates"]
    return gates


def test_from_a_first_promotion_to_a_comparison_with_it(
    project: Path, pytester: pytest.Pytester, harness: Callable[..., Result]
) -> None:
    write_suite(project, SUITE.format(bar="0.5") + PROMOTED)
    first = pytester.runpytest_inprocess("suites", "--harness-no-train")
    assert first.ret == 0
    first.stdout.fnmatch_lines(
        [
            "animals: Not ready, except as a first promotion: 2 of 4 gates passed, 2 are not applicable",
            "  not applicable *classification.accuracy *not measured *drop vs promoted at most 0.200",
            "*Not applicable: no adapter of animals was promoted to production yet.*",
        ]
    )
    assert report_of(project)["outcome"] == "not_applicable"
    recipe = report_of(project)["recipes"][0]
    assert recipe["tests"] == {"collected": 2, "passed": 2, "named": []}
    assert list(recipe["suites"]) == ["suites/test_animals.py"]
    summary = (project / "reports" / "latest" / "summary.md").read_text()
    assert "| ⏳ not applicable |" in summary
    assert "badge not_applicable" in (project / "reports" / "latest" / "report.html").read_text()

    refused = harness("promote", "latest", "--recipe", "animals")
    assert refused.code == 1
    assert "nothing was promoted before, so nothing was compared with; say --first if that is meant" in refused.err
    done = harness("promote", "latest", "--recipe", "animals", "--first")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("animals: production is version 1 now (the first), by run ")
    assert "the attestation is not signed" in done.out
    again = harness("promote", "latest", "--recipe", "animals")
    assert again.code == 1
    assert "not applicable, and version 1 is production by now; run the suites again to compare with it" in again.err

    # The same adapter is compared with itself: its answers are in the store, and no model is loaded.
    second = pytester.runpytest_inprocess("suites", "--harness-no-train")
    assert second.ret == 0
    second.stdout.no_fnmatch_line("*promoted scores labels*")
    assert report_of(project)["outcome"] == "pass"
    compared = [gate for gate in gates_of(project) if gate["compared_with"] == "promoted"]
    assert [gate["difference"] for gate in compared] == [0.0, 0.0]
    assert report_of(project)["recipes"][0]["promoted"]["version"] == 1
    done = harness("promote", "latest", "--recipe", "animals", "--json")
    assert (done.code, json.loads(done.out)["version"]) == (0, 2)
    shown = harness("registry", "animals").out
    assert "animals  production  version 2 since " in shown
    assert "4 of 4 gates passed" in shown
    assert harness("verify", str(project / ".harness/registry/animals/versions/2/adapter")).code == 0
    assert harness("rollback", "animals").out.startswith("animals: production is version 1 again (was version 2)")


def test_another_promoted_adapter_answers_in_place_of_the_own(
    project: Path, pytester: pytest.Pytester, harness: Callable[..., Result]
) -> None:
    """The promoted one answers as it did when it was the run's own; the new one differs by its seed."""
    write_suite(project, SUITE.format(bar="0.0"))
    assert pytester.runpytest_inprocess("suites", "--harness-no-train").ret == 0
    assert harness("promote", "latest", "--recipe", "animals", "--first").code == 0
    before = next(gate["value"] for gate in gates_of(project))
    file = project / "fixtures" / "recipes" / "animals.yaml"
    file.write_text(
        file.read_text().replace("seed: 0", "seed: 1").replace("num_train_epochs: 8", "num_train_epochs: 1")
    )
    for kept in ("results", "answers"):
        shutil.rmtree(project / ".harness" / kept)  # so that the promoted adapter is attached, not remembered
    write_suite(project, SUITE.format(bar="0.0") + PROMOTED.replace("max_drop=0.2", "max_drop=0.99"))
    result = pytester.runpytest_inprocess("suites")
    result.stdout.fnmatch_lines(["*promoted scores labels*"])
    (gate,) = [g for g in gates_of(project) if g["compared_with"] == "promoted" and "class" in g["measure"]]
    assert gate["baseline"] == before
    assert gate["value"] != before
    (measure,) = [
        m
        for m in report_of(project)["recipes"][0]["measures"]
        if m["view"] == "promoted" and m["name"] == "classification.accuracy"
    ]
    assert measure["value"] == before


def test_a_damaged_promoted_adapter_and_one_on_another_base_are_incomplete(
    project: Path, pytester: pytest.Pytester, harness: Callable[..., Result], tiny_model: Path, tmp_path: Path
) -> None:
    write_suite(project, SUITE.format(bar="0.0"))
    assert pytester.runpytest_inprocess("suites", "--harness-no-train").ret == 0
    assert harness("promote", "latest", "--recipe", "animals", "--first").code == 0
    write_suite(project, SUITE.format(bar="0.0") + PROMOTED)
    weights = project / ".harness/registry/animals/versions/1/adapter/adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["INCOMPLETE *is not what was promoted: adapter_model.safetensors has sha256*"])
    assert report_of(project)["outcome"] == "incomplete"

    weights.write_bytes(whole)
    other = shutil.copytree(tiny_model, tmp_path / "other")
    (other / "generation_config.json").write_text('{"do_sample": false}')
    recipe = project / "fixtures" / "recipes" / "animals.yaml"
    recipe.write_text(recipe.read_text().replace(str(tiny_model), str(other)))
    result = pytester.runpytest_inprocess("suites")
    result.stdout.fnmatch_lines(["INCOMPLETE *version 1, the promoted one, was trained on another base model (*)*"])


# Ways to a green run

WAYS = {
    "skip all": (
        SUITE.replace('pytest.mark.recipes("animals")', '[pytest.mark.recipes("animals"), pytest.mark.skip]'),
        (),
    ),
    "deselect": (
        SUITE + "\ndef test_bar(classification, gate):\n    gate(classification.accuracy, at_most=0.0)\n",
        ("-k", "accuracy"),
    ),
    "collect only": (SUITE, ("--collect-only",)),
    "exit in a test": (SUITE.replace("    gate(", "    import os; os._exit(0)\n    gate(", 1), ()),
    "deselect unheard": (
        SUITE + "\ndef test_bar(classification, gate):\n    gate(classification.accuracy, at_most=0.0)\n",
        (),
    ),
    "exit status": (
        SUITE.replace("at_least={bar}", "at_least=1.0, at_most=1.0, must_pass=['test-0'], view='base'"),
        (),
    ),
    "one test by name": (
        SUITE + "\ndef test_bar(classification, gate):\n    gate(classification.accuracy, at_most=0.0)\n",
        (),
    ),
}
CONFTESTS = {
    "exit status": """\
import pytest

@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    session.exitstatus = 0
""",
    "deselect unheard": """\
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "bar" not in item.name]
""",
}
REFUSED = {
    "skip all": "all 1 of its tests were skipped",
    "deselect": "1 of its tests were deselected",
    "collect only": "no run is recorded there",
    "exit in a test": "no run is recorded there",
    "deselect unheard": "1 of 2 collected tests passed",
    "exit status": "not pass",
    "one test by name": "only some tests were asked for (suites/test_animals.py::test_accuracy)",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_green_run_that_proves_nothing_is_not_promoted(
    project: Path, pytester: pytest.Pytester, harness: Callable[..., Result], way: str
) -> None:
    suite, options = WAYS[way]
    write_suite(project, suite.replace("{bar}", "0.5"))
    if way in CONFTESTS:
        (project / "conftest.py").write_text(CONFTESTS[way])
    what = "suites/test_animals.py::test_accuracy" if way == "one test by name" else "suites"
    run = pytester.runpytest_subprocess if way == "exit in a test" else pytester.runpytest_inprocess
    result = run(what, "--harness-no-train", *options)
    assert result.ret == (1 if way == "skip all" else 0)

    refused = harness("promote", "latest", "--recipe", "animals", "--first")

    assert refused.code == 1
    assert refused.out == ""
    assert REFUSED[way] in refused.err
    assert "nothing was promoted" in harness("registry").out


def test_an_edited_report_is_not_promoted(
    project: Path, pytester: pytest.Pytester, harness: Callable[..., Result]
) -> None:
    """In the reports' folder, in the record, and in the record with its digests made to fit."""
    write_suite(project, SUITE.format(bar="1.0").replace("n=24", "n=24, must_pass=['test-0'], view='base'"))
    assert pytester.runpytest_inprocess("suites", "--harness-no-train").ret == 1

    def turn(file: Path) -> None:
        report = json.loads(file.read_text())
        report["outcome"] = "pass"
        for gate in report["recipes"][0]["gates"]:
            gate.update(outcome="pass", value=1.0, low=0.9, high=1.0, must_pass_failed=[], drivers=None)
        report["recipes"][0]["tests"]["passed"] = report["recipes"][0]["tests"]["collected"]
        file.write_text(json.dumps(report))

    arguments = ("promote", "latest", "--recipe", "animals", "--first")
    turn(project / "reports" / "latest" / "report.json")
    assert "fail, not pass" in harness(*arguments).err
    record = last_run(project)
    turn(record / "report.json")
    refused = harness(*arguments)
    assert refused.code == 1
    assert "its sha256 is not that of the run's manifest, so it was changed after the run" in refused.err
    manifest = json.loads((record / "manifest.json").read_text())
    manifest["files"]["report.json"] = hashlib.sha256((record / "report.json").read_bytes()).hexdigest()
    (record / "manifest.json").write_text(json.dumps(manifest))
    refused = harness(*arguments)
    assert refused.code == 1
    assert "the report says pass with 1.000 on 24 examples, and the scores beside it fail" in refused.err
    assert "nothing was promoted" in harness("registry").out


def test_tests_of_several_processes_are_counted_together(
    project: Path, pytester: pytest.Pytester, harness: Callable[..., Result]
) -> None:
    write_suite(
        project,
        SUITE.format(bar="0.5")
        + "\ndef test_more(classification, gate):\n    gate(classification.accuracy, at_least=0.1)\n",
    )
    (project / "suites" / "conftest.py").write_text("")
    assert pytester.runpytest_subprocess("suites", "--harness-no-train", "-n", "2").ret == 0
    recipe = report_of(project)["recipes"][0]
    assert recipe["tests"] == {"collected": 2, "passed": 2, "named": []}
    assert list(recipe["suites"]) == ["suites/conftest.py", "suites/test_animals.py"]
    assert harness("promote", "latest", "--recipe", "animals", "--first").code == 0
    (project / "suites" / "conftest.py").write_text("# other")
    refused = harness("promote", "latest", "--recipe", "animals")
    assert "suites/conftest.py was changed after the run; run the suites again" in refused.err


def test_tests_that_are_run_by_name_alone_are_not_missed(project: Path, pytester: pytest.Pytester) -> None:
    """They belong to a recipe that was not asked for."""
    more = """
@pytest.mark.recipes("animals", only_when_named=True)
def test_more(classification, gate):
    gate(classification.accuracy, at_most=0.0)
"""
    text = SUITE.format(bar="0.5").replace("pytestmark = ", "MARK = ").replace("def test_acc", "@MARK\ndef test_acc")
    write_suite(project, text + more)
    assert pytester.runpytest_inprocess("suites", "--harness-no-train").ret == 0
    assert report_of(project)["recipes"][0]["tests"] == {"collected": 1, "passed": 1, "named": []}


def test_a_test_that_fails_by_an_assert_is_not_excused_by_a_gate_that_is_not_applicable(
    project: Path, pytester: pytest.Pytester
) -> None:
    write_suite(project, SUITE.format(bar="0.5") + PROMOTED + "    assert False\n")
    assert pytester.runpytest_inprocess("suites", "--harness-no-train").ret == 1
    report = report_of(project)
    assert report["outcome"] == "incomplete"
    assert report["recipes"][0]["problem"].endswith("test_promoted[animals] failed.")


def test_planning_knows_the_view(project: Path, pytester: pytest.Pytester) -> None:
    write_suite(project, SUITE.format(bar="0.5") + PROMOTED)
    file = project / "plan.json"
    assert pytester.runpytest_inprocess("suites", f"--harness-plan={file}").ret == 0
    plan = json.loads(file.read_text())
    assert plan["problems"] == []
    rules = [gate["rule"] for gate in plan["recipes"][0]["gates"]]
    assert rules[2:] == ["drop vs promoted at most 0.200", "drop vs promoted at most 0.500"]


def test_another_baseline_alias(
    project: Path, pytester: pytest.Pytester, harness: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pytester.runpytest_inprocess("suites", "--harness-no-train").ret == 0
    assert harness("promote", "latest", "--recipe", "animals", "--alias", "staging", "--first").code == 0
    write_suite(project, SUITE.format(bar="0.5") + PROMOTED)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\nharness_baseline_alias = staging\n")
    assert pytester.runpytest_inprocess("suites", "--harness-no-train").ret == 0
    assert report_of(project)["recipes"][0]["promoted"]["alias"] == "staging"
    assert report_of(project)["outcome"] == "pass"
    monkeypatch.setenv("HARNESS_BASELINE_ALIAS", "../staging")
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: HARNESS_BASELINE_ALIAS: an alias is small letters*got '../staging'"])


def test_no_test_sees_the_signing_key(project: Path, pytester: pytest.Pytester) -> None:
    secret = "c2VjcmV0LXNlZWQtb2YtdGhpcnR5LXR3by1ieXRlcyE="
    write_suite(
        project,
        "import os, pytest\n\n@pytest.mark.recipes('animals')\ndef test_it(recipe):\n"
        "    environ = dict(os.environ)\n    assert environ.get('HARNESS_SIGNING_KEY') == 'x'\n",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "suites", "--showlocals", "-vv", "-p", "no:cacheprovider"],
        cwd=project,
        env={**os.environ, "HARNESS_SIGNING_KEY": secret, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "assert None == 'x'" in done.stdout
    assert secret not in done.stdout + done.stderr
