"""What the benchmark programs read and print; no test here depends on how fast the machine is."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"

PROVENANCE = {
    "machine": {"processor": "Fast Chip", "cores": 2, "memory_gb": 16.1},
    "git": {"commit": "0123456789abcdef", "dirty": True},
    "python": "3.11.7",
    "versions": {"torch": "2.13.0", "datasets": "5.2.0", "pytest": "9.2.0"},
}


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("gate")


@pytest.fixture
def collecting(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("collection")


# ---- gate.py: what a run prints

OUTPUT = """\
suites/animals/test_it.py 
animals: fine-tuning ./model on 48 examples (fingerprint c3e15ac88580 is not in .harness)
training  18/36  loss 0.623, 9,187 tokens/s  12 s left
training  loss 0.092  58 s
animals: adapter scores labels  24/48  5 s left
animals: adapter scores labels  48/48
animals: adapter scores labels  58 s
animals: base scores labels  few-shot  7 s
.
animals: adapter on facts  3 s
animals: adapter on facts  4 s
[gw1] tools_2: adapter answers  1234 s
.F[gw12] tools_2: base answers  20 s
animals  accuracy: 0.5 is not at least 0.7  9 s
============= 1 failed, 2 passed in 123.19s (0:02:03) =============
"""


def test_stages_are_read_from_finished_lines_only(gates: ModuleType) -> None:
    # Left out: training (no recipe), what is still going on, the summary. A stage that came twice is added up.
    assert gates.stage_seconds(OUTPUT.splitlines()) == {
        "animals": {"adapter scores labels": 58, "base scores labels": 7, "adapter on facts": 7},
        "tools_2": {"adapter answers": 1234, "base answers": 20},
    }


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["here", "worker"])
def test_stages_are_what_the_plugin_writes_without_a_terminal(
    gates: ModuleType, pytester: pytest.Pytester, workers: list[str]
) -> None:
    """The lines come from harness/pytest_plugin/progress.py itself, so that a change there is seen here."""
    pytester.makepyfile(
        """
        from harness.pytest_plugin.progress import progress_for

        def test_it(request):
            progress = progress_for(request.config)
            progress.start("animals: adapter scores labels", 20)
            for done in range(1, 21):
                progress.advance(done, "9 tokens/s")
            progress.finish("all of them")
            progress.start("animals: base on facts", 0)
            progress.finish()
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *workers)
    assert result.ret == 0
    found = gates.stage_seconds([*result.outlines, *result.errlines])
    assert {recipe: list(stages) for recipe, stages in found.items()} == {
        "animals": ["adapter scores labels", "base on facts"]
    }


JUNIT = """\
<testsuites><testsuite>
<testcase name="test_a[animals]" time="10.5">
  <properties><property name="harness_recipe" value="animals"/></properties></testcase>
<testcase name="test_b[animals]" time="2.25">
  <properties><property name="harness_recipe" value="animals"/></properties><failure message="no"/></testcase>
<testcase name="test_c[tools]" time="4">
  <properties><property name="x" value="animals"/>
  <property name="harness_recipe" value="tools"/></properties></testcase>
<testcase name="test_other" time="100"/>
</testsuite></testsuites>"""


def test_seconds_of_a_recipe_are_those_of_its_tests(gates: ModuleType) -> None:
    assert gates.test_seconds(JUNIT) == {"animals": 12.75, "tools": 4.0}


def report(*, from_store: bool) -> dict[str, Any]:
    training = {"seconds": 6.0}
    return {
        "provenance": PROVENANCE,
        "recipes": [
            {
                "name": "animals",
                "from_store": from_store,
                "training": training,
                "gates": [{"outcome": "pass"}, {"outcome": "fail"}],
            },
            {"name": "tools", "from_store": None, "training": None, "gates": [{"outcome": "pass"}]},
        ],
    }


def run(gates: ModuleType, *, seconds: float, from_store: bool, lines: tuple[str, ...] = ()) -> Any:
    measured = gates.Measured(seconds=seconds, processor=1.9 * seconds, status=0, peak_gb=1.5, lines=list(lines))
    return gates.gate_run(measured, report(from_store=from_store), JUNIT)


def test_seconds_are_divided_without_remainder(gates: ModuleType) -> None:
    cold = run(gates, seconds=20.0, from_store=False, lines=("animals: adapter on facts  4 s",))
    animals = cold.recipes["animals"]
    assert animals.training == 6.0
    assert animals.other == pytest.approx(12.75 - 6 - 4)
    assert cold.recipes["tools"].other == 4.0
    assert cold.outside == pytest.approx(20 - 12.75 - 4)
    assert (cold.gates, cold.gates_passed, cold.trained) == (3, 2, frozenset({"animals"}))


