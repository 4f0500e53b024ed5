"""`harness recipe schema`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from harness.recipes import recipe_schema

Harness = Callable[..., tuple[int, str, str]]


def test_it_prints_the_schema(harness: Harness) -> None:
    code, out, err = harness("recipe", "schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == recipe_schema()


def test_it_writes_the_committed_file(harness: Harness) -> None:
    committed = Path(__file__).resolve().parents[3] / "docs" / "recipe.schema.json"
    assert harness("recipe", "schema")[1] == committed.read_text(encoding="utf-8")
