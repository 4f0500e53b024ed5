"""Recipes are read before every test run: no heavy library, and a fraction of a second."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import time
started = time.process_time()
import pydantic
from pydantic import BaseModel, Field
with_pydantic = time.process_time() - started
import json, sys
from pathlib import Path
from harness.recipes import fingerprint, find_recipes, load_recipe, recipe_schema, resolved
for path in find_recipes(Path(sys.argv[1])).values():
    recipe = load_recipe(path)
loaded = time.process_time() - started
resolved(recipe)
fingerprint(recipe, base_digest="", data_digests={}, versions={}, engine_version="")
recipe_schema()
import harness.data
modules = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"seconds": loaded, "pydantic": with_pydantic, "modules": modules}))
"""
HEAVY = {
    "torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "accelerate", "lm_eval", "numpy",
    "scipy", "pandas", "sklearn", "anthropic", "jinja2",
}  # fmt: skip


@pytest.fixture
def directory(write: Callable[..., Path]) -> Path:
    for name in ("one", "two", "three", "four"):
        path = write("lora: {r: 8}\ntraining: {learning_rate: 5e-4}\nquantization: {load_in_4bit: true}\n", name)
    return path.parent


def run(directory: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_no_heavy_library_is_imported(directory: Path) -> None:
    modules = run(directory)["modules"]
    assert isinstance(modules, list)
    assert "pydantic" in modules  # the program did load recipes
    assert HEAVY & set(modules) == set()


def test_loading_all_recipes_takes_less_than_a_quarter_of_a_second(directory: Path) -> None:
    # Processor time, the best of five, on the scale of a machine that imports pydantic in 0.09 s: how fast
    # and how busy the machine is must not decide this test.
    runs = [run(directory) for _ in range(5)]
    seconds, pydantic = (min(float(str(found[key])) for found in runs) for key in ("seconds", "pydantic"))
    assert seconds * min(1.0, 0.09 / pydantic) < 0.25
