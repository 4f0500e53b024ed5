"""Checkpoints of a training, from which a killed one goes on to the weights that it would have reached.

A checkpoint holds what the trainer reads to go on (adapter, optimizer, schedule, random states, step and position in
the data), and what the harness counts besides: the log, tokens, seconds, and how long rows are.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from harness.progress import Progress

__all__ = ["Checkpoints", "Counted", "Saving"]

_LOG = "training_log.jsonl"
_COUNTED = "harness.json"
_PARTS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    _COUNTED,
    _LOG,
)

# A minute of training is cheap to repeat, and a training of less than a minute is repeated whole.
_SECONDS = 60.0
# Of the training's time; on a slow disk checkpoints come less often.
_LARGEST_SHARE = 0.01


class Checkpoints(Protocol):
    """Where the checkpoints of one training are kept."""

    def latest(self, parts: Collection[str]) -> Path | None:
        """The folder of the last one that is whole and has files of these names, or None."""

    def keep(self, step: int, write: Callable[[Path], object]) -> None:
        """Let `write` fill a folder, and keep it as the checkpoint of `step` if it returns."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the harness counted up to a checkpoint.

    row_tokens: the length of rows, which memory that ran out may have halved. resumed: the steps at which the
    training went on from a checkpoint.
    """

    device: str
    seconds: float
    computed_tokens: int
    example_tokens: int
    row_tokens: int
    resumed: tuple[int, ...]


class Saving(TrainerCallback):
    """Asks the trainer for a checkpoint a minute after the last one, and before it stops for a signal.

    log: training_log.jsonl. stopping: whether a signal came. saved: the step of the last checkpoint.
    """

    def __init__(
        self, checkpoints: Checkpoints, log: Path, *, stopping: Callable[[], bool], progress: Progress
    ) -> None:
        self.checkpoints = checkpoints
        self.log = log
        self.stopping = stopping
        self.progress = progress
        self.saved: int | None = None
        self._ended = time.monotonic()
        self._pause = _SECONDS

    def last(self, device: str, *, scaled: bool) -> tuple[Path, Counted] | None:
        """The last checkpoint that has every part and was made on such a device; the log begins with its log.

        scaled: whether gradients are, whose scale is then a part.
        """
        folder = self.checkpoints.latest((*_PARTS, "scaler.pt") if scaled else _PARTS)
        if folder is None:
            return None
        values = json.loads((folder / _COUNTED).read_text(encoding="utf-8"))
        counted = Counted(**{**values, "resumed": tuple(values["resumed"])})
        if counted.device != device:
            return None
        shutil.copyfile(folder / _LOG, self.log)
        return folder, counted

    def save(self, trainer: Any, counted: Counted) -> None:
        """Keep a checkpoint of `trainer`. Where that fails it is said, and the training goes on without."""
        started, step = time.monotonic(), trainer.state.global_step
        try:
            self.checkpoints.keep(step, lambda folder: _write(trainer, folder, self.log, counted))
        except Exception as error:  # on a full disk torch, safetensors and Python raise one of their own each
            found = " ".join(str(error).split())
            self.progress.message(f"no checkpoint of step {step} was written ({type(error).__name__}: {found})")
        else:
            self.saved = step
        self._ended = time.monotonic()
        self._pause = max(_SECONDS, (self._ended - started) / _LARGEST_SHARE)

    def _due(self, state: Any) -> bool:
        if state.global_step in (self.saved, state.max_steps):
            return False
        return self.stopping() or time.monotonic() - self._ended >= self._pause

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        # Behind a whole epoch the trainer goes on with the next one, as if its end was evaluated already.
        if self._due(state) and not _epoch_ends(state):
            control.should_save = True
        return control

    def on_epoch_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        if self._due(state):
            control.should_save = True
        if self.stopping() and not _epoch_ends(state):
            control.should_evaluate = False  # nobody waits for it, and it comes when the epoch has ended
        return control


def _epoch_ends(state: Any) -> bool:
    return bool(state.epoch == int(state.epoch))


def _write(trainer: Any, folder: Path, log: Path, counted: Counted) -> None:
    """Every part, and no training_args.bin: that is a pickle, and going on needs none of it."""
    trainer.model.save_pretrained(folder, safe_serialization=True)
    trainer._save_optimizer_and_scheduler(str(folder))
    trainer._save_scaler(str(folder))
    trainer._save_rng_state(str(folder))
    trainer.state.save_to_json(str(folder / "trainer_state.json"))
    (folder / _COUNTED).write_text(json.dumps(asdict(counted)) + "\n", encoding="utf-8")
    shutil.copyfile(log, folder / _LOG)
