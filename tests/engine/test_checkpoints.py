"""A training that was killed goes on to the weights that it would have had."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file

from harness.engine import checkpoints as checkpoints_module
from harness.engine.models import load_base
from harness.engine.training import TrainingResult, train_adapter
from harness.errors import TrainingInterrupted
from harness.progress import Silent
from harness.records import Example, Message
from harness.store import Checkpoints

# 4 steps an epoch, of 2 micro-batches each; dropout draws from the random state at every step.
TRAINING = {
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
}
LORA = {"r": 8, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": "all-linear"}
FLOAT32 = {"bnb_4bit_compute_dtype": "float32"}
FINGERPRINT = "ab" * 32

KILLED = """\
import sys
from pathlib import Path
sys.path[:0] = sys.argv[4].split(":")
import test_checkpoints as t

model, place, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
t.checkpoints_module._SECONDS = 0.0
t.checkpoints_module._LARGEST_SHARE = 1e9
t.train(model, place, progress=t.At(step, t.kill))
"""


class At(Silent):
    """Does something when a step has been made, and keeps the lines."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step = step
        self.action = action
        self.lines: list[str] = []

    def advance(self, done: int, note: str = "") -> None:
        if done == self.step:
            self.action()

    def message(self, line: str) -> None:
        self.lines.append(line)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def examples(split: str, n: int) -> list[Example]:
    return [
        Example(str(row["id"]), (Message("user", str(row["text"])),), str(row["label"]), str(row["label"]))
        for row in tiny.rows(split, n, seed=0)
    ]


