"""Runs that are killed, and stores that cannot be written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from harness.engine.models import LoadedModel
from harness.errors import StoreError
from harness.pipeline import Places, RecipeRun, Session
from harness.progress import Silent
from harness.store import Store

KILLED = """\
import os, signal, sys
from pathlib import Path
from harness.engine import checkpoints, choices
from harness.pipeline import Places, Session
from harness.progress import Silent
from harness.store import answers

choices.token_budget = lambda *_arguments: 100  # several batches
checkpoints._SECONDS, checkpoints._LARGEST_SHARE, answers._SECONDS = 0.0, 1e9, 0.0
project, action, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

class Killing(Silent):
    def advance(self, done, note=""):
        if done >= when:
            os.kill(os.getpid(), signal.SIGKILL)

run = Session(Places.below(project), environ={}, progress=Killing()).open("animals")
{"train": run.adapter, "score": lambda: run.score_choices("base")}[action]()
"""


def run_killed(project: Path, action: str, when: int) -> None:
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(project), action, str(when)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr


class Noting(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.totals: list[tuple[str, int]] = []

    def start(self, task: str, total: int) -> None:
        self.totals.append((task, total))

    def message(self, line: str) -> None:
        self.lines.append(line)


def run_in(project: Path, progress: Any = None) -> RecipeRun:
    return Session(Places.below(project), environ={}, progress=progress).open("animals")


def test_a_killed_training_ends_in_the_adapter_that_it_would_have_made(project: Path) -> None:
    store = project / ".harness"
    (whole,) = (store / "adapters").iterdir()
    expected = load_file(whole / "adapter_model.safetensors")
    losses = json.loads((whole / "manifest.json").read_text())["loss"]
    shutil.rmtree(store)
    run_killed(project, "train", 70)
    assert Store(store).adapter(whole.name) is None
    progress = Noting()
    adapter = run_in(project, progress).adapter()
    assert adapter.fingerprint == whole.name
    assert adapter.manifest["resumed"] == [69]
    assert "training goes on from its checkpoint of step 69" in progress.lines
    assert adapter.manifest["loss"] == losses
    found = load_file(adapter.folder / "adapter_model.safetensors")
    assert all(found[name].equal(weight) for name, weight in expected.items())
    assert not any((store / "checkpoints").iterdir())
    assert not [path for path in (store / "tmp").iterdir() if path.is_dir()]


def test_a_killed_evaluation_asks_only_what_is_missing(project: Path) -> None:
    whole = shutil.copytree(project, project.with_name("whole"))
    expected = run_in(whole).score_choices("base")
    run_killed(project, "score", 12)  # of 24 examples with 2 labels each
    (folder,) = (project / ".harness" / "answers" / "choices").iterdir()
    known = len(Store(project / ".harness").answers("choices", folder.name).read())
    assert 0 < known < 24
    progress = Noting()
    run = run_in(project, progress)
    found = run.score_choices("base")
    run.close()
    assert progress.totals == [("animals: base scores labels", 2 * (24 - known))]
    assert found.ids == expected.ids
    for row, other in zip(found.log_likelihoods, expected.log_likelihoods, strict=True):
        assert row == pytest.approx(other, rel=0.02)  # bfloat16, in other batches
    assert len(list(folder.iterdir())) == 1


def refuse_writes(project: Path, *folders: str) -> None:
    """Everything is written by way of these folders; a file in their place refuses also a process with all rights."""
    for name in folders:
        folder = project / ".harness" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.write_text("")


def test_a_store_that_can_only_be_read_is_read(project: Path, loads: list[LoadedModel]) -> None:
    run = run_in(project)
    expected = run.score_choices("adapter")
    run.integrity()
    run.close()
    refuse_writes(project, "tmp", "locks")
    before = sorted(path for path in (project / ".harness").rglob("*"))
    again = run_in(project)
    assert again.score_choices("adapter") == expected
    again.integrity()
    assert len(loads) == 1
    assert sorted(path for path in (project / ".harness").rglob("*")) == before
    with pytest.raises(StoreError, match=r"\.harness: cannot be written \(File exists; .* --harness-store\.$"):
        again.answer("adapter")
    assert len(loads) == 1  # it is said before a model is loaded


@pytest.mark.parametrize("folder", ["locks", "tmp"])
def test_a_training_into_a_store_that_can_only_be_read_does_not_begin(
    project: Path, loads: list[LoadedModel], folder: str
) -> None:
    shutil.rmtree(project / ".harness" / "adapters")
    refuse_writes(project, folder)
    with pytest.raises(StoreError, match=r"\.harness: cannot be written \(File exists; "):
        run_in(project).adapter()
    assert loads == []


def test_a_damaged_adapter_is_trained_again_and_that_is_said(project: Path) -> None:
    (folder,) = (project / ".harness" / "adapters").iterdir()
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    progress = Noting()
    run = run_in(project, progress)
    adapter = run.adapter()
    assert run.from_store is False
    said = "damaged (adapter_model.safetensors is not as it was written); it counts as absent and is made again"
    assert progress.lines[0] == f"{folder}: {said}"
    assert sum(": damaged (" in line for line in progress.lines) == 1
    assert Store(project / ".harness").adapter(folder.name) == adapter
