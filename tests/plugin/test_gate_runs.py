"""`pytest suites/` in somebody's own project: real training of a tiny model, verdicts, exit status, report."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jsonschema
import pytest
import tiny

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))

FULL_SUITE = """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_classes(classification, gate):
    gate(classification.macro_f1, at_least=0.7)
    gate(classification.accuracy, compared_with="base", min_gain=0.1)
    for f1 in classification.f1_by_label.values():
        gate(f1, at_least=0.6)

def test_prompting(classification, gate):
    gate(classification.accuracy, compared_with="prompted_base", min_gain=0.1)

def test_facts(capability, gate):
    (facts,) = capability("facts")
    gate(facts.accuracy, at_least=0.0)

def test_text(generation, structure, gate):
    gate(generation.exact_match, at_least=0.6)
    gate(structure.regex(r"animal|tool", full=True), at_least=0.8)
"""


SHORT_SUITE = """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_accuracy(classification, gate):
    gate(classification.accuracy, at_least=0.6)
"""


@pytest.fixture
def project(pytester: pytest.Pytester, tiny_model: Path) -> Path:
    """The tiny project; nothing of this repository's own suites or fixtures is in it."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    return tiny.save_project(pytester.path, tiny_model)


@pytest.fixture
def warm(project: Path, trained_store: Path) -> Path:
    """The tiny project with the trained adapter in its store."""
    shutil.copytree(trained_store / "adapters", project / ".harness" / "adapters")
    return project


def write_suite(project: Path, text: str) -> None:
    (project / "suites" / "test_animals.py").write_text(text, encoding="utf-8")