def train(model: Path, place: Path, *, progress: Any = None, checkpoints: bool = True) -> TrainingResult:
    """Into place/adapter, with checkpoints in place/checkpoints."""
    progress = progress or At(0, lambda: None)
    folder = place / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return train_adapter(
        load_base(model, FLOAT32, "cpu"),
        train=examples("train", 32),
        validation=examples("validation", 8),
        lora=LORA,
        training=TRAINING,
        seed=0,
        folder=folder,
        progress=progress,
        checkpoints=Checkpoints(place / "checkpoints", FINGERPRINT, progress.message) if checkpoints else None,
    )


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint at every step."""
    monkeypatch.setattr(checkpoints_module, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints_module, "_LARGEST_SHARE", 1e9)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Path]:
    """A training that nobody disturbed, without any checkpoint."""
    place = tmp_path_factory.mktemp("whole")
    return train(tiny_model, place, checkpoints=False), place / "adapter"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def logged(folder: Path) -> list[dict[str, Any]]:
    """The log's lines but for times; the library's summary at the end is of what this process trained."""
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines if "train_runtime" not in line]


def assert_same(result: TrainingResult, folder: Path, whole: tuple[TrainingResult, Path]) -> None:
    expected, expected_folder = whole
    assert result.loss == expected.loss
    assert result.validation_loss == expected.validation_loss
    assert (result.steps, result.tokens, result.example_tokens) == (8, expected.tokens, expected.example_tokens)
    found, wanted = weights(folder), weights(expected_folder)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert logged(folder) == logged(expected_folder)
    assert {p.name for p in folder.iterdir()} == {p.name for p in expected_folder.iterdir()}


def run_killed(model: Path, place: Path, step: int) -> None:
    paths = f"{Path(__file__).parent}:{Path(tiny.__file__).parent}"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(model), str(place), str(step), paths],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not (place / "adapter" / "adapter_model.safetensors").exists()


def test_a_training_that_is_killed_twice_ends_in_the_same_weights(
    tiny_model: Path, tmp_path: Path, whole: tuple[TrainingResult, Path], always: None
) -> None:
    """Within the first epoch, and at the first step of the second: kill -9 in processes of their own."""
    run_killed(tiny_model, tmp_path, 3)
    run_killed(tiny_model, tmp_path, 5)
    progress = At(0, kill)
    result = train(tiny_model, tmp_path, progress=progress)
    assert result.resumed == (2, 4)
    assert "training goes on from its checkpoint of step 4" in progress.lines
    assert_same(result, tmp_path / "adapter", whole)


@pytest.mark.parametrize("step", range(1, 8))
def test_it_goes_on_from_any_step(
    tiny_model: Path, tmp_path: Path, whole: tuple[TrainingResult, Path], step: int
) -> None:
    """SIGTERM leaves a checkpoint of the step that was made, also without one before."""
    stop = At(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    message = (
        rf"^Training was stopped by SIGTERM at step {step} of 8\. Start the run again: it goes on from step {step}\.$"
    )
    with pytest.raises(TrainingInterrupted, match=message):
        train(tiny_model, tmp_path, progress=stop)
    log = (tmp_path / "adapter" / "training_log.jsonl").read_text().splitlines()
    assert sum("eval_loss" in line for line in log) == step // 4  # none for an epoch that has not ended
    result = train(tiny_model, tmp_path)
    assert result.resumed == (step,)
    assert_same(result, tmp_path / "adapter", whole)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


PARTS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "harness.json",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
    "training_log.jsonl",
)


@pytest.fixture(scope="module")
def stopped(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After two steps, with a checkpoint of each."""
    place = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints_module, "_SECONDS", 0.0)
        patch.setattr(checkpoints_module, "_LARGEST_SHARE", 1e9)
        with pytest.raises(TrainingInterrupted):
            train(tiny_model, place, progress=At(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    return place


def test_a_checkpoint_has_every_part_and_no_pickle_of_arguments(stopped: Path) -> None:
    kept = sorted((stopped / "checkpoints").iterdir())
    assert [folder.name for folder in kept] == ["00000001", "00000002"]
    assert {p.name for p in kept[-1].iterdir()} == {*PARTS, "manifest.json", "README.md"}
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.load(kept[-1] / name, weights_only=True)  # nothing in it can run code


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("damage", "found"), [(flip, "is not as it was written"), (Path.unlink, "cannot be read")], ids=["bit", "missing"]
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    stopped: Path, tmp_path: Path, part: str, damage: Callable[[Path], object], found: str
) -> None:
    place = Path(shutil.copytree(stopped / "checkpoints", tmp_path / "checkpoints"))
    damage(place / "00000002" / part)
    lines: list[str] = []
    latest = Checkpoints(place, FINGERPRINT, lines.append).latest(checkpoints_module._PARTS)
    assert latest == place / "00000001"
    assert lines == [f"{place / '00000002'}: this checkpoint is not used ({part} {found})"]
    assert not (place / "00000002").exists()


def test_a_checkpoint_that_was_written_without_a_part_is_not_used(tiny_model: Path, tmp_path: Path) -> None:
    """The manifest fits: the part was never there. Trainers go on without an optimizer's state and say nothing."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", FINGERPRINT, lambda line: None)
    checkpoints.keep(2, lambda folder: [(folder / p).write_text("{}") for p in PARTS if p != "optimizer.pt"])
    result = train(tiny_model, tmp_path)
    assert result.resumed == ()
    assert [step for step, _ in result.loss] == list(range(1, 9))


def test_of_a_course_that_was_given_up_nothing_stays(tmp_path: Path) -> None:
    """Its last checkpoint was not used, so the training began anew; the next one must not find that again."""
    checkpoints = Checkpoints(tmp_path, FINGERPRINT, lambda line: None)
    for step in (49, 50, 1, 2, 3):
        checkpoints.keep(step, lambda folder: (folder / "optimizer.pt").write_text("moments"))
        assert checkpoints.latest(["optimizer.pt"]) == tmp_path / f"{step:08d}"
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["00000002", "00000003"]


def test_a_checkpoint_of_another_device_is_not_used(stopped: Path, tmp_path: Path, tiny_model: Path) -> None:
    shutil.copytree(stopped / "checkpoints", tmp_path / "checkpoints")
    checkpoints = Checkpoints(tmp_path / "checkpoints", FINGERPRINT, lambda line: None)
    saving = checkpoints_module.Saving(checkpoints, tmp_path / "log", stopping=lambda: False, progress=Silent())
    assert saving.last("cuda", scaled=False) is None
    found = saving.last("cpu", scaled=False)
    assert found is not None
    assert found[1].device == "cpu"
    assert saving.last("cpu", scaled=True) is None  # no scale of gradients was kept


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_training(
    tiny_model: Path, tmp_path: Path, whole: tuple[TrainingResult, Path], always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> None:
        raise OSError(28, os.strerror(28))

    progress = At(0, kill)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "keep", refuse)
        result = train(tiny_model, tmp_path, progress=progress)
    assert "no checkpoint of step 1 was written (OSError: [Errno 28] No space left on device)" in progress.lines
    assert_same(result, tmp_path / "adapter", whole)


def test_checkpoints_come_once_a_minute_and_cost_a_hundredth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("harness.engine.checkpoints.time.monotonic", lambda: now)

    class Slow:
        def latest(self, parts: Any) -> None: ...

        def keep(self, step: int, write: Any) -> None:
            nonlocal now
            now += 2.0

    class Trainer:
        class state:
            global_step = 7

    def asked_at(seconds: float, step: int, epoch: float = 0.5) -> bool:
        nonlocal now
        now = seconds
        control, state = type("Control", (), {"should_save": False})(), type("State", (), {})()
        state.global_step, state.max_steps, state.epoch = step, 100, epoch
        return bool(saving.on_step_end(None, state, control).should_save)

    saving = checkpoints_module.Saving(Slow(), tmp_path / "log", stopping=lambda: False, progress=Silent())
    assert [asked_at(1059.9, 5), asked_at(1060.0, 6)] == [False, True]
    assert not asked_at(1060.0, 100)  # the last step: the adapter itself is written now
    assert not asked_at(1060.0, 6, epoch=2.0)  # the end of an epoch is saved when that was evaluated
    now = 1060.0
    saving.save(Trainer(), None)  # type: ignore[arg-type]
    # It took 2 s, so the next one comes after 200 s.
    assert [asked_at(1261.9, 8), asked_at(1262.0, 8), asked_at(1262.0, 7)] == [False, True, False]
