"""`harness recipe check`: every problem of every recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.output import Output, lines_of, shown
from harness.cli.project import find_project
from harness.cli.usage import FAILURE, OK, CommandError
from harness.errors import HarnessError, RecipeError

if TYPE_CHECKING:
    from harness.cli.usage import Commands

__all__ = ["declare"]


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "check",
        help="name everything that is wrong with the recipes",
        description="Check recipes, and that the files they name are there. A problem is a line on stderr.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        type=Path,
        help="a recipe file, or a folder of them (default: the project's recipes)",
    )
    parser.add_argument("--data", action="store_true", help="also read the data sets and check every example")
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    place: Path = arguments.path or find_project(Path.cwd()).recipes_folder()
    files, problems = _recipe_files(place)
    counts = []
    for file in files:
        found, count = _check(file, data=arguments.data)
        problems += found
        counts += count
    # A problem of a recipe that several extend would be reported once for each of them.
    problems = list(dict.fromkeys(problems))
    for problem in problems:
        output.problem(problem)
    for line in counts:
        output.line(line)
    if problems:
        return FAILURE
    recipes = "1 recipe is" if len(files) == 1 else f"{len(files)} recipes are"
    output.line(f"{recipes} valid{', and so is the data' if arguments.data else ''}")
    return OK


def _recipe_files(place: Path) -> tuple[list[Path], list[str]]:
    """The recipe files that `place` stands for, and the problems of their names."""
    from harness.recipes import find_recipes

    if place.is_file():
        if place.suffix != ".yaml":
            raise CommandError(f"{shown(place)}: recipe files end in .yaml; rename it, or name another file")
        return [place], []
    if not place.is_dir():
        raise CommandError(f"{shown(place)}: no such file or folder; name a recipe file or a folder of recipes")
    problems: list[str] = []
    try:
        files = list(find_recipes(place).values())
    except RecipeError as error:
        # Files with a wrong name keep the rest from being found, and the rest is to be checked all the same.
        problems = list(error.problems)
        misnamed = {problem.partition(": ")[0] for problem in problems}
        named = (file for file in sorted(place.glob("[!.]*.yaml")) if file.name not in misnamed)
        files = [file for file in named if file.is_file()]
    if not files and not problems:
        raise CommandError(f"{shown(place)}: no recipe is here; recipes are files of the form NAME.yaml")
    return files, problems


def _check(file: Path, *, data: bool) -> tuple[list[str], list[str]]:
    """The problems of a recipe, and a line on its data where that was asked for and is right."""
    from harness.recipes import check_recipe, load_recipe

    problems = check_recipe(file)
    if problems or not data:
        return problems, []
    # Imported here: the rooms that a run needs take a second to load.
    from harness.pipeline import RecipeRun
    from harness.progress import Silent
    from harness.store import Store

    # Reading data touches no store, but a RecipeRun has one.
    run = RecipeRun(load_recipe(file), store=Store(Path(".harness")), progress=Silent())
    try:
        train, validation, test = run.splits
    except HarnessError as error:
        return list(lines_of(error)), []
    counts = f"{len(train)} train, {len(validation)} validation, {len(test)} test examples"
    return [], [f"{run.recipe.name}: {counts}"]