def test_an_adapter_from_the_store_costs_no_training_time(gates: ModuleType) -> None:
    # The report tells the seconds of the training that once made it, also where this run did not train.
    warm = run(gates, seconds=20.0, from_store=True)
    assert warm.recipes["animals"].training == 0
    assert warm.recipes["animals"].other == 12.75
    assert warm.trained == frozenset()


# ---- gate.py: tables and words


@pytest.mark.parametrize(
    ("value", "limit", "words"),
    [
        (20.0, 25, "met by 5.00 s"),
        (25.0, 25, "met by 0.00 s"),
        (25.5, 25, "missed by 0.50 s"),
        (1402.0, 1500, "met by 98.0 s"),
        (2900.04, 1500, "missed by 1,400.0 s"),
    ],
)
def test_a_target_is_met_or_missed_by_how_much(gates: ModuleType, value: float, limit: float, words: str) -> None:
    assert gates.against(value, limit, "s") == words


def test_a_table_is_markdown(gates: ModuleType) -> None:
    assert gates.table(("what", "s:"), [("a|b", "1")]) == "| what | s |\n| :-- | --: |\n| a\\|b | 1 |"


def test_both_runs_stand_beside_their_targets(gates: ModuleType) -> None:
    runs = {
        "cold": run(gates, seconds=580.0, from_store=False, lines=("animals: adapter on facts  4 s",)),
        "warm": run(gates, seconds=20.0, from_store=True),
    }
    figures = gates.figures_table(runs).splitlines()
    assert "| cold: wall time | 580.0 s | at most 8 min | missed by 100.0 s |" in figures
    assert "| warm: wall time | 20.0 s | at most 25 s | met by 5.00 s |" in figures
    assert "| cold: peak memory of the largest process | 1.50 GB | at most 4 GB | met by 2.50 GB |" in figures
    assert "| warm: processor time | 38.0 s |  |  |" in figures
    assert "| warm: gates passed | 2 of 3 |  |  |" in figures
    assert "| cold: exit status | 0 | 0 | met |" in figures

    assert gates.costs_table(runs).splitlines()[2:] == [
        "| animals | training | 6.0 | - |",
        "| animals | adapter on facts | 4.0 | - |",
        "| animals | other | 2.8 | 12.8 |",
        "| tools | training | - | - |",
        "| tools | other | 4.0 | 4.0 |",
        "| outside of tests | start, collection, report | 563.2 | 3.2 |",
        "| all |  | 580.0 | 20.0 |",
    ]


def test_the_machine_line_has_what_a_figure_is_read_with(gates: ModuleType) -> None:
    line = gates.machine_line(PROVENANCE, "2026-11-23", {"OMP_NUM_THREADS": "1"})
    assert line.startswith(
        "Fast Chip, 2 cores, 16.1 GB; 2026-11-23; commit 0123456789ab with changes; "
        "Python 3.11.7, torch 2.13.0, pytest 9.2.0; "
    )
    assert line.endswith("OMP_NUM_THREADS=1")
    assert "no commit" in gates.machine_line({**PROVENANCE, "git": None}, "2026-11-23", {})


# ---- gate.py: running


def test_each_command_is_measured_on_its_own(gates: ModuleType, tmp_path: Path) -> None:
    # 300 MB that are written to are resident; the second command's peak must not be the first one's.
    large = gates.measured([sys.executable, "-c", "print('held', len(bytearray(300_000_000)))"], cwd=tmp_path)
    small = gates.measured([sys.executable, "-c", "raise SystemExit(3)"], cwd=tmp_path)
    assert large.lines == ["held 300000000"]
    assert (large.status, small.status) == (0, 3)
    assert large.peak_gb > 0.3
    assert small.peak_gb < 0.15


