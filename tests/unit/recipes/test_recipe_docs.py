"""docs/recipes.md names every key, and its example and messages are real."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.recipes import Base, Data, Evaluation, load_recipe
from harness.recipes.arguments import BLOCKS, Block
from harness.recipes.blocks import allowed_arguments
from harness.recipes.loading import TOP_LEVEL_KEYS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "recipes.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text from a heading to the next one of the same level or above."""
    found = re.search(rf"^(#+) {title}\n(.*?)(?=^#{{1,3}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found.group(2)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_key_of_a_block(block: Block) -> None:
    named = set(re.findall(r"`([a-z0-9_]+)`", section(block).split("The harness decides")[0]))
    assert set(allowed_arguments(block)) - named == set()


def test_every_other_key() -> None:
    keys = {*TOP_LEVEL_KEYS, *Base.model_fields, *Data.model_fields, *Evaluation.model_fields}
    assert keys - set(re.findall(r"^\| `([a-z_]+)`", section("Keys"), re.MULTILINE)) == set()


def test_refused_keys_are_refused() -> None:
    table = section("training").split("The harness decides")[1]
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        for key in re.findall(r"`([a-z_]+)\*?`", row):
            assert key not in allowed_arguments("training"), key


def test_the_example_loads(write: Callable[..., Path]) -> None:
    (example,) = re.findall(r"```yaml\n(name: transaction_category\n.*?)```", TEXT, re.DOTALL)
    recipe = load_recipe(write(example, "transaction_category", complete=False))
    assert recipe.training["learning_rate"] == 0.0005
    (child,) = re.findall(r"```yaml\n(name: overcooked\n.*?)```", TEXT, re.DOTALL)
    assert load_recipe(write(child, "overcooked", complete=False)).training["learning_rate"] == 0.01


def test_the_messages_are_those_a_user_gets(problems: Callable[..., list[str]]) -> None:
    lines = problems("lora: {r: 0}\ntraining: {max_seq_length: 9}\n", "my_recipe")
    lines += problems(
        "name: my_recipe\nbase: {model: m}\ndata: {task: chat, train: a, validation: b, test: c, trian: d}\n",
        "my_recipe",
        complete=False,
    )
    lines += problems("#\n#\n#\n#\nr: 1\n#\nr: 2\n", "my_recipe", complete=False)
    assert len(lines) == 4
    for line in lines:
        assert line in section("Errors") + section("YAML")
