"""The JSON Schema for editors: current, valid, and of one mind with the loader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from harness.errors import RecipeError
from harness.recipes import find_recipes, load_recipe, recipe_schema
from harness.recipes.arguments import BLOCKS
from harness.recipes.blocks import allowed_arguments
from harness.recipes.strict_yaml import read_mapping

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "docs" / "recipe.schema.json"


def is_valid(path: Path) -> bool:
    return jsonschema.Draft202012Validator(recipe_schema()).is_valid(read_mapping(path))


def test_the_committed_schema_is_current() -> None:
    expected = json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"
    assert COMMITTED.read_text(encoding="utf-8") == expected, (
        'write it again: python -c "import json; from harness.recipes import recipe_schema; '
        'print(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))" > docs/recipe.schema.json'
    )


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(recipe_schema())


def test_the_schema_names_every_key() -> None:
    properties = recipe_schema()["properties"]
    for block in BLOCKS:
        assert set(properties[block]["properties"]) == set(allowed_arguments(block))
    assert "source" not in properties
    assert "extends" in properties


def test_the_recipes_of_this_repository_are_valid() -> None:
    found = find_recipes(ROOT / "fixtures" / "recipes")
    assert found
    assert [name for name, path in found.items() if not is_valid(path)] == []


GOOD = [
    "",
    "lora: {r: 8, target_modules: [q_proj], init_lora_weights: gaussian}",
    "lora: {init_lora_weights: true}",
    "training: {learning_rate: 1e-3, max_length: null, lr_scheduler_type: cosine, num_train_epochs: 2}",
    "quantization: {load_in_4bit: true, bnb_4bit_compute_dtype: bfloat16, llm_int8_skip_modules: [a]}",
    "evaluation: {few_shot: 0, capability: tasks}\nseed: 4\ndescription: words",
]
BAD = [
    "lora: {r: 0}",
    "lora: {r: 1.5}",
    "lora: {lora_dropout: 1}",
    "lora: {bias: all}",
    "lora: {rank: 3}",
    "lora: 3",
    "training: {learning_rate: 0}",
    "training: {output_dir: x}",
    "training: {optim: adam}",
    "quantization: {load_in_4bit: 'yes'}",
    "evaluation: {few_shot: -1}",
    "seed: -1",
    "zzz: 1",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_the_loader_takes_is_valid(write: Callable[..., Path], text: str) -> None:
    path = write(text)
    load_recipe(path)
    assert is_valid(path)


@pytest.mark.parametrize("text", BAD)
def test_what_the_loader_refuses_is_not_valid(write: Callable[..., Path], text: str) -> None:
    path = write(text)
    with pytest.raises(RecipeError):
        load_recipe(path)
    assert not is_valid(path)


def test_a_child_needs_only_its_name(write: Callable[..., Path]) -> None:
    assert is_valid(write("name: c\nextends: parent\ndata: {system: x}\nlora: {r: null}\n", "c", complete=False))
    assert not is_valid(write("name: c\ndata: {system: x}\n", "c", complete=False))
    assert not is_valid(write("extends: parent\n", "c", complete=False))
