"""The commands on earlier runs: what they print, and what they say where something is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import recorded

from harness.records import MeasureResult, Outcome
from harness.store import read_run

Harness = Callable[..., Any]

EXACT = "generation.exact_match"
# In the later run t-0 to t-2 turned wrong and t-30 right: 38 right of 40 before, 36 after.
BEFORE = (recorded.scores(EXACT, ["t-30", "t-31"]), recorded.scores(EXACT, view="base"))
AFTER = (recorded.scores(EXACT, ["t-0", "t-1", "t-2", "t-31"]), recorded.scores(EXACT, view="base"))


@pytest.fixture
def store(project: Path) -> Path:
    return project / ".harness"


@pytest.fixture
def runs(store: Path) -> list[str]:
    """Two runs of `tickets`, the second also of `animals`, whose gate failed; their ids."""
    animals = recorded.scores(EXACT, recorded.IDS[:30])
    first = recorded.run(0, recorded.recipe("tickets", BEFORE))
    second = recorded.run(
        1, recorded.recipe("tickets", AFTER, adapter="bc"), recorded.recipe("animals", [animals], at_least=0.5)
    )
    return [
        recorded.keep(store, first, {"tickets": BEFORE}),
        recorded.keep(store, second, {"tickets": AFTER, "animals": [animals]}),
    ]


# harness runs


def test_runs_lists_them_newest_first(harness: Harness, runs: list[str]) -> None:
    code, out, err = harness("runs")
    assert (code, err) == (0, "")
    assert [line.split("  ") for line in re.sub("   +", "  ", out).splitlines()] == [
        [runs[1], "2026-11-20 10:00 UTC", "1 min 2 s", "c0ffee1 and changes"],
        ["", "passed", "tickets", "1 of 1 gate, adapter bcbcbcbc"],
        ["", "failed", "animals", "0 of 1 gate, adapter adadadad"],
        [runs[0], "2026-11-20 09:00 UTC", "1 min 2 s", "c0ffee0"],
        ["", "passed", "tickets", "1 of 1 gate, adapter adadadad"],
    ]
    assert max(map(len, out.splitlines())) <= 80


def test_runs_of_one_recipe(harness: Harness, runs: list[str]) -> None:
    _, out, _ = harness("runs", "--recipe", "animals")
    assert out.count("\n") == 2
    assert runs[1] in out
    assert "tickets" not in out


def test_runs_can_be_limited(harness: Harness, runs: list[str]) -> None:
    _, out, _ = harness("runs", "--limit", "1")
    assert runs[1] in out
    assert runs[0] not in out


def test_runs_as_json(harness: Harness, runs: list[str], store: Path) -> None:
    _, out, _ = harness("runs", "--json", "--limit", "1")
    assert json.loads(out) == {
        "runs": [
            {
                "run_id": runs[1],
                "digest": read_run(store, runs[1]).digest,
                "started_at": "2026-11-20T10:00:00+00:00",
                "duration_seconds": 61.5,
                "outcome": "fail",
                "commit": "c0ffee1" + "0" * 33,
                "dirty": True,
                "recipes": [
                    {"name": "tickets", "outcome": "pass", "adapter_digest": "bc" * 32, "gates": 1, "passed": 1},
                    {"name": "animals", "outcome": "fail", "adapter_digest": "ad" * 32, "gates": 1, "passed": 0},
                ],
            }
        ]
    }


def test_runs_of_an_empty_store(harness: Harness, project: Path) -> None:
    assert harness("runs") == (0, "no run is recorded in .harness; `pytest suites/` makes one\n", "")


def test_a_changed_record_is_told_and_hides_no_other(harness: Harness, runs: list[str], store: Path) -> None:
    (store / "runs" / runs[0] / "report.json").write_text("{}")
    code, out, err = harness("runs")
    assert code == 1
    assert runs[1] in out
    assert err.startswith(f"error: {store}/runs/{runs[0]}/report.json: its sha256 is not that of the run's manifest")


def test_a_record_of_another_version_is_told(harness: Harness, store: Path) -> None:
    from harness.store import keep_run

    keep_run(store, "20261120-090000-1", '{"schema_version": 99}', {})
    code, _, err = harness("runs")
    assert code == 1
    assert "20261120-090000-1: report.json has schema_version 99, this harness reads" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs", "--recipe", "dogs"], "no run in .harness has the recipe 'dogs'; they have: animals, tickets"),
        (["runs", "--limit", "0"], "'0' is no number of runs; write 1 or more"),
        (["runs", "--store", "nowhere"], "--store nowhere: there is no such folder"),
        (["compare", "latest", "20261120-09", "--recipe", "animals"], "do not both have the recipe 'animals'"),
        (["trend", "dogs", EXACT], "no run in .harness has the recipe 'dogs'; they have: animals, tickets"),
        (["trend", "tickets", "generation.exact_mat"], "no run of tickets has the measure 'generation.exact_mat'; of 1 "
         "that it has, the nearest: generation.exact_match"),
        (["trend", "tickets", EXACT, "--view", "promted"], "on the view 'promted'; it has: adapter, base"),
        (["gc", "--older-than", "1w"], "'1w' is no number of days; write e.g. 30d"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_line(harness: Harness, runs: list[str], arguments: list[str], said: str) -> None:
    code, out, err = harness(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize("command", [["show"], ["compare", "latest"]])
def test_a_run_that_is_not_there_is_one_line(harness: Harness, runs: list[str], command: list[str]) -> None:
    code, out, err = harness(*command, "2025")
    assert (code, out) == (2, "")
    assert "there is no run '2025'; the newest are" in err


# harness show


def test_show_prints_a_run_in_the_words_in_which_it_ended(harness: Harness, runs: list[str]) -> None:
    code, out, err = harness("show", "latest")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{runs[1]}  2026-11-20 10:00 UTC  1 min 2 s  c0ffee1 and changes"
    assert "tickets: Ready to promote: the one gate passed" in lines
    assert any(line.startswith("  passed  generation.exact_match  0.900 [") for line in lines)
    assert lines[-1] == "Not ready: 1 of 2 gates failed"


def test_show_tells_the_problems_of_a_run(harness: Harness, store: Path) -> None:
    one = replace(recorded.run(0, recorded.recipe("tickets", BEFORE)), problems=("a worker ended without its results",))
    recorded.keep(store, replace(one, outcome=Outcome.INCOMPLETE))
    _, out, _ = harness("show", "latest")
    assert "\na worker ended without its results\n" in out


def test_show_refuses_an_edited_record(harness: Harness, runs: list[str], store: Path) -> None:
    report = store / "runs" / runs[1] / "report.json"
    report.write_text(report.read_text().replace('"fail"', '"pass"'))
    code, out, err = harness("show", runs[1])
    assert (code, out) == (1, "")
    assert "it was changed after the run" in err


# harness compare


def test_compare_is_paired_and_names_what_turned(harness: Harness, runs: list[str]) -> None:
    code, out, err = harness("compare", runs[0], runs[1])
    assert (code, err) == (0, "")
    # 0.950 to 0.900: three turned wrong, one right, of 40.
    assert "  generation.exact_match  0.950 -> 0.900  -0.050 [" in out
    assert "generation.exact_match (base)" not in out  # the base has no gate
    assert "tickets: passed\n  adapter adadadad -> bcbcbcbc, the same test set, 0 of 1 gates changed\n" in out
    assert "    3 right -> wrong: t-0, t-1, t-2\n    1 wrong -> right: t-30\n" in out


def test_compare_as_json_agrees_with_statistics(harness: Harness, runs: list[str]) -> None:
    from harness import statistics

    _, out, _ = harness("compare", runs[0], runs[1], "--json")
    (recipe,) = json.loads(out)["recipes"]
    (measure,) = recipe["measures"]
    expected = statistics.difference(AFTER[0], BEFORE[0])
    assert (measure["difference"], measure["low"], measure["high"], measure["n"]) == (
        expected.value,
        expected.low,
        expected.high,
        40,
    )
    assert (measure["right_to_wrong"], measure["wrong_to_right"]) == (["t-0", "t-1", "t-2"], ["t-30"])
    assert measure["gates"] == [
        {"id": "tickets/test_it/generation.exact_match", "rules": ["at least 0.500"] * 2, "outcomes": ["pass"] * 2}
    ]


def test_compare_names_gates_that_changed(harness: Harness, store: Path) -> None:
    before, after = (recorded.recipe("tickets", one) for one in (BEFORE, AFTER))
    stricter = recorded.recipe("tickets", [recorded.scores(EXACT, recorded.IDS)], at_least=0.9)
    gone = replace(
        before, gates=(*before.gates, replace(before.gates[0], id=f"tickets/test_old/{EXACT}"))
    )
    first = recorded.keep(store, recorded.run(0, gone), {"tickets": BEFORE})
    wrong = [recorded.scores(EXACT, recorded.IDS)]
    second = recorded.keep(store, recorded.run(1, stricter), {"tickets": wrong})
    _, out, _ = harness("compare", first, second)
    assert "tickets: passed -> failed\n" in out
    assert "2 of 2 gates changed" in out
    assert "    passed -> failed  at least 0.900 (in A: at least 0.500)\n" in out
    assert "    only in A: passed  at least 0.500\n" in out
    assert "generation.exact_match  0.950 -> 0.000  -0.950 [" in out
    assert "] worse\n" in out
    assert "38 right -> wrong: t-0, t-1, t-2, t-3, t-4 and 33 more" in out
    assert after.gates[0].id == before.gates[0].id


def test_compare_of_another_test_set_says_why_not(harness: Harness, store: Path) -> None:
    other = [recorded.scores(EXACT, ids=[f"u-{k}" for k in range(40)])]
    changed = replace(recorded.recipe("tickets", other), data={"test": {"examples": 40, "sha256": "ff" * 32}})
    first = recorded.keep(store, recorded.run(0, recorded.recipe("tickets", BEFORE)), {"tickets": BEFORE})
    second = recorded.keep(store, recorded.run(1, changed), {"tickets": other})
    code, out, _ = harness("compare", first, second)
    assert code == 0
    assert "another test set: what has other ids is not compared" in out
    assert f"    not compared: generation.exact_match: {second} and {first} were not scored on the same examples" in out
    assert "turned" not in out


def test_compare_on_a_slice_takes_its_examples_alone(harness: Harness, store: Path) -> None:
    def sliced(one: object) -> object:
        found = recorded.recipe("tickets", one)  # type: ignore[arg-type]
        gate = found.gates[0]
        verdict = replace(gate.verdict, slice_name="plan", slice_value="free")
        return replace(found, gates=(replace(gate, verdict=verdict),))

    first = recorded.keep(store, recorded.run(0, sliced(BEFORE)), {"tickets": BEFORE})  # type: ignore[arg-type]
    second = recorded.keep(store, recorded.run(1, sliced(AFTER)), {"tickets": AFTER})  # type: ignore[arg-type]
    _, out, _ = harness("compare", first, second, "--json")
    part, whole = json.loads(out)["recipes"][0]["measures"]
    # t-0 to t-2 of the first 20, who have plan=free
    assert (part["slice_value"], part["before"], part["after"], part["n"]) == ("free", 1.0, 0.85, 20)
    assert (whole["slice_value"], whole["before"], whole["after"]) == (None, 0.95, 0.9)
    assert part["right_to_wrong"] == []


def test_a_measure_whose_scores_are_not_right_or_wrong_turns_no_example(harness: Harness, store: Path) -> None:
    graded = [
        [replace(one, values=tuple(v / 2 + 0.1 * shift for v in one.values)) for one in of[:1]]
        for shift, of in ((0, BEFORE), (1, AFTER))
    ]
    ids = [
        recorded.keep(store, recorded.run(k, recorded.recipe("tickets", one)), {"tickets": one})
        for k, one in enumerate(graded)
    ]
    _, out, _ = harness("compare", *ids)
    assert "generation.exact_match  0.475 -> 0.550  +0.075 [" in out
    assert "turned" not in out


def test_compare_without_a_common_recipe(harness: Harness, store: Path) -> None:
    ids = [
        recorded.keep(store, recorded.run(k, recorded.recipe(name, BEFORE)), {name: BEFORE})
        for k, name in enumerate(("tickets", "animals"))
    ]
    code, _, err = harness("compare", *ids)
    assert code == 2
    assert f"the two runs do not both have a recipe: {ids[0]} has tickets; {ids[1]} has animals" in err


# harness trend


def test_trend_plots_and_lists(harness: Harness, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, err = harness("trend", "tickets", EXACT)
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0] == "generation.exact_match of tickets"
        assert max(map(len, lines)) == columns
        assert sum(line.count("●") for line in lines) == 2
        assert "the line: the latest threshold, 0.500" in lines
        assert lines[-2].startswith(f"{runs[0]}  2026-11-20 09:00 UTC  0.950 [")
        assert lines[-1].endswith("  40  bcbcbcbc")


def test_trend_of_a_gate_that_compares_is_its_difference(harness: Harness, store: Path) -> None:
    recorded.keep(store, recorded.run(0, recorded.recipe("tickets", BEFORE, compared_with="base", max_drop=0.2)))
    code, out, _ = harness("trend", "tickets", "tickets/test_it/generation.exact_match")
    assert code == 0
    assert "the line: the latest margin, -0.200" in out
    assert "  -0.050 [" in out
    assert out.splitlines()[-1].endswith("passed")


def test_trend_keeps_to_a_limit_and_a_view(harness: Harness, runs: list[str]) -> None:
    _, out, _ = harness("trend", "tickets", EXACT, "--view", "base", "--limit", "1", "--json")
    found = json.loads(out)
    assert (found["kind"], found["view"]) == ("measure", "base")
    assert [(point["run_id"], point["value"]) for point in found["runs"]] == [(runs[1], 1.0)]


def test_trend_writes_an_svg(harness: Harness, runs: list[str], tmp_path: Path) -> None:
    file = tmp_path / "trend.svg"
    code, out, _ = harness("trend", "tickets", EXACT, "--svg", str(file))
    assert code == 0
    assert out.splitlines()[-1] == str(file)
    namespace = {"svg": "http://www.w3.org/2000/svg"}
    drawn = ElementTree.parse(file)
    titles = [title.text or "" for title in drawn.findall(".//svg:circle/svg:title", namespace)]
    assert [title.split(" [")[0] for title in titles] == [f"{runs[0]}: 0.950", f"{runs[1]}: 0.900"]
    assert len(drawn.findall(".//svg:polygon", namespace)) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if "svg" in path.name) == ["trend.svg"]


def test_trend_of_what_was_never_measured_draws_nothing(harness: Harness, store: Path, tmp_path: Path) -> None:
    empty = MeasureResult(EXACT, "adapter", None, None, None, 0, 3, note="3 have no score")
    recorded.keep(store, recorded.run(0, replace(recorded.recipe("tickets", BEFORE), measures=(empty,))))
    code, out, err = harness("trend", "tickets", EXACT, "--svg", str(tmp_path / "trend.svg"))
    assert code == 2
    assert "not measured" in out
    assert "●" not in out
    assert "trend.svg: not written, since none of these 1 runs has a value to draw" in err


# harness gc


def test_gc_shows_and_only_frees_when_told(harness: Harness, runs: list[str], store: Path) -> None:
    code, out, _ = harness("gc")
    assert (code, out) == (0, "nothing can be freed in .harness; kept: runs 2, adapters 0, results 0\n")
    for path in (store / "runs" / runs[0]).iterdir():
        os.utime(path, (0, 0))
    code, out, _ = harness("gc")
    assert code == 0
    assert out.startswith(f"run      {runs[0]}  ")
    assert out.endswith("can be freed with --yes; kept: runs 1, adapters 0, results 0\n")
    assert (store / "runs" / runs[0]).is_dir()
    _, out, _ = harness("gc", "--yes")
    assert "\nfreed " in out
    assert sorted(path.name for path in (store / "runs").iterdir()) == [runs[1]]
    assert runs[0] not in harness("runs")[1]


# The page on all this


def test_the_examples_of_the_page_are_real(harness: Harness, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = (Path(__file__).resolve().parents[3] / "docs" / "history.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\$ harness (.+)\n((?:(?!\$ |```).*\n)+)", page, re.MULTILINE)
    assert [command.split()[0] for command, _ in examples] == ["runs", "show", "compare", "trend", "gc"]
    for command, printed in examples:
        assert harness(*command.split()).out == printed


# What they cost


def test_history_needs_neither_torch_nor_what_makes_runs(runs: list[str], store: Path) -> None:
    program = (
        "import sys; from harness.cli import main; code = main(['runs']); "
        "heavy = {'torch', 'numpy', 'pydantic', 'jinja2', 'plotext', 'harness.engine'} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    from harness.pipeline.history import open_index

    assert open_index(store).problems == []  # the index is there, as after any earlier look
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
