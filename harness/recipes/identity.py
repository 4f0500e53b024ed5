"""What a recipe comes to, and the fingerprint by which an adapter is found again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.recipes.recipe import Recipe

__all__ = ["fingerprint", "resolved", "training_identity"]

# The test set is measured on, never trained on.
_NOT_TRAINED_ON = "test"


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is used, in plain JSON values: parents merged, defaults filled in.

    Paths are relative to the recipe's directory, so that the result is the same on every machine.
    """
    directory = recipe.source.parent
    values = recipe.model_dump(mode="python", exclude={"source", *(() if recipe.seeds else ("seeds",))})
    for key in ("train", "validation", "test"):
        values["data"][key] = _relative(values["data"][key], directory)
    if values["evaluation"]["capability"] is not None:
        values["evaluation"]["capability"] = _relative(values["evaluation"]["capability"], directory)
    if _is_path(recipe.base.model):
        # The leading ./ is what tells a directory from a Hugging Face id.
        relative = _relative(Path(recipe.base.model), directory)
        values["base"]["model"] = relative if relative.startswith("../") else f"./{relative}"
    plain = json.loads(json.dumps(values, allow_nan=False))
    assert isinstance(plain, dict)
    return plain


def training_identity(recipe: Recipe) -> dict[str, Any]:
    """The part of `resolved` that changes the adapter.

    Names, description, evaluation and the test set do not, and neither does where files are: their contents
    enter the fingerprint as digests.
    """
    values = resolved(recipe)
    data = {key: values["data"][key] for key in ("task", "system", "labels")}
    base = {**values["base"], "model": None if _is_path(recipe.base.model) else values["base"]["model"]}
    return {
        "base": base,
        "data": data,
        "lora": values["lora"],
        "quantization": values["quantization"],
        "seed": values["seed"],
        "training": values["training"],
    }


def fingerprint(
    recipe: Recipe,
    *,
    base_digest: str,
    data_digests: Mapping[str, str],
    versions: Mapping[str, str],
    engine_version: str,
) -> str:
    """SHA-256, 64 hex digits, over everything that changes the adapter.

    data_digests: split -> digest of its file; "test" is ignored. versions: library -> version.
    Equal for two spellings of the same recipe: it is taken of JSON with sorted keys and no white space, with
    floats as Python's repr writes them.
    """
    content = {
        "base_digest": base_digest,
        "data_digests": {split: digest for split, digest in data_digests.items() if split != _NOT_TRAINED_ON},
        "engine_version": engine_version,
        "recipe": training_identity(recipe),
        "versions": dict(versions),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _relative(path: Path, directory: Path) -> str:
    return Path(os.path.relpath(path, directory)).as_posix()


def _is_path(model: str) -> bool:
    return model.startswith("/")
