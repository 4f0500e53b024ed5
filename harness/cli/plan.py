"""`harness plan`: what each gate can decide, before anything is trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.output import Output, shown
from harness.cli.project import find_project
from harness.cli.recipe_show import unknown_recipe
from harness.cli.usage import FAILURE, OK, CommandError
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.cli.usage import Commands

__all__ = ["declare"]

_LONGEST_NAME = 44
_NO_TESTS = 5  # pytest's exit status


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "plan",
        help="what each gate can decide, before anything is trained",
        description="Run the suites without a model and print of each gate how many examples it has, the smallest "
        "difference that it decides with 80 %% power, and the examples needed for the margin asked. Nothing is "
        "trained, loaded or downloaded.",
        allow_abbrev=False,
    )
    parser.add_argument("recipes", metavar="RECIPE", nargs="*", help="recipes to plan for (default: all)")
    parser.add_argument(
        "--suites", metavar="PATH", type=Path, help="a suite, or the folder of them (default: the project's suites)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    from harness.recipes import find_recipes

    project = find_project(Path.cwd())
    names = list(find_recipes(project.recipes_folder()))
    for name in arguments.recipes:
        if name not in names:
            raise CommandError(unknown_recipe(name, names, project.folder("recipes")))
    suites: Path = arguments.suites or project.root / "suites"
    if not suites.exists():
        raise CommandError(f"there are no suites at {shown(suites)}; name them with --suites")
    plan = _collected(suites, arguments.recipes)
    for problem in plan["problems"]:
        output.problem(f"error: {problem}")
    if not any(recipe["gates"] for recipe in plan["recipes"]) and not plan["problems"]:
        of = f" of {', '.join(arguments.recipes)}" if arguments.recipes else ""
        raise CommandError(f"no test in {shown(suites)} asks a gate{of}; write one, or name other suites with --suites")
    if arguments.json:
        output.values(plan)
    else:
        for line in _lines(plan):
            output.line(line)
    return FAILURE if plan["problems"] else OK


def _collected(suites: Path, recipes: Sequence[str]) -> dict[str, Any]:
    """What `pytest --harness-plan` writes. A process of its own: suites may do what they like to it."""
    with tempfile.TemporaryDirectory(prefix="harness-plan-") as folder:
        file = Path(folder) / "plan.json"
        # After the project's own options, of which -x, -n and a cache would lose gates or leave traces.
        options = ["--maxfail=0", "-o", f"cache_dir={folder}/cache", *(["-n0"] if find_spec("xdist") else [])]
        options += [f"--harness-recipe={name}" for name in recipes]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", str(suites), f"--harness-plan={file}", *options],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            last = said[-1] if said else "it said nothing"
            raise HarnessError(
                f"pytest ended with exit status {done.returncode} before it ran a test: {last}; see "
                f"`pytest {shown(suites)} --collect-only`"
            ) from None
    if done.returncode not in (0, 1, _NO_TESTS) and not plan["problems"]:
        plan["problems"].append(f"pytest ended with exit status {done.returncode}; see `pytest {shown(suites)}`")
    return plan


def _lines(plan: Mapping[str, Any]) -> Iterator[str]:
    for number, recipe in enumerate(plan["recipes"]):
        if number:
            yield ""
        yield from _recipe_lines(recipe["name"], recipe["gates"])
    if plan["recipes"]:
        yield ""
        yield "decides: the smallest distance from the threshold or margin that the interval shows with 80 % power."
        yield "needed: examples for the margin asked; for a threshold or gain, for the distance that was measured."
    for test in plan["skipped"]:
        yield f"{test} was skipped; its gates are not planned"


def _recipe_lines(name: str, gates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{name}: {'1 gate' if len(gates) == 1 else f'{len(gates)} gates'}"
    rows = [("decides", "needed", "n", "rests on", "measure", "rule"), *map(_row, gates)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [cell.rjust(width) for cell, width in zip(row[:3], widths, strict=False)]
        cells += [cell.ljust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        yield f"  {'  '.join(cells)}".rstrip()
        if number and gates[number - 1]["note"]:
            yield f"    {gates[number - 1]['note']}"
    for problem, count in Counter(gate["problem"] for gate in gates if gate["problem"]).items():
        yield f"  no plan for {'1 gate' if count == 1 else f'{count} gates'}: {problem}"
    assumed: dict[str, set[str]] = {}
    for gate in gates:
        for key, value in () if gate["measured"] else gate["rests_on"].items():
            # Each range has its own spread.
            assumed.setdefault(key, set()).add("a quarter of the range" if key == "spread" else f"{value:.3g}")
    if assumed:
        listed = ", ".join(f"{key} {' or '.join(sorted(values))}" for key, values in assumed.items())
        yield f"  assumed: {listed}; a run measures them"


def _row(gate: Mapping[str, Any]) -> tuple[str, ...]:
    name = gate["measure"] if gate["view"] == "adapter" else f"{gate['measure']} ({gate['view']})"
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 2]}…]"
    if gate["slice_name"] is not None:
        part = f"={gate['slice_value']}" if gate["slice_value"] is not None else ""
        name += f" where {gate['slice_name']}{part}"
    rests_on = "no plan" if gate["problem"] else "measured" if gate["measured"] else "assumed"
    by = " (by the estimate)" if gate["decide"] == "point" else ""
    return (
        "-" if gate["smallest"] is None else f"{gate['smallest']:.3f}",
        "-" if gate["needed"] is None else f"{gate['needed']:,}",
        "-" if gate["n"] is None else f"{gate['n']:,}",
        rests_on if gate["problem"] or gate["rests_on"] else "-",
        name,
        f"{gate['rule']}{by}",
    )
