"""What the gates cost: `pytest suites/` cold, then warm, and where the time goes.

    python benchmarks/gate.py                               # about as long as `make gate` in a fresh clone
    python benchmarks/gate.py --recipe ticket_priority      # one recipe
    python benchmarks/gate.py --at-once 1                   # one after the other, in one process
    python benchmarks/gate.py --keep DIR                    # keep the store that the cold run fills
    python benchmarks/gate.py --skip-cold --store DIR       # only the warm run, on a store that is filled

Cold starts from an empty store, report folder and user cache, so it also dequantizes the embedded base model;
warm repeats the command on what cold left. Prints Markdown to stdout and passes the runs' own output to stderr.
Exit status 0 means that every run passed its gates, whether or not the targets are met.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _common import ROOT, BenchmarkError, Measured, add_date, against, amount, machine_line, measured, table

COLD_SECONDS = 8 * 60
WARM_SECONDS = 25
MEMORY_GB = 4

_FINISHED = re.compile(r"(?:\S*\[gw\d+\] )?(?P<recipe>[a-z0-9_]+): (?P<stage>\S.*?)  (?:.*  )?(?P<seconds>\d+) s")
"""A finished stage as harness/pytest_plugin/progress.py writes it where there is no terminal. A worker's line can stand
behind the dots of tests that passed."""


# ---- Where the time goes


@dataclass(frozen=True)
class RecipeCost:
    """Seconds of one recipe in one run; tests: all of its tests, with training and stages in it."""

    tests: float = 0.0
    training: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def other(self) -> float:
        """Loading libraries and models, judging, statistics, the store."""
        return self.tests - self.training - sum(self.stages.values())


@dataclass(frozen=True)
class GateRun:
    """One `pytest suites/` with what its report, its JUnit file and its progress lines tell."""

    measured: Measured
    gates: int
    gates_passed: int
    trained: frozenset[str]
    recipes: Mapping[str, RecipeCost]
    provenance: Mapping[str, Any]
    at_once: int = 1

    @property
    def outside(self) -> float | None:
        """Seconds outside of any recipe's tests: start of the interpreter, collection, report. Not known where recipes
        ran side by side."""
        return None if self.at_once > 1 else self.measured.seconds - sum(cost.tests for cost in self.recipes.values())


def stage_seconds(lines: Iterable[str]) -> dict[str, dict[str, float]]:
    """Recipe -> stage -> seconds, from the lines that a run prints when a stage is finished.

    Lines of training name no recipe and are left out: the report knows its seconds better.
    """
    found: dict[str, Counter[str]] = {}
    for line in lines:
        match = _FINISHED.fullmatch(line.strip())
        if match is not None:
            stages = found.setdefault(match["recipe"], Counter())
            stages[match["stage"]] += int(match["seconds"])
    return {recipe: dict(stages) for recipe, stages in found.items()}


def test_seconds(junit: str) -> dict[str, float]:
    """Recipe -> seconds of its tests with their fixtures, from a JUnit XML text."""
    seconds: dict[str, float] = {}
    for case in ElementTree.fromstring(junit).iter("testcase"):
        for entry in case.iter("property"):
            if entry.get("name") == "harness_recipe":
                recipe = entry.get("value", "")
                seconds[recipe] = seconds.get(recipe, 0.0) + float(case.get("time", "0"))
    return seconds


test_seconds.__test__ = False  # type: ignore[attr-defined]  # where a test module imports it


def gate_run(run: Measured, report: Mapping[str, Any], junit: str, at_once: int = 1) -> GateRun:
    """Puts together what one run left."""
    recipes = report["recipes"]
    trained = frozenset(recipe["name"] for recipe in recipes if recipe["from_store"] is False)
    stages, tests = stage_seconds(run.lines), test_seconds(junit)
    outcomes = [gate["outcome"] for recipe in recipes for gate in recipe["gates"]]
    return GateRun(
        measured=run,
        gates=len(outcomes),
        gates_passed=outcomes.count("pass"),
        trained=trained,
        recipes={
            recipe["name"]: RecipeCost(
                tests=tests.get(recipe["name"], 0.0),
                training=recipe["training"]["seconds"] if recipe["name"] in trained and recipe["training"] else 0.0,
                stages=stages.get(recipe["name"], {}),
            )
            for recipe in recipes
        },
        provenance=report["provenance"],
        at_once=at_once,
    )


def run_gates(
    project: Path, recipes: Sequence[str], *, store: Path, work: Path, env: Mapping[str, str], at_once: int = 1
) -> GateRun:
    """`pytest suites/` in `project`. work: an empty folder for the report and the JUnit file.

    Raises BenchmarkError if the run ended without a report.
    """
    reports, junit = work / "reports", work / "junit.xml"
    command = [sys.executable, "-m", "pytest", "suites/"]
    for name in recipes:
        command += ["--harness-recipe", name]
    command += ["--harness-store", str(store), "--harness-report-dir", str(reports)]
    command += ["--junitxml", str(junit), "-o", "junit_duration_report=total", *_workers(at_once)]
    run = measured(command, cwd=project, env=env)
    report = reports / "latest" / "report.json"
    if not report.is_file() or not junit.is_file():
        raise BenchmarkError(
            f"pytest suites/ in {project} ended with exit status {run.status} and without a report; what it printed "
            "is above."
        )
    told = json.loads(report.read_text(encoding="utf-8"))
    return gate_run(run, told, junit.read_text(encoding="utf-8"), at_once)


def _workers(at_once: int) -> list[str]:
    """As the Makefile's AT_ONCE."""
    return ["--numprocesses", str(at_once)] if at_once > 1 else []


