"""`harness runs`: the runs that the store has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.cli.history import add_store, commit_in_words, count, index_of, short, store_of, when
from harness.cli.output import Output, shown
from harness.cli.usage import FAILURE, OK, CommandError

if TYPE_CHECKING:
    from harness.cli.usage import Commands
    from harness.store import RecipeEntry, RunEntry

__all__ = ["declare"]

_LIMIT = 20


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "runs",
        help="list earlier runs",
        description="List the runs that the store has, newest first: when, how long, at which commit, and how each "
        "recipe did.",
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", metavar="NAME", help="only runs of this recipe, and only what they say of it")
    parser.add_argument(
        "--limit", metavar="N", type=count, default=_LIMIT, help=f"at most so many runs (default: {_LIMIT})"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_store(parser)
    parser.set_defaults(run=run)


def run(arguments: Any, output: Output) -> int:
    root = store_of(arguments)
    index = index_of(root, output)
    known = index.recipe_names()
    if arguments.recipe is not None and arguments.recipe not in known:
        raise CommandError(
            f"no run in {shown(root)} has the recipe {arguments.recipe!r}; they have: {', '.join(known) or 'none'}"
        )
    found = index.runs(recipe=arguments.recipe, limit=arguments.limit)
    if arguments.recipe is not None:
        found = [_only(entry, arguments.recipe) for entry in found]
    if arguments.json:
        output.values({"runs": [_form(entry) for entry in found]})
    else:
        for line in _lines(found):
            output.line(line)
        if not found and not index.problems:
            output.line(f"no run is recorded in {shown(root)}; `pytest suites/` makes one")
    return FAILURE if index.problems else OK


def _only(entry: RunEntry, recipe: str) -> RunEntry:
    return dataclasses.replace(entry, recipes=tuple(one for one in entry.recipes if one.name == recipe))


def _lines(found: Sequence[RunEntry]) -> Iterator[str]:
    from harness.records import Outcome
    from harness.report.wording import VERDICT_WORDS, duration

    # A recipe has a line of its own: beside the run, three of them would not fit into 80 characters.
    rows = [(e.run_id, when(e.started_at), duration(e.seconds), commit_in_words(e.commit, e.dirty)) for e in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    verdicts = max(map(len, VERDICT_WORDS.values()))
    name = max((len(recipe.name) for entry in found for recipe in entry.recipes), default=0)
    for entry, row in zip(found, rows, strict=True):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for recipe in entry.recipes:
            verdict = VERDICT_WORDS[Outcome(recipe.outcome)].ljust(verdicts)
            yield f"  {verdict}  {recipe.name.ljust(name)}  {_gates(recipe)}, adapter {short(recipe.adapter_digest)}"


def _gates(recipe: RecipeEntry) -> str:
    if not recipe.gates:
        return "no gate"
    return f"{recipe.passed} of {recipe.gates} {'gate' if recipe.gates == 1 else 'gates'}"


def _form(entry: RunEntry) -> dict[str, Any]:
    return {
        "run_id": entry.run_id,
        "digest": entry.digest,
        "started_at": entry.started_at,
        "duration_seconds": entry.seconds,
        "outcome": entry.outcome,
        "commit": entry.commit,
        "dirty": entry.dirty,
        "recipes": [
            {
                "name": recipe.name,
                "outcome": recipe.outcome,
                "adapter_digest": recipe.adapter_digest,
                "gates": recipe.gates,
                "passed": recipe.passed,
            }
            for recipe in entry.recipes
        ],
    }
