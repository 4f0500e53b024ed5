"""A directory with recipe files, written by the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import RecipeError
from harness.recipes import load_recipe

COMPLETE = """\
name: {name}
base: {{model: smollm2-135m-instruct}}
data:
  task: generation
  train: ../data/train.jsonl
  validation: ../data/validation.jsonl
  test: ../data/test.jsonl
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(text, name="example", complete=True) -> path; complete adds the keys that every recipe needs."""

    def write(text: str, name: str = "example", *, complete: bool = True) -> Path:
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text((COMPLETE.format(name=name) if complete else "") + text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def problems(write: Callable[..., Path]) -> Callable[..., list[str]]:
    """problems(text, ...) -> the lines of the RecipeError that loading the text raises."""

    def problems(text: str, name: str = "example", *, complete: bool = True) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            load_recipe(write(text, name, complete=complete))
        return list(caught.value.problems)

    return problems