# ---- Tables


def figures_table(runs: Mapping[str, GateRun]) -> str:
    """Wall time, processor time, memory, gates and exit status of each run beside their targets."""
    limits = {"cold": COLD_SECONDS, "warm": WARM_SECONDS}
    rows: list[tuple[str, str, str, str]] = []
    for name, run in runs.items():
        seconds, status, peak = run.measured.seconds, run.measured.status, run.measured.peak_gb
        limit = limits[name]
        shown = f"{limit / 60:.0f} min" if limit >= 60 else f"{limit} s"
        rows += [
            (f"{name}: wall time", amount(seconds, "s"), f"at most {shown}", against(seconds, limit, "s")),
            (f"{name}: processor time", amount(run.measured.processor, "s"), "", ""),
            (
                f"{name}: peak memory of the largest process",
                amount(peak, "GB"),
                f"at most {MEMORY_GB} GB",
                against(peak, MEMORY_GB, "GB"),
            ),
            (f"{name}: gates passed", f"{run.gates_passed} of {run.gates}", "", ""),
            (f"{name}: exit status", str(status), "0", "met" if status == 0 else "missed"),
        ]
    return table(("figure", "measured:", "target:", "result"), rows)


def costs_table(runs: Mapping[str, GateRun]) -> str:
    """Seconds by recipe and stage, a column a run; a dash where a run did not have the stage."""
    rows: list[tuple[str, ...]] = []

    def row(what: str, part: str, seconds: Iterable[float | None]) -> None:
        rows.append((what, part, *("-" if s is None else f"{s:,.1f}" for s in seconds)))

    names = dict.fromkeys(name for run in runs.values() for name in run.recipes)
    for name in names:
        costs = [run.recipes.get(name) for run in runs.values()]
        row(
            name,
            "training",
            (
                cost.training if cost is not None and name in run.trained else None
                for cost, run in zip(costs, runs.values(), strict=True)
            ),
        )
        for stage in dict.fromkeys(stage for cost in costs if cost for stage in cost.stages):
            row(name, stage, (cost.stages.get(stage) if cost else None for cost in costs))
        row(name, "other", (cost.other if cost else None for cost in costs))
    row("outside of tests", "start, collection, report", (run.outside for run in runs.values()))
    row("all", "", (run.measured.seconds for run in runs.values()))
    return table(("recipe", "stage", *(f"{name}, s:" for name in runs)), rows)


