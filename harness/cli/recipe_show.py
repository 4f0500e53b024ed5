"""`harness recipe show`: a recipe as it is used, and by which fingerprint its adapter is found."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.cli.output import Output, lines_of, shown
from harness.cli.project import FOLDERS, find_project
from harness.cli.usage import FAILURE, OK, CommandError
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.cli.usage import Commands
    from harness.pipeline import RecipeRun
    from harness.store import Adapter

__all__ = ["declare", "unknown_recipe"]

T = TypeVar("T")

_SPLITS = ("train", "validation", "test")
_UNKNOWN = "unknown"


def declare(commands: Commands) -> None:
    parser = commands.add_parser(
        "show",
        help="print a recipe's resolved values and fingerprint",
        description="Print a recipe as it is used: parents merged, defaults filled in; then its fingerprint, "
        "whether the store has the adapter, and what base model and data it stands on. Nothing is trained, "
        "loaded or downloaded.",
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="the recipe's name: its file without .yaml")
    parser.add_argument("--json", action="store_true", help="print JSON instead of YAML")
    parser.add_argument(
        "--store",
        metavar="DIR",
        type=Path,
        help="the store to look for the adapter in (default: the project's, which is .harness)",
    )
    parser.set_defaults(run=run)


@dataclass(slots=True)
class _Facts:
    """What is known of a recipe beyond its file; None where a problem says why not."""

    base_digest: str | None = None
    digests: dict[str, str] | None = None
    counts: dict[str, int] | None = None
    fingerprint: str | None = None
    adapter: Adapter | None = None
    seeds: dict[int, tuple[str, Adapter | None]] | None = None
    problems: list[str] = field(default_factory=list)

    def ask(self, compute: Callable[[], T]) -> T | None:
        try:
            return compute()
        except HarnessError as error:
            self.problems += [line for line in lines_of(error) if line not in self.problems]
            return None


def run(arguments: Any, output: Output) -> int:
    from harness.recipes import find_recipes

    project = find_project(Path.cwd())
    files = find_recipes(project.recipes_folder())
    if arguments.name not in files:
        raise CommandError(unknown_recipe(arguments.name, list(files), project.folder("recipes")))

    # Imported here: the rooms that a run needs take a second to load.
    from harness.pipeline import Places, Session
    from harness.recipes import resolved

    folders = {name: project.folder(name) for name in FOLDERS}
    if arguments.store is not None:
        folders["store"] = Path(os.path.abspath(arguments.store))
    recipe_run = Session(Places.below(project.root, **folders)).open(arguments.name)
    values = resolved(recipe_run.recipe)
    facts = _facts(recipe_run)
    if arguments.json:
        output.values(_document(values, facts))
    else:
        output.values(values, as_yaml=True)
        for name, text in _lines(values, facts, recipe_run.store.root):
            output.line(f"# {name:<11}  {text}")
    for problem in facts.problems:
        output.problem(f"error: {problem}")
    return FAILURE if facts.problems else OK


def unknown_recipe(name: str, known: list[str], folder: Path) -> str:
    """What to say of a recipe that is not in the folder."""
    from harness.recipes.blocks import nearest

    if not known:
        return f"there is no recipe {name!r}: {shown(folder)} holds none; write one as NAME.yaml there"
    near = nearest(name, known)
    hint = f"did you mean {near}? " if near else ""
    return f"there is no recipe {name!r} in {shown(folder)}; {hint}the recipes are {', '.join(known)}"


def _facts(run: RecipeRun) -> _Facts:
    facts = _Facts()
    with _without_download():
        base = facts.ask(lambda: run.base)
    facts.base_digest = base.digest if base is not None else None
    facts.digests = facts.ask(lambda: run.data_digests)
    splits = facts.ask(lambda: run.splits)
    if splits is not None:
        facts.counts = {split: len(getattr(splits, split)) for split in _SPLITS}
    if base is not None and facts.digests is not None:
        if run.recipe.seeds:  # which of them has the recipe's fingerprint is known when all are trained
            facts.seeds = facts.ask(lambda: _of_seeds(run))
        else:
            facts.fingerprint = facts.ask(lambda: run.fingerprint)
    if facts.fingerprint is not None:
        facts.adapter = run.store.adapter(facts.fingerprint)
    return facts


def _of_seeds(run: RecipeRun) -> dict[int, tuple[str, Adapter | None]]:
    fingerprints = {seed: run.of_seed(seed).fingerprint for seed in run.recipe.seeds}
    return {seed: (found, run.store.adapter(found)) for seed, found in fingerprints.items()}


@contextlib.contextmanager
def _without_download() -> Iterator[None]:
    """Showing a recipe must not fetch gigabytes; huggingface_hub reads this when it is imported."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _document(values: dict[str, Any], facts: _Facts) -> dict[str, Any]:
    return {
        "recipe": values,
        "fingerprint": facts.fingerprint,
        "adapter": _adapter(facts.adapter),
        **({} if facts.seeds is None else {"seeds": _seeds(facts.seeds)}),
        "base": {"model": values["base"]["model"], "digest": facts.base_digest},
        "data": {
            split: {
                "file": values["data"][split],
                "examples": None if facts.counts is None else facts.counts[split],
                "sha256": None if facts.digests is None else facts.digests[split],
            }
            for split in _SPLITS
        },
        "problems": facts.problems,
    }


def _adapter(adapter: Adapter | None) -> dict[str, str] | None:
    return None if adapter is None else {"folder": shown(adapter.folder), "digest": adapter.digest}


def _seeds(seeds: dict[int, tuple[str, Adapter | None]]) -> list[dict[str, Any]]:
    return [{"seed": seed, "fingerprint": found, "adapter": _adapter(own)} for seed, (found, own) in seeds.items()]


def _lines(values: dict[str, Any], facts: _Facts, store: Path) -> Iterator[tuple[str, str]]:
    """What follows the YAML, as comments: the whole output stays a YAML document."""
    if facts.seeds is None:
        yield "fingerprint", facts.fingerprint or _UNKNOWN
        yield "adapter", _where(facts.fingerprint, facts.adapter, store)
    for seed, (found, adapter) in (facts.seeds or {}).items():
        yield f"seed {seed}", f"fingerprint {found}"
        yield "adapter", _where(found, adapter, store)
    yield "base", f"{values['base']['model']}, {_digest(facts.base_digest)}"
    for split in _SPLITS:
        count = f"{_examples(facts.counts[split])}, " if facts.counts is not None else ""
        digest = _digest(facts.digests[split] if facts.digests is not None else None)
        yield split, f"{count}{digest}, {values['data'][split]}"


def _where(fingerprint: str | None, adapter: Adapter | None, store: Path) -> str:
    if adapter is not None:
        return shown(adapter.folder)
    return _UNKNOWN if fingerprint is None else f"not in {shown(store)}; the next run trains it"


def _examples(count: int) -> str:
    return "1 example" if count == 1 else f"{count} examples"


def _digest(sha256: str | None) -> str:
    return f"sha256 {sha256[:12]}" if sha256 is not None else f"sha256 {_UNKNOWN}"
