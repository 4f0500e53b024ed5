"""What a recipe comes to, and when two recipes are the same fine-tuning."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.recipes import Recipe, fingerprint, load_recipe, resolved, training_identity

Write = Callable[..., Path]

CONTENT: Mapping[str, Any] = {
    "base": {"model": "org/model"},
    "quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "lora": {"r": 8, "lora_alpha": 16},
    "training": {"learning_rate": 0.0005, "num_train_epochs": 2},
    "data": {
        "task": "classification",
        "train": "train.jsonl",
        "validation": "validation.jsonl",
        "test": "test.jsonl",
        "labels": ["a", "b"],
    },
    "seed": 0,
}


def changed(**sections: Any) -> dict[str, Any]:
    """CONTENT with the given sections merged in."""
    content = json.loads(json.dumps(CONTENT))
    for key, value in sections.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) and key in content else value
    return content


def of(write: Write, content: Mapping[str, Any], name: str = "example") -> Recipe:
    return load_recipe(write(yaml.safe_dump({"name": name, **content}), name, complete=False))


def mark(recipe: Recipe, **changes: Any) -> str:
    arguments: dict[str, Any] = {
        "base_digest": "base",
        "data_digests": {"train": "t", "validation": "v"},
        "versions": {"torch": "2"},
        "engine_version": "1",
    }
    return fingerprint(recipe, **{**arguments, **changes})


def test_fingerprint_is_the_digest_of_canonical_json(write: Write) -> None:
    # Written out by hand: a change of the form would make every stored adapter look untrained.
    canonical = (
        '{"base_digest":"base","data_digests":{"train":"t","validation":"v"},"engine_version":"1","recipe":'
        '{"base":{"model":"org/model","revision":null},'
        '"data":{"labels":["a","b"],"system":null,"task":"classification"},'
        '"lora":{"lora_alpha":16,"lora_dropout":0.05,"r":8,"target_modules":"all-linear"},'
        '"quantization":{"bnb_4bit_quant_type":"nf4","load_in_4bit":true},"seed":0,'
        '"training":{"learning_rate":0.0005,"num_train_epochs":2.0}},"versions":{"torch":"2"}}'
    )
    assert mark(of(write, CONTENT)) == hashlib.sha256(canonical.encode()).hexdigest()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_keys_does_not_matter(write: Write, seed: int) -> None:
    draw = random.Random(seed)

    def shuffle(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        keys = list(value)
        draw.shuffle(keys)
        return {key: shuffle(value[key]) for key in keys}

    text = yaml.safe_dump(shuffle({"name": "example", **CONTENT}), sort_keys=False)
    assert mark(load_recipe(write(text, complete=False))) == mark(of(write, CONTENT))


@pytest.mark.parametrize("spelling", ["5e-4", "0.0005", "5.0E-4", ".0005", "0.50e-3"])
def test_the_spelling_of_a_number_does_not_matter(write: Write, spelling: str) -> None:
    text = yaml.safe_dump({"name": "example", **CONTENT}).replace("0.0005", spelling)
    assert spelling in text
    assert mark(load_recipe(write(text, complete=False))) == mark(of(write, CONTENT))


@pytest.mark.parametrize(
    "same",
    [
        {"lora": {"lora_dropout": 0.05, "target_modules": "all-linear"}},
        {"training": {"num_train_epochs": 2.0}},
        {"base": {"revision": None}},
        {"data": {"system": None}},
        {"description": "words for the report"},
        {"evaluation": {"few_shot": 3, "max_new_tokens": 9, "capability": "tasks"}},
        {"data": {"test": "other.jsonl"}},
        {"data": {"train": "moved/train.jsonl", "validation": "moved/validation.jsonl"}},
    ],
)
def test_what_does_not_change_the_adapter(write: Write, same: dict[str, Any]) -> None:
    assert mark(of(write, changed(**same))) == mark(of(write, CONTENT))


def test_the_name_does_not_change_the_adapter(write: Write) -> None:
    assert mark(of(write, CONTENT, "other")) == mark(of(write, CONTENT))


def test_extending_gives_the_same_as_writing_out(write: Write) -> None:
    of(write, changed(lora={"r": 2}), "parent")
    child = load_recipe(write("name: child\nextends: parent\nlora: {r: 8}\n", "child", complete=False))
    assert mark(child) == mark(of(write, CONTENT))


@pytest.mark.parametrize(
    "different",
    [
        {"lora": {"r": 9}},
        {"lora": {"lora_dropout": 0.0}},
        {"quantization": {"bnb_4bit_use_double_quant": True}},
        {"training": {"learning_rate": 0.0006}},
        {"training": {"warmup_steps": 5}},
        {"seed": 1},
        {"base": {"model": "org/other"}},
        {"base": {"revision": "abc"}},
        {"data": {"system": "Be brief."}},
        {"data": {"labels": ["a", "c"]}},
    ],
)
def test_what_changes_the_adapter(write: Write, different: dict[str, Any]) -> None:
    assert mark(of(write, changed(**different))) != mark(of(write, CONTENT))


@pytest.mark.parametrize(
    "different",
    [
        {"base_digest": "other"},
        {"data_digests": {"train": "x", "validation": "v"}},
        {"data_digests": {"train": "t", "validation": "x"}},
        {"versions": {"torch": "3"}},
        {"versions": {}},
        {"engine_version": "2"},
    ],
)
def test_digests_and_versions_change_the_fingerprint(write: Write, different: dict[str, Any]) -> None:
    recipe = of(write, CONTENT)
    assert mark(recipe, **different) != mark(recipe)


def test_the_test_set_is_not_trained_on(write: Write) -> None:
    recipe = of(write, CONTENT)
    assert mark(recipe, data_digests={"train": "t", "validation": "v", "test": "any"}) == mark(recipe)


def test_a_local_base_counts_by_its_digest_only(write: Write, tmp_path: Path) -> None:
    here = of(write, changed(base={"model": "./weights"}))
    there = of(write, changed(base={"model": str(tmp_path / "elsewhere")}))
    assert mark(here) == mark(there)
    assert mark(here) != mark(there, base_digest="other")
    assert training_identity(here)["base"]["model"] is None


def test_resolved_is_plain_json_with_paths_from_the_recipe(write: Write, tmp_path: Path) -> None:
    content = changed(
        base={"model": "../weights"},
        data={"train": "../data/./train.jsonl", "test": str(tmp_path / "test.jsonl")},
        evaluation={"capability": "tasks"},
    )
    values = resolved(of(write, content))
    assert json.loads(json.dumps(values)) == values
    assert list(values) == [
        "name", "description", "base", "quantization", "lora", "training", "data", "evaluation", "seed",
    ]  # fmt: skip
    assert values["base"]["model"] == "../weights"
    assert values["data"]["train"] == "../data/train.jsonl"
    assert values["data"]["test"] == "../test.jsonl"
    assert values["data"]["labels"] == ["a", "b"]
    assert values["evaluation"]["capability"] == "tasks"
    assert str(tmp_path) not in json.dumps(values)
    assert resolved(of(write, changed(base={"model": "./w"})))["base"]["model"] == "./w"


def test_resolved_can_be_loaded_again(write: Write) -> None:
    recipe = of(write, CONTENT)
    again = load_recipe(write(yaml.safe_dump(resolved(recipe)), complete=False))
    assert again == recipe
    assert mark(again) == mark(recipe)


def test_seeds_are_no_part_of_what_one_adapter_is(write: Write) -> None:
    """An adapter that was trained with the one seed is found again by a recipe that names several."""
    several = of(write, changed(seeds=[3, 0]))
    assert several.seeds == (3, 0)
    assert resolved(several)["seeds"] == [3, 0]
    assert mark(several.model_copy(update={"seed": 3, "seeds": ()})) == mark(of(write, changed(seed=3)))


def test_training_identity_holds_no_paths_and_names(write: Write, tmp_path: Path) -> None:
    identity = training_identity(of(write, changed(description="words", evaluation={"few_shot": 1})))
    assert set(identity) == {"base", "data", "lora", "quantization", "seed", "training"}
    assert set(identity["data"]) == {"task", "system", "labels"}
    assert "jsonl" not in json.dumps(identity)
