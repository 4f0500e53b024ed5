"""Selection, order and errors before anything is trained; and what collecting must not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """Two recipes, three test files; the model need not exist for collecting."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    root = pytester.path
    for name in ("animals", "beasts"):
        tiny.save_project(root, Path("/nowhere"), name=name)
    (root / "suites" / "test_animals.py").unlink()
    for file, mark in (
        ("test_one", "pytest.mark.recipes('animals')"),
        ("test_two", "pytest.mark.recipes('beasts', 'animals')"),
        ("test_three", "pytest.mark.recipes('beasts', only_when_named=True)"),
    ):
        (root / "suites" / f"{file}.py").write_text(
            f"import pytest\npytestmark = {mark}\ndef test_it(classification, gate):\n    pass\n"
        )
    return root


def collected(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "::" in line]


def test_items_are_sorted_by_recipe(project: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("suites", "--collect-only", "-q")
    assert collected(result) == [
        "suites/test_one.py::test_it[animals]",
        "suites/test_two.py::test_it[animals]",
        "suites/test_two.py::test_it[beasts]",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--harness-recipe", "animals"], ["one.py::test_it[animals]", "two.py::test_it[animals]"]),
        (["--harness-recipe", "beasts"], ["three.py::test_it[beasts]", "two.py::test_it[beasts]"]),
        (["--harness-recipe", "bea*"], ["two.py::test_it[beasts]"]),
        (
            ["--harness-recipe", "animals", "--harness-recipe", "b?asts"],
            ["one.py::test_it[animals]", "two.py::test_it[animals]", "two.py::test_it[beasts]"],
        ),
    ],
)
def test_recipes_are_chosen_by_name_or_glob(
    project: Path, pytester: pytest.Pytester, options: list[str], expected: list[str]
) -> None:
    result = pytester.runpytest_inprocess("suites", "--collect-only", "-q", *options)
    assert collected(result) == [f"suites/test_{line}" for line in expected]


def test_a_pattern_that_matches_nothing_is_a_usage_error(project: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("suites", "--harness-recipe", "animal")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --harness-recipe animal: no recipe in * matches; it has: animals, beasts"])


def test_no_test_left_is_not_a_pass(project: Path, pytester: pytest.Pytester) -> None:
    (project / "suites" / "test_two.py").unlink()
    (project / "suites" / "test_three.py").unlink()
    result = pytester.runpytest_inprocess("suites", "--harness-recipe", "beasts")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not (project / "reports").exists()


@pytest.mark.parametrize(
    ("mark", "line"),
    [
        ("pytest.mark.recipes('animols')", "*test_it: there is no recipe 'animols' in *; it has: animals, beasts"),
        ("pytest.mark.recipes()", "*test_it: pytest.mark.recipes needs at least one recipe name"),
    ],
)
def test_a_wrong_mark_is_one_line_at_collection(project: Path, pytester: pytest.Pytester, mark: str, line: str) -> None:
    (project / "suites" / "test_one.py").write_text(f"import pytest\n@{mark}\ndef test_it(gate):\n    pass\n")
    result = pytester.runpytest_inprocess("suites")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([line])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_wrong_recipe_is_shown_with_all_its_problems(project: Path, pytester: pytest.Pytester) -> None:
    path = project / "fixtures" / "recipes" / "animals.yaml"
    path.write_text(path.read_text().replace("r: 16", "r: 0").replace("learning_rate", "lerning_rate"))
    result = pytester.runpytest_inprocess("suites")
    result.stdout.fnmatch_lines(["*lora.r must be at least 1, got 0*", "*lerning_rate*learning_rate*"])


def test_other_peoples_tests_see_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*harness*report*")
    assert not (pytester.path / "reports").exists()
    assert not (pytester.path / ".harness").exists()


def test_collecting_imports_no_heavy_library(project: Path) -> None:
    """A fresh interpreter collects every suite; what it has loaded afterwards is what collecting costs."""
    heavy = "{'torch', 'transformers', 'peft', 'trl', 'bitsandbytes', 'lm_eval', 'numpy', 'pandas', 'anthropic'}"
    program = (
        "import sys, pytest\n"
        "status = pytest.main(['suites', '--collect-only', '-q', '-p', 'no:hypothesispytest'])\n"
        f"print('loaded', sorted({heavy} & set(sys.modules)))\n"
        "raise SystemExit(status)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "loaded []" in result.stdout