def report_of(project: Path) -> dict[str, object]:
    report: dict[str, object] = json.loads((project / "reports" / "latest" / "report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    return report


def test_first_run_trains_and_second_run_does_not(project: Path, pytester: pytest.Pytester) -> None:
    write_suite(project, FULL_SUITE)
    first = pytester.runpytest_inprocess("suites", "--harness-recipe", "animals")
    first.assert_outcomes(passed=4)
    assert first.ret == 0
    first.stdout.fnmatch_lines(
        [
            "*animals: fine-tuning * on 96 examples*",
            "*training*96/96*",
            "*adapter harness*",
            "animals: Ready to promote: all 8 gates passed",
            "  passed *classification.macro_f1 *at least 0.7*",
            "report: reports/*/report.html",
        ]
    )
    report = report_of(project)
    (recipe,) = report["recipes"]  # type: ignore[misc]
    assert report["outcome"] == "pass"
    assert recipe["from_store"] is False
    assert recipe["training"]["steps"] == recipe["training"]["max_steps"] == 96
    assert len(recipe["gates"]) == 8
    assert {m["view"] for m in recipe["measures"] if m["name"] == "classification.accuracy"} == {
        "base",
        "prompted_base",
        "adapter",
    }

    second = pytester.runpytest_inprocess("suites")
    second.assert_outcomes(passed=4)
    second.stdout.no_fnmatch_line("*fine-tuning*")
    again = report_of(project)
    assert again["recipes"][0]["from_store"] is True  # type: ignore[index]
    assert again["recipes"][0]["gates"] == recipe["gates"]  # type: ignore[index]
    for name in ("report.html", "summary.md", "report.json"):
        assert (project / "reports" / "latest" / name).stat().st_size > 500


def test_a_failing_gate_fails_its_test_after_all_gates(warm: Path, pytester: pytest.Pytester) -> None:
    write_suite(
        warm,
        """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_two(classification, gate):
    gate(classification.accuracy, at_most=0.1)
    gate(classification.accuracy, at_least=0.5)
""",
    )
    result = pytester.runpytest_inprocess("suites")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["1 of 2 gates did not pass", "FAIL  classification.accuracy: at most 0.1*"])
    report = report_of(warm)
    assert report["outcome"] == "fail"
    assert [g["outcome"] for g in report["recipes"][0]["gates"]] == ["fail", "pass"]  # type: ignore[index]


def test_a_test_that_decides_no_gate_fails(warm: Path, pytester: pytest.Pytester) -> None:
    write_suite(
        warm,
        "import pytest\n@pytest.mark.recipes('animals')\ndef test_nothing(classification, gate):\n    pass\n",
    )
    result = pytester.runpytest_inprocess("suites")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*decided no gate*"])
    assert report_of(warm)["outcome"] == "incomplete"


@pytest.mark.parametrize(
    ("body", "outcome", "line"),
    [
        (
            "gate(classification.accuracy, at_least=0.1); pytest.skip('later')",
            "incomplete",
            "*1 of its tests were skipped*",
        ),
        ("gate(classification.accuracy, at_least=0.1); assert False", "incomplete", "*test_it?animals? failed.*"),
        ("gate(0.93, at_least=0.9)", "incomplete", "*gate takes a measure such as*got float*"),
        ("gate(classification.accuracy, at_least=float('nan'))", "incomplete", "*at_least*nan*"),
        ("gate(classification.accuracy, compared_with='base')", "incomplete", "*max_drop*min_gain*"),
        ("gate(classification.accuracy, at_least=0.1, view='other')", "incomplete", "*other*"),
        (
            "gate(classification.accuracy, at_least=0.1, slices='haf')",
            "incomplete",
            "*no slice 'haf'; its slices: half*",
        ),
        (
            "gate(classification.accuracy, at_least=0.1, min_n=5)",
            "incomplete",
            "*min_n is for slices, and none is named*",
        ),
        ("gate(classification.accuracy, must_pass=['test-99'])", "incomplete", "*must_pass names 'test-99', and*"),
        ("gate(classification.accuracy, at_least=0.1, n=48)", "incomplete", "*declares n=48*has 24 examples*"),
        (
            "gate(classification.accuracy, at_least=0.1, slices='half')",
            "incomplete",
            "*no value of the slice 'half' has*",
        ),
    ],
)
def test_what_is_no_verdict_is_not_a_pass(
    warm: Path, pytester: pytest.Pytester, body: str, outcome: str, line: str
) -> None:
    write_suite(
        warm,
        f"import pytest\n@pytest.mark.recipes('animals')\ndef test_it(classification, gate):\n    {body}\n",
    )
    result = pytester.runpytest_inprocess("suites")
    result.stdout.fnmatch_lines([line])
    assert report_of(warm)["outcome"] == outcome


def test_each_value_of_a_slice_has_its_verdict(warm: Path, pytester: pytest.Pytester) -> None:
    write_suite(
        warm,
        """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_halves(classification, generation, gate):
    verdicts = gate(classification.macro_f1, at_least=0.1, slices="half", min_n=12)
    assert len(verdicts) == 2
    gate(classification.accuracy, at_least=0.1, must_pass=["test-0"], n=24)
    gate(generation.exact_match, view="base", must_pass=["test-0", "test-1"])
""",
    )
    result = pytester.runpytest_inprocess("suites")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "1 of 4 gates did not pass",
            "FAIL  generation.exact_match: right on 2 named examples. * of 2 named examples *: test-* answered '*",
            "  passed *classification.macro_f1 where half=* *at least 0.100",
        ]
    )
    gates = report_of(warm)["recipes"][0]["gates"]  # type: ignore[index]
    name = "animals/test_halves"
    assert {gate["id"] for gate in gates[:2]} == {f"{name}/classification.macro_f1{{half={k}}}" for k in "01"}
    assert [gate["n"] for gate in gates] == [12, 12, 24, 2]
    assert [gate["kind"] for gate in gates] == ["threshold"] * 3 + ["must_pass"]
    assert gates[3]["must_pass_failed"]
    summary = (warm / "reports" / "latest" / "summary.md").read_text()
    assert "where half=0" in summary


