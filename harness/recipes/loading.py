"""From recipe files to recipes: finding, `extends`, paths, and every problem of a file at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import RecipeError
from harness.recipes.arguments import BLOCKS
from harness.recipes.blocks import Problem, nearest, shown
from harness.recipes.recipe import Recipe, problems_of
from harness.recipes.strict_yaml import read_mapping

__all__ = ["TOP_LEVEL_KEYS", "check_recipe", "find_recipes", "load_recipe"]

TOP_LEVEL_KEYS = ("name", "extends", *(key for key in Recipe.model_fields if key not in {"name", "source"}))
# A name and a description speak of one recipe; a child that inherited them would be reported as its parent.
_NOT_INHERITED = ("name", "description")
_DATA_FILES = ("train", "validation", "test")
_RECIPE_NAME = re.compile(r"[a-z0-9_]+\Z")
_MAX_PARENTS = 10

Origins = dict[tuple[str, ...], Path]


def find_recipes(directory: Path) -> dict[str, Path]:
    """The recipes of a directory, name -> file, sorted by name. Subdirectories and hidden files are left out.

    Raises RecipeError if there is no such directory or a file in it is named as no recipe can be.
    """
    if not directory.is_dir():
        found = "is not a directory" if directory.exists() else "does not exist"
        raise RecipeError(f"recipe directory {directory} {found}; create it, or correct harness_recipes")
    problems = []
    files = {}
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".yml":
            problems.append(f"{path.name}: recipes end in .yaml; rename it to {path.stem}.yaml")
        elif path.suffix == ".yaml" and not _RECIPE_NAME.match(path.stem):
            problems.append(f"{path.name}: recipe names are of small letters, digits and _; rename it")
        elif path.suffix == ".yaml":
            files[path.stem] = path
    if problems:
        raise RecipeError(problems)
    return files


def load_recipe(path: Path) -> Recipe:
    """The recipe of a file, with everything it extends. Data files are named, not read.

    Raises RecipeError with every problem, one line each: "file.yaml: lora.r must be at least 1, got 0. ...".
    """
    path = Path(path).absolute()
    values, origins = _read(path, ())
    problems: list[Problem] = []
    name = values.get("name")
    if isinstance(name, str) and name != path.stem:
        problems.append(Problem(("name",), f"must be the file's name, {path.stem}, got {shown(name)}."))
    if "source" in values:  # a field of Recipe, but not a key of the file
        del values["source"]
        keys = ", ".join(TOP_LEVEL_KEYS)
        problems.append(Problem(("source",), f"is not a key of a recipe. The keys are {keys}."))
    recipe = None
    try:
        recipe = Recipe.model_validate({**values, "source": path})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems += problems_of(detail, TOP_LEVEL_KEYS)
    if recipe is None or problems:
        # In the order of the file; what it lacks comes last.
        order = {key: place for place, key in enumerate(dict.fromkeys((*values, "source", *TOP_LEVEL_KEYS)))}
        problems.sort(key=lambda problem: order[problem.path[0]])
        raise RecipeError([_line(values, origins, path, problem) for problem in problems])
    return recipe


def check_recipe(path: Path) -> list[str]:
    """Every problem of a recipe file, one line each, absent data files included; empty if there is none."""
    try:
        recipe = load_recipe(path)
    except RecipeError as error:
        return list(error.problems)
    problems = []
    for key in _DATA_FILES:
        file: Path = getattr(recipe.data, key)
        if not file.is_file():
            found = "is a directory" if file.is_dir() else "does not exist"
            problems.append(f"{recipe.source.name}: data.{key} names {file}, which {found}. Check the path.")
    capability = recipe.evaluation.capability
    if capability is not None and not capability.is_dir():
        found = "is not a directory" if capability.exists() else "does not exist"
        problems.append(f"{recipe.source.name}: evaluation.capability names {capability}, which {found}.")
    return problems


def _line(values: Mapping[str, Any], origins: Origins, path: Path, problem: Problem) -> str:
    # A value that came from a parent is wrong in the parent's file; one that is missing, in the recipe's own.
    present: Any = values
    for part in problem.path:
        present = present.get(part) if isinstance(present, Mapping) else present
    prefixes = [problem.path[:length] for length in range(len(problem.path), 0, -1)]
    file = next((origins[prefix] for prefix in prefixes if prefix in origins and present is not None), path)
    return f"{file.name}: {_dotted(problem.path)} {problem.text}"


def _dotted(path: tuple[str, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if part.isdigit() else f".{part}" if text else part
    return text


def _read(path: Path, children: tuple[Path, ...]) -> tuple[dict[str, Any], Origins]:
    """A file's values merged over those of its parents, and which file gave each of them."""
    values = read_mapping(path)
    parent = values.pop("extends", None)
    _resolve_paths(values, path.parent)
    merged: dict[str, Any] = {}
    origins: Origins = {}
    if parent is not None:
        parent_path = _parent_path(path, parent)
        chain = (*children, path)
        if parent_path in chain:
            names = " -> ".join(file.name for file in (*chain[chain.index(parent_path) :], parent_path))
            raise RecipeError(f"{path.name}: extends goes in a circle: {names}. Remove one of them.")
        if len(chain) > _MAX_PARENTS:
            raise RecipeError(f"{path.name}: extends goes over more than {_MAX_PARENTS} files. Shorten the chain.")
        merged, origins = _read(parent_path, chain)
        for key in _NOT_INHERITED:
            merged.pop(key, None)
    _merge(merged, values, origins, path, ())
    return merged, origins


def _parent_path(path: Path, parent: object) -> Path:
    if not isinstance(parent, str) or not parent:
        raise RecipeError(f"{path.name}: extends must name a recipe or its path, got {shown(parent)}.")
    file = path.parent / (f"{parent}.yaml" if _RECIPE_NAME.match(parent) else parent)
    # Resolved, so that a circle is noticed however its paths are written.
    file = file.resolve() if file.is_file() else file
    if not file.is_file():
        siblings = [other.stem for other in path.parent.glob("*.yaml") if other.stem != path.stem]
        near = nearest(parent, siblings)
        hint = f"Did you mean {near}?" if near else "Name a recipe beside this file, or a path from here."
        raise RecipeError(f"{path.name}: extends names {shown(parent)}, and {file} does not exist. {hint}")
    return file


def _resolve_paths(values: dict[str, Any], directory: Path) -> None:
    """Turns paths absolute, from the file that names them."""
    for section, keys in (("data", _DATA_FILES), ("evaluation", ("capability",))):
        block = values.get(section)
        if isinstance(block, dict):
            for key in keys:
                if isinstance(block.get(key), str) and block[key]:
                    block[key] = _absolute(directory, block[key])
    base = values.get("base")
    if isinstance(base, dict) and isinstance(base.get("model"), str) and re.match(r"\.{0,2}/", base["model"]):
        base["model"] = str(_absolute(directory, base["model"]))


def _absolute(directory: Path, path: str) -> Path:
    # Not resolve(): a link in a data directory is the user's way to say where the data is.
    return Path(os.path.normpath(directory / path))


def _merge(
    into: dict[str, Any], values: Mapping[str, Any], origins: Origins, file: Path, path: tuple[str, ...]
) -> None:
    for key, value in values.items():
        here = (*path, key)
        inherited = key in into
        if not isinstance(value, dict):
            for known in [known for known in origins if known[: len(here)] == here]:
                del origins[known]
        if inherited and value is None and here[0] in BLOCKS:
            del into[key]  # back to the default
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, origins, file, here)
        else:
            into[key] = value
            origins[here] = file
