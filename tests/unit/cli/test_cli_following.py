"""After a promotion and a rollback the trackers are told, and what they say changes nothing of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promotable
import pytest
from promotable import record, result, run

from harness.pipeline import Places
from harness.promotion import Registry

Command = Callable[..., Any]
# A W&B that writes down what it is asked, to a file; the real one is in tests/pipeline.
LIBRARY = """\
import json, os
class Settings:
    def __init__(self, **_): pass
class Artifact:
    def __init__(self, name, type, metadata): self.said = {"name": name, "metadata": metadata, "files": []}
    def add_dir(self, path, name): self.said["files"] += sorted(os.listdir(path))
    def add_file(self, path, name): self.said["files"].append(name)
class Run:
    url, dir = "https://wandb.example/run", "."
    def log_artifact(self, artifact, aliases):
        with open(os.environ["SAID"], "a") as file:
            file.write(json.dumps({**artifact.said, "aliases": aliases}) + "\\n")
    def finish(self): pass
def init(**_): return Run()
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    known = promotable.save(tmp_path)
    (known.root / "pytest.ini").write_text("[pytest]\n")
    for name in ("HARNESS_RECIPES", "HARNESS_STORE", "HARNESS_SIGNING_KEY", "HARNESS_TRACKING", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(known.root)
    return known


def choose(places: Places, *names: str) -> None:
    listed = ", ".join(f'"{name}"' for name in names)
    (places.root / "pyproject.toml").write_text(f"[tool.harness]\ntracking = [{listed}]\n")


def promote(places: Places, harness: Command, weights: bytes, *more: str) -> Any:
    if weights != b"weights":
        promotable.keep_adapter(places, weights)
    record(places, run(result(places, weights=weights)))
    return harness("promote", "latest", "--recipe", "animals", *more)


def test_a_tracker_that_fails_is_a_warning_and_the_alias_has_moved(places: Places, harness: Command) -> None:
    choose(places, "mlflow")
    done = promote(places, harness, b"weights", "--first")
    assert done.code == 0
    assert done.err == (
        "warning: mlflow did not follow, and production stands: MLFLOW_TRACKING_URI is not set; set it to the address "
        "of your tracking server\n"
    )
    live = Registry(places.store, "animals").live("production")
    assert live is not None
    assert live.version == 1


def test_settings_that_mean_nothing_are_a_warning(places: Places, harness: Command) -> None:
    choose(places, "mlfow")
    done = promote(places, harness, b"weights", "--first")
    assert done.code == 0
    assert done.err.startswith("warning: the trackers were not told: ")
    assert "names the tracker 'mlfow'" in done.err


def test_promotions_and_rollbacks_are_followed(
    places: Places, harness: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "wandb.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "libraries"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    choose(places, "wandb")
    first = promote(places, harness, b"weights", "--first")
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines()[-1] == "wandb: https://wandb.example/run"
    second = promote(places, harness, b"other", "--json")
    assert (second.code, second.err) == (0, "")
    assert "wandb.example" not in second.out  # it stays JSON
    back = harness("rollback", "animals")
    assert (back.code, back.err) == (0, "")
    assert back.out.splitlines()[-1] == "wandb: https://wandb.example/run"
    said = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    history = Registry(places.store, "animals").history()
    assert [one["metadata"]["adapter_digest"] for one in said] == [move.adapter_digest for move in history]
    assert [one["metadata"]["counter"] for one in said] == [1, 2, 3]
    assert all(one["aliases"] == ["production"] for one in said)
    assert said[0]["files"] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "attestation/attestation.json",
    ]