NOTES = """\
`other`: loading libraries and models, judging, statistics, store. Stages are whole seconds, as the run prints them, so
`other` is off by up to half a second a stage and can be below zero. A dash: the run took it from the store."""


def page(command: str, runs: Mapping[str, GateRun], machine: str) -> str:
    """What the program prints, ready for RESULTS.md."""
    return "\n\n".join((f"`{command}`", machine, figures_table(runs), "Where the time goes:", costs_table(runs), NOTES))


# ---- The command


def _environment(cache: Path | None) -> dict[str, str]:
    """The caller's environment without a paid judge; cache: a user cache of the benchmark's own."""
    env = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    if cache is not None:
        # Downloads are no part of a cold run: the hub's cache stays where it was.
        usual = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        env.setdefault("HF_HOME", str(usual / "huggingface"))
        env["XDG_CACHE_HOME"] = str(cache)
    return env


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gate.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--project", type=Path, default=ROOT, help="folder with suites/ (default: this checkout)")
    parser.add_argument("--recipe", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--at-once", type=int, default=3, metavar="N", help="recipes side by side (3, as make gate)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder for the store, which is kept")
    parser.add_argument("--skip-cold", action="store_true", help="only the warm run; needs --store")
    parser.add_argument("--store", type=Path, metavar="DIR", help="with --skip-cold: the store to use")
    add_date(parser)
    chosen = parser.parse_args(argv)
    if chosen.skip_cold != (chosen.store is not None):
        parser.error("--skip-cold and --store DIR go together; to keep the store of a cold run use --keep DIR")
    if chosen.skip_cold and chosen.keep is not None:
        parser.error("--keep is for the store of a cold run, and --skip-cold has none")
    if chosen.skip_cold and not chosen.store.is_dir():
        parser.error(f"--store {chosen.store} is no folder; fill one with --keep {chosen.store}")
    if chosen.keep is not None and chosen.keep.exists() and (not chosen.keep.is_dir() or any(chosen.keep.iterdir())):
        parser.error(f"--keep {chosen.keep} is not empty, and a cold run starts from nothing; name a new folder")
    if chosen.at_once < 1:
        parser.error(f"--at-once {chosen.at_once}: name 1 or more")
    if not (chosen.project / "suites").is_dir():
        parser.error(f"--project {chosen.project} has no folder suites/")
    return chosen


def main(argv: Sequence[str]) -> int:
    chosen = _arguments(argv)
    runs: dict[str, GateRun] = {}
    with tempfile.TemporaryDirectory(prefix="gate-benchmark-") as temporary:
        folder = Path(temporary)
        store = (chosen.store or chosen.keep or folder / "store").resolve()
        env = _environment(None if chosen.skip_cold else folder / "cache")
        for name in ("warm",) if chosen.skip_cold else ("cold", "warm"):
            print(f"--- {name}", file=sys.stderr)
            work = folder / name
            work.mkdir()
            try:
                runs[name] = run_gates(
                    chosen.project.resolve(),
                    chosen.recipe,
                    store=store,
                    work=work,
                    env=env,
                    at_once=chosen.at_once,
                )
            except BenchmarkError as error:
                print(f"gate.py: {name}: {error}", file=sys.stderr)
                return 1
    named = (f"--harness-recipe {name}" for name in chosen.recipe)
    command = " ".join(["pytest suites/", *_workers(chosen.at_once), *named])
    print(page(command, runs, machine_line(runs["warm"].provenance, chosen.date)))
    if runs["warm"].trained:
        names = ", ".join(sorted(runs["warm"].trained))
        print(f"gate.py: the warm run trained {names}, so it was not warm", file=sys.stderr)
        return 1
    return int(any(run.measured.status != 0 for run in runs.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