@pytest.mark.parametrize("place", ["option", "environment", "ini"])
def test_an_inconclusive_gate_can_warn_and_never_passes(
    warm: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The 24 examples cannot tell a share of 24 in 24, or of few less, from 0.99."""
    write_suite(
        warm,
        """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_undecided(classification, gate):
    value = gate(classification.accuracy, at_least=0.0).value
    gate(classification.accuracy, at_least=min(value, 0.999), decide="confident")
""",
    )
    options = []
    if place == "option":
        options = ["--harness-inconclusive=warn"]
        failed = pytester.runpytest_inprocess("suites")
        failed.assert_outcomes(failed=1)
        failed.stdout.fnmatch_lines(["INCONCLUSIVE  classification.accuracy: at least *"])
        assert report_of(warm)["outcome"] == "inconclusive"
        shutil.rmtree(warm / "reports")  # two runs of one process in one second have one name
    elif place == "environment":
        monkeypatch.setenv("HARNESS_INCONCLUSIVE", "warn")
    else:
        pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\nharness_inconclusive = warn\n")
    result = pytester.runpytest_inprocess("suites", *options)
    result.assert_outcomes(passed=1, warnings=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*InconclusiveGateWarning: INCONCLUSIVE  classification.accuracy: at least *",
            "1 gate is inconclusive. *the run is inconclusive, not passed.",
            "Not ready: 1 of 2 gates is inconclusive",
        ]
    )
    report = report_of(warm)
    assert report["outcome"] == "inconclusive"
    assert (warm / "reports" / "latest" / "summary.md").read_text().startswith("## ❌ Not ready: 1 of 2 gates")


def test_warning_does_not_hide_another_gate(warm: Path, pytester: pytest.Pytester) -> None:
    write_suite(
        warm,
        """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_both(classification, gate):
    gate(classification.accuracy, at_least=0.99, decide="confident")
    gate(classification.accuracy, at_most=0.01)
""",
    )
    result = pytester.runpytest_inprocess("suites", "--harness-inconclusive=warn")
    result.assert_outcomes(failed=1)
    assert report_of(warm)["outcome"] == "fail"


@pytest.mark.parametrize("place", ["option", "environment"])
def test_a_wrong_choice_is_a_usage_error(
    project: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    options = []
    if place == "option":
        options = ["--harness-inconclusive=ignore"]
    else:
        monkeypatch.setenv("HARNESS_INCONCLUSIVE", "ignore")
    result = pytester.runpytest_inprocess("suites", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = "--harness-inconclusive" if place == "option" else "HARNESS_INCONCLUSIVE"
    result.stderr.fnmatch_lines([f"ERROR: {said} is fail or warn, got 'ignore'"])


def test_a_task_that_the_base_guesses_shows_no_forgetting(warm: Path, pytester: pytest.Pytester) -> None:
    """The untrained base says the same of odd and even numbers, which is right for every other one."""
    write_suite(
        warm,
        """\
import pytest
pytestmark = pytest.mark.recipes("animals")

def test_facts(capability, gate):
    (facts,) = capability("facts")
    gate(facts.accuracy, compared_with="base", max_drop=0.99)
""",
    )
    result = pytester.runpytest_inprocess("suites")
    result.assert_outcomes(failed=1)
    said = "not informative: 0.500 of base is not above guessing (0.500) by more than 0.05"
    result.stdout.fnmatch_lines([f"INCOMPLETE  capability.facts.accuracy: * Not decided: {said}, so there is nothing*"])
    report = report_of(warm)
    assert report["outcome"] == "incomplete"
    assert {measure["note"] for measure in report["recipes"][0]["measures"]} == {said}  # type: ignore[index]


def test_deselected_tests_make_the_recipe_incomplete(warm: Path, pytester: pytest.Pytester) -> None:
    write_suite(warm, FULL_SUITE)
    result = pytester.runpytest_inprocess("suites", "-k", "facts")
    result.assert_outcomes(passed=1, deselected=3)
    result.stdout.fnmatch_lines(["*3 of its tests were deselected; run them all for a verdict.*"])
    assert report_of(warm)["outcome"] == "incomplete"


def test_no_train_names_what_is_missing(project: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    result.assert_outcomes(errors=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*animals: no adapter with fingerprint*--harness-no-train forbids training*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert report_of(project)["outcome"] == "incomplete"


def test_a_damaged_adapter_is_not_used(warm: Path, pytester: pytest.Pytester) -> None:
    (weights,) = (warm / ".harness" / "adapters").glob("*/adapter_model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    result = pytester.runpytest_inprocess("suites", "--harness-no-train")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no adapter with fingerprint*"])


def test_store_and_report_folders_can_be_chosen(
    project: Path, trained_store: Path, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    shutil.copytree(trained_store / "adapters", tmp_path / "store" / "adapters")
    result = pytester.runpytest_inprocess(
        "suites",
        f"--harness-store={tmp_path / 'store'}",
        f"--harness-report-dir={tmp_path / 'out'}",
        "--harness-no-train",
    )
    result.assert_outcomes(passed=1)
    assert (tmp_path / "out" / "latest" / "report.html").is_file()
    assert not (project / ".harness").exists()
    assert not (project / "reports").exists()


def test_an_unknown_device_is_one_clear_line(warm: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("suites", "--harness-device", "tpu9")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*--harness-device: 'tpu9' is no device. Use cpu, cuda or cuda:0.*"])


def test_distributed_run_reports_as_one(warm: Path, pytester: pytest.Pytester) -> None:
    shutil.copy(warm / "fixtures" / "recipes" / "animals.yaml", warm / "fixtures" / "recipes" / "beasts.yaml")
    text = (warm / "fixtures" / "recipes" / "beasts.yaml").read_text().replace("name: animals", "name: beasts")
    (warm / "fixtures" / "recipes" / "beasts.yaml").write_text(text)
    write_suite(warm, FULL_SUITE.replace('recipes("animals")', 'recipes("animals", "beasts")'))
    result = pytester.runpytest_subprocess("suites", "-n", "2", "--harness-no-train", timeout=300)
    result.assert_outcomes(passed=8)
    report = report_of(warm)
    assert report["outcome"] == "pass"
    assert [recipe["name"] for recipe in report["recipes"]] == ["animals", "beasts"]  # type: ignore[attr-defined]
    assert [len(recipe["gates"]) for recipe in report["recipes"]] == [8, 8]  # type: ignore[attr-defined]
    result.stdout.fnmatch_lines(["beasts: Ready to promote: all 8 gates passed"])
    assert report["provenance"]["command"].endswith(" suites -n 2 --harness-no-train")  # type: ignore[index]
    # Both have the same adapter, so the second one may find its scores in the store.
    result.stderr.re_match_lines([r"\[gw[01]\] (animals|beasts): adapter scores labels  "])


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = """
import os, pytest, torch
from pathlib import Path

@pytest.mark.recipes("animals", "beasts")
def test_threads(recipe):
    Path(recipe.name).write_text(f"{os.environ['OMP_NUM_THREADS']} {torch.get_num_threads()}")
"""


@pytest.mark.parametrize(
    ("options", "conftest", "threads"),
    [
        ([], "", max(1, CORES // 2)),
        ([], "import torch", max(1, CORES // 2)),
        (["--harness-recipe", "animals"], "", CORES),
        (["--harness-recipe", "animals", "--dist", "loadfile"], "", max(1, CORES // 2)),
    ],
    ids=["two recipes", "torch is there", "one recipe", "one recipe for all workers"],
)
def test_workers_share_the_cores(
    project: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    conftest: str,
    threads: int,
) -> None:
    """With a thread for each core in every worker, training takes four to five times as long; one worker alone needs
    all cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    recipe = project / "fixtures" / "recipes" / "animals.yaml"
    recipe.with_name("beasts.yaml").write_text(recipe.read_text().replace("name: animals", "name: beasts"))
    (project / "conftest.py").write_text(conftest)
    write_suite(project, THREADS)
    pytester.runpytest_subprocess("suites", "-n", "2", *options, timeout=300)
    for name in ["animals"] if options else ["animals", "beasts"]:
        assert (project / name).read_text() == f"{threads} {threads}"


@pytest.mark.parametrize("chosen", [None, "3"])
def test_threads_stay_as_chosen_and_without_a_recipe_as_they_are(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, chosen: str | None, project: Path
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    marked = "@pytest.mark.recipes('animals')\ndef test_it(recipe):" if chosen else "def test_it():"
    seen = "    Path('seen').write_text(str(os.environ.get('OMP_NUM_THREADS')))\n"
    write_suite(project, f"import os, pytest\nfrom pathlib import Path\n\n{marked}\n{seen}")
    pytester.runpytest_subprocess("suites", "-n", "2", timeout=300)
    assert (project / "seen").read_text() == str(chosen)


def test_a_worker_whose_training_was_stopped_says_how_to_go_on(warm: Path, pytester: pytest.Pytester) -> None:
    write_suite(
        warm,
        "import pytest\nfrom harness.errors import TrainingInterrupted\n"
        "pytestmark = pytest.mark.recipes('animals')\n\n"
        "def test_it(recipe):\n    raise TrainingInterrupted('It goes on from step 3.')\n",
    )
    result = pytester.runpytest_subprocess("suites", "-n", "1", timeout=300)
    assert result.ret != 0
    result.stderr.fnmatch_lines(["[[]gw0] It goes on from step 3."])


def test_workers_that_share_a_recipe_report_it_once(warm: Path, pytester: pytest.Pytester) -> None:
    """With --dist loadfile the files of one recipe go to different workers."""
    write_suite(warm, SHORT_SUITE)
    (warm / "suites" / "test_again.py").write_text(SHORT_SUITE)
    result = pytester.runpytest_subprocess("suites", "-n", "2", "--dist", "loadfile", "--harness-no-train", timeout=300)
    result.assert_outcomes(passed=2)
    report = report_of(warm)
    assert report["outcome"] == "pass"
    (recipe,) = report["recipes"]  # type: ignore[misc]
    base = "animals/test_accuracy/classification.accuracy"
    assert sorted(gate["id"] for gate in recipe["gates"]) == [base, f"{base}#2"]


def test_a_gate_that_stops_early_says_how_many_examples_it_took(warm: Path, pytester: pytest.Pytester) -> None:
    tiny.write_rows(warm / "fixtures" / "data" / "test.jsonl", tiny.rows("test", 96, seed=0))
    write_suite(
        warm,
        "import pytest\npytestmark = pytest.mark.recipes('animals')\n\n"
        "def test_text(generation, gate):\n"
        "    gate(generation.exact_match, compared_with='base', min_gain=0.05, early_stop=True)\n",
    )
    result = pytester.runpytest_inprocess("suites", "--harness-recipe", "animals")
    result.assert_outcomes(passed=1)
    (gate,) = report_of(warm)["recipes"][0]["gates"]  # type: ignore[index]
    assert gate["out_of"] == 96
    assert gate["n"] < 80
    result.stdout.fnmatch_lines(
        [f"*passed*generation.exact_match*vs base ({gate['n']} of 96 examples)*gain over base*"]
    )
    reports = warm / "reports" / "latest"
    assert f"({gate['n']} of 96 examples)" in (reports / "summary.md").read_text(encoding="utf-8")
    assert f"{gate['n']} of 96 examples; betting" in (reports / "report.html").read_text(encoding="utf-8")