def test_a_run_without_a_report_is_an_error(gates: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(gates.BenchmarkError, match=r"exit status [45] and without a report"):
        gates.run_gates(
            tmp_path, [], store=tmp_path / "store", work=tmp_path, env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        )


def test_a_cold_run_has_caches_of_its_own_and_no_paid_judge(gates: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("XDG_CACHE_HOME", "/usual")
    monkeypatch.delenv("HF_HOME", raising=False)
    cold = gates._environment(Path("/own"))
    assert "ANTHROPIC_API_KEY" not in cold
    assert (cold["XDG_CACHE_HOME"], cold["HF_HOME"]) == ("/own", "/usual/huggingface")
    assert gates._environment(None)["XDG_CACHE_HOME"] == "/usual"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--skip-cold"], "--skip-cold and --store DIR go together"),
        (["--store", "{full}"], "--skip-cold and --store DIR go together"),
        (["--skip-cold", "--store", "{full}/none"], "is no folder; fill one with --keep"),
        (["--skip-cold", "--store", "{full}", "--keep", "{full}/new"], "--keep is for the store of a cold run"),
        (["--keep", "{full}"], "is not empty"),
        (["--project", "{full}"], "has no folder suites/"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    gates: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        gates.main([argument.format(full=tmp_path) for argument in arguments])
    assert message in capsys.readouterr().err


# ---- collection.py


def test_the_plain_copy_has_the_same_files_and_numbers_of_tests(collecting: ModuleType, tmp_path: Path) -> None:
    suites = tmp_path / "suites" / "animals"
    suites.mkdir(parents=True)
    (suites / "test_one.py").write_text(
        "import pytest\npytestmark = pytest.mark.recipes('animals')\n\n"
        "def test_a(gate):\n    def test_inner(): ...\n\ndef helper(): ...\n\n"
        "class TestB:\n    def test_b(self): ...\n    def test_c(self): ...\n"
    )
    (suites / "test_none.py").write_text("")
    (suites / "conftest.py").write_text("def test_not_collected(): ...\n")
    counts = collecting.test_counts(tmp_path / "suites")
    assert counts == {Path("animals/test_none.py"): 0, Path("animals/test_one.py"): 3}

    collecting.write_plain(tmp_path / "plain", counts, addopts="--strict-markers")
    assert collecting.test_counts(tmp_path / "plain" / "suites") == counts
    written = (tmp_path / "plain" / "suites" / "animals" / "test_one.py").read_text()
    assert "mark" not in written
    assert "(gate)" not in written
    assert (tmp_path / "plain" / "pytest.ini").read_text() == "[pytest]\naddopts = --strict-markers\n"


def test_the_plain_copy_is_collected_by_pytest(collecting: ModuleType, tmp_path: Path) -> None:
    collecting.write_plain(
        tmp_path, {Path("one/test_it.py"): 2, Path("two/test_it.py"): 1}, addopts="--import-mode=importlib"
    )
    plain = collecting.Side("plain pytest", tmp_path, ("-p", "no:adapter-harness"), {})
    seconds = collecting.timed(plain, tests=3)
    assert seconds.wall > 0
    assert seconds.processor > 0
    with pytest.raises(collecting.BenchmarkError, match="collected 3 tests, the other side has 4"):
        collecting.timed(plain, tests=4)


@pytest.mark.parametrize(
    ("output", "tests"),
    [
        ("\n12/13 tests collected (1 deselected) in 0.70s\n", 13),
        ("14 tests collected in 0.48s", 14),
        ("1 test collected in 0s", 1),
    ],
)
def test_deselected_tests_count_as_collected(collecting: ModuleType, output: str, tests: int) -> None:
    assert collecting.collected_tests(output) == tests


def test_nothing_collected_is_an_error(collecting: ModuleType) -> None:
    with pytest.raises(collecting.BenchmarkError, match="collected nothing"):
        collecting.collected_tests("no tests collected in 0.01s")


def test_compiled_modules_are_kept_although_the_shell_forbids_it(collecting: ModuleType) -> None:
    found = collecting.environment(Path("/kept"), {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/home/me"})
    assert found == {"HOME": "/home/me", "PYTHONPYCACHEPREFIX": "/kept"}


# As `python -X importtime` writes it: own and cumulative microseconds, and what a module imports before it.
IMPORTS = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 | encodings
something that the program wrote
import time:      1500 |       1500 |     yaml.reader
import time:      2500 |       4000 |   yaml
import time:       700 |        700 |     pydantic.types
import time:      9000 |       9700 |   pydantic
import time:      3000 |      16700 | harness.recipes
import time:      1000 |       1000 | json
"""


def test_imports_are_read_with_their_importers(collecting: ModuleType) -> None:
    found = {entry.name: (entry.seconds, entry.importer) for entry in collecting.parse_imports(IMPORTS)}
    assert found == {
        "encodings": (0.0001, None),
        "yaml.reader": (0.0015, "yaml"),
        "yaml": (0.0025, "harness.recipes"),
        "pydantic.types": (0.0007, "pydantic"),
        "pydantic": (0.009, "harness.recipes"),
        "harness.recipes": (0.003, None),
        "json": (0.001, None),
    }


def test_imports_are_those_of_a_real_interpreter(collecting: ModuleType, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(outer="import inner_one\n", inner_one="")
    done = pytester.run(sys.executable, "-X", "importtime", "-c", "import outer")
    found = {entry.name: entry.importer for entry in collecting.parse_imports("\n".join(done.errlines))}
    assert found["inner_one"] == "outer"
    assert found["outer"] is None


def test_packages_are_what_only_the_plugin_imports(collecting: ModuleType) -> None:
    plain = collecting.parse_imports("import time: 100 | 100 | encodings\nimport time: 5 | 5 | json\n")
    packages = collecting.added_packages(collecting.parse_imports(IMPORTS), plain)
    assert [(p.name, p.modules, p.importer) for p in packages] == [
        ("pydantic", 2, "harness.recipes"),
        ("yaml", 2, "harness.recipes"),
        ("harness", 1, None),
    ]
    assert [p.seconds for p in packages] == pytest.approx([0.0097, 0.004, 0.003])


def test_of_several_runs_a_modules_fastest_counts(collecting: ModuleType) -> None:
    runs = [collecting.parse_imports(f"import time: {own} | {own} | yaml\n") for own in (900, 400, 600)]
    assert [entry.seconds for entry in collecting.fastest(runs)] == [0.0004]


def test_the_rest_of_the_packages_is_one_line(collecting: ModuleType) -> None:
    packages = [collecting.Package(f"p{number}", 0.010, 2, None) for number in range(7)]
    lines = collecting.packages_table(packages).splitlines()
    assert len(lines) == 2 + 5 + 1
    assert lines[2] == "| `p0` | 10 | 2 |  |"
    assert lines[-1] == "| 2 others | 20 | 4 |  |"


def test_the_target_is_for_the_medians_of_wall_time(collecting: ModuleType) -> None:
    plugin = [collecting.Seconds(wall, 1.0) for wall in (1.0, 9.0, 1.2)]
    plain = [collecting.Seconds(wall, 0.8) for wall in (0.5, 0.4, 8.0)]
    lines = collecting.times_table(plugin, plain).splitlines()
    assert lines[2] == "| wall, median | 1.200 | 0.500 | +0.700 | at most 0.5 s | missed by 0.20 s |"
    assert lines[3] == "| wall, fastest | 1.000 | 0.400 | +0.600 |  |  |"
    assert lines[4] == "| processor, median | 1.000 | 0.800 | +0.200 |  |  |"


# ---- judging.py


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("judging")


def test_answers_and_references_all_differ(judging: ModuleType) -> None:
    made = judging.items(500)
    assert len({item.response for item in made} | {item.reference for item in made}) == 1_000
    assert all(item.question for item in made)


def test_the_judge_is_measured_on_a_real_server(judging: ModuleType) -> None:
    _, cold, warm = judging.by_model(20, latency=0.05, concurrency=10)
    assert (cold.calls, cold.graded) == (20, 20)
    assert (warm.calls, warm.graded) == (0, 20)
    assert cold.seconds >= 0.1, "two rounds of 0.05 s"


def test_a_run_that_lost_a_grade_or_made_a_call_too_many_is_no_result(judging: ModuleType) -> None:
    good, warm = judging.Judged(11.0, 500, 500), judging.Judged(0.1, 0, 500)
    for cold, again in ((good._replace(graded=499), warm), (good._replace(calls=501), warm), (good, good)):
        with pytest.raises(judging.BenchmarkError):
            judging.model_rows(500, 10.0, 1.0, cold, again)
    rows = judging.model_rows(500, 10.0, 1.0, good, warm)
    assert rows[0][-1] == "met, 1.100 times"
    assert judging.model_rows(500, 10.0, 1.0, good._replace(seconds=11.6), warm)[0][-1] == "missed, 1.160 times"
    assert judging.standin_row(100, judging.Judged(6.1, 0, 100))[-2:] == ("at most 6 s", "missed")


# ---- the folder


@pytest.mark.parametrize("program", sorted(file.name for file in BENCHMARKS.glob("[!_]*.py")))
def test_every_program_is_explained_and_helps(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"`{program}`" in (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module(program.removesuffix(".py"))
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    options = re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert "--date" in options
    readme = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert {option for option in options if f"`{option}" not in readme} == set()


def test_results_hold_no_empty_table() -> None:
    lines = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    marks = [number for number, line in enumerate(lines) if re.fullmatch(r"\|( :?-+:? \|)+", line)]
    assert all(number + 1 < len(lines) and lines[number + 1].startswith("|") for number in marks)


# ---- What is asked for wrongly


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        ("training", ["--model", "nowhere"], "nowhere has no config.json; name the folder of a model"),
        ("capability", ["--commands", "--shape", "tiny"], "leave out --shape and --model"),
        ("generation", ["--items", "0"], "--items must be at least 1, got 0"),
        ("generation", ["--recipe", "transaction_category"], "invalid choice"),
        ("classification", ["--adapter", "nowhere"], "--adapter nowhere has no adapter_config.json"),
    ],
)
def test_a_wrong_option_is_said_in_one_line(
    program: str,
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(program).main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"{program}.py: error: ")
    assert words in said
