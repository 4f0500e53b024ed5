"""A project of its own in an empty folder, and the command to run there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cli import main

RECIPE = """\
name: {name}
base: {{model: ../base}}
lora: {{r: 8}}
data:
  task: generation
  train: ../data/train.jsonl
  validation: ../data/validation.jsonl
  test: ../data/test.jsonl
"""
COUNTS = {"train": 3, "validation": 1, "test": 2}


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, and the current one: one recipe, its data, a base model's files, no store."""
    root = tmp_path / "project"
    for folder in ("recipes", "data", "base"):
        (root / "fixtures" / folder).mkdir(parents=True)
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "fixtures" / "recipes" / "tickets.yaml").write_text(RECIPE.format(name="tickets"))
    for split, count in COUNTS.items():
        lines = [
            json.dumps({"id": f"{split}-{k}", "instruction": f"{split} question {k}", "output": f"answer {k}"})
            for k in range(count)
        ]
        (root / "fixtures" / "data" / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    # Only digested, never loaded.
    (root / "fixtures" / "base" / "config.json").write_text("{}")
    (root / "fixtures" / "base" / "model.safetensors").write_bytes(b"weights")
    for name in ("RECIPES", "STORE", "REPORT_DIR", "CAPABILITY", "RUBRICS"):
        monkeypatch.delenv(f"HARNESS_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def add_recipe(project: Path) -> Callable[..., Path]:
    """add_recipe(name, more="") -> path of a new recipe, `more` appended to what every recipe needs."""

    def add(name: str, more: str = "") -> Path:
        path = project / "fixtures" / "recipes" / f"{name}.yaml"
        path.write_text(RECIPE.format(name=name) + more, encoding="utf-8")
        return path

    return add


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """harness(*arguments) -> exit code, stdout and stderr of the command."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(arguments)
        return Result(code, *capsys.readouterr())

    return run
