"""QLoRA fine-tuning of one recipe with TRL's SFTTrainer, written to a folder whose manifest comes last.

The trainer reads packed rows (see `packing`): every shared prefix of a micro-batch is computed once and the
language-model head is applied only where a completion token is predicted. The loss of a step is the token
mean over the step's examples, as SFTTrainer's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from harness.engine.chat import refuse_too_long, training_sequences
from harness.engine.checkpoints import Checkpoints, Counted, Saving
from harness.engine.layers import join_adapters
from harness.engine.memory import out_of_memory, release_memory, training_budget
from harness.engine.models import PLAIN_BATCHES, LoadedModel, takes_rows
from harness.engine.packing import TokenSequence, pack
from harness.engine.scoring import batch_log_probs, score_continuations
from harness.errors import BaseModelError, TrainingError, TrainingInterrupted
from harness.progress import Progress
from harness.records import Example

__all__ = ["TrainingResult", "hardware", "train_adapter", "training_arguments"]

_FIXED_ARGUMENTS: Mapping[str, Any] = {
    # The harness owns these: the store keeps the adapter, the manifest and training_log.jsonl the record.
    "report_to": "none",
    "save_strategy": "no",
    "eval_strategy": "epoch",
    "logging_strategy": "steps",
    "logging_steps": 1,
    "logging_nan_inf_filter": False,
    "disable_tqdm": True,
    "remove_unused_columns": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "packing": False,
    "max_length": None,
    "completion_only_loss": True,
    "dataloader_pin_memory": False,
}


_STEPS_BETWEEN_RELEASES = 10


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished training did.

    tokens: computed, with every shared prefix once; example_tokens: as if not. row_tokens: the most that were
    computed at once. packed: False where the model cannot take packed rows, and plain batches were computed.
    resumed: the steps at which it went on from a checkpoint; all figures are of the whole training.
    """

    seconds: float
    steps: int
    max_steps: int
    tokens: int
    example_tokens: int
    row_tokens: int
    packed: bool
    resumed: tuple[int, ...]
    loss: tuple[tuple[int, float], ...]
    validation_loss: tuple[tuple[int, float], ...]


def train_adapter(
    loaded: LoadedModel,
    *,
    train: Sequence[Example],
    validation: Sequence[Example],
    lora: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    folder: Path,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
) -> TrainingResult:
    """Fine-tune `loaded` and write adapter, tokenizer, chat template and training_log.jsonl into `folder`.

    lora, training: the recipe's blocks, keys as in LoraConfig and SFTConfig. The base model of `loaded` is
    changed in place; close it afterwards. The caller writes the manifest.
    checkpoints: of this very training: it goes on from the last one to the weights that it would have had anyway.
    Raises DataError for an example longer than the context, TrainingInterrupted on Ctrl-C or SIGTERM, and
    TrainingError if a loss is not finite, memory runs out, or fewer steps were made than planned.
    """
    _keep_weights_trainable(loaded.model)
    train_sequences = training_sequences(loaded.tokenizer, train)
    validation_sequences = training_sequences(loaded.tokenizer, validation)
    limit = min(training.get("max_length") or loaded.context_length, loaded.context_length)
    what = "training.max_length" if limit < loaded.context_length else "the model's context"
    for examples, sequences in ((train, train_sequences), (validation, validation_sequences)):
        refuse_too_long(examples, [len(s.inputs) + 1 for s in sequences], limit, what)

    recorder = _Recorder(folder / "training_log.jsonl", progress)
    saving = None
    with _quiet_libraries(), _interruptible() as interrupted:
        if checkpoints is not None:
            saving = Saving(checkpoints, recorder.log, stopping=lambda: bool(interrupted.signal), progress=progress)
        trainer = None
        try:
            trainer = _RowTrainer(
                model=loaded.model,
                args=SFTConfig(**training_arguments(training, loaded, seed, folder)),
                train_dataset=datasets.Dataset.from_dict({"index": list(range(len(train_sequences)))}),
                eval_dataset=datasets.Dataset.from_dict({"index": list(range(len(validation_sequences)))}),
                processing_class=loaded.tokenizer,
                peft_config=LoraConfig(**{**lora, "task_type": "CAUSAL_LM"}),
                data_collator=lambda rows: {"index": torch.tensor([row["index"] for row in rows])},
                callbacks=[recorder, interrupted, *([] if saving is None else [saving])],
                sequences=train_sequences,
                validation=validation_sequences,
                device=loaded.device,
                progress=progress,
                recorder=recorder,
                saving=saving,
            )
            trainer.remove_callback(PrinterCallback)
            recorder.trainer = trainer
            if not trainer.share:
                progress.message(PLAIN_BATCHES)
            trainer.train(resume_from_checkpoint=trainer.last_checkpoint())
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if trainer is None:
                raise TrainingError(
                    "Memory ran out before the first training step. Free some on the device, or use a smaller model."
                ) from error
            raise TrainingError(
                f"Training ran out of memory with rows of {trainer.budget} tokens, as many as the longest example "
                "has. Set training.activation_checkpointing: true, shorten that example, or use a smaller model."
            ) from error
    state = trainer.state
    if interrupted.signal is not None:
        kept = None if saving is None else saving.saved
        where = f"Training was stopped by {interrupted.signal} at step {state.global_step} of {state.max_steps}"
        if kept is None:
            raise TrainingInterrupted(
                f"{where}; nothing of it is used. Start the run again to train from the beginning."
            )
        raise TrainingInterrupted(f"{where}. Start the run again: it goes on from step {kept}.")
    if state.global_step != state.max_steps:
        raise TrainingError(
            f"Training ended at step {state.global_step} of {state.max_steps}; the adapter is not used."
        )
    _refuse_non_finite_weights(trainer.model)
    trainer.model.save_pretrained(folder, safe_serialization=True)
    _sort_target_modules(folder / "adapter_config.json")
    loaded.tokenizer.save_pretrained(folder)
    return TrainingResult(
        seconds=recorder.seconds(),
        steps=state.global_step,
        max_steps=state.max_steps,
        tokens=trainer.computed_tokens,
        example_tokens=trainer.example_tokens,
        row_tokens=trainer.budget,
        packed=trainer.share,
        resumed=trainer.resumed,
        loss=tuple(recorder.loss),
        validation_loss=tuple(recorder.validation_loss),
    )


def hardware(device: str) -> dict[str, Any]:
    """What the model runs on, for the manifest."""
    if device.startswith("cuda"):
        return {"device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {"device": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}


def training_arguments(training: Mapping[str, Any], loaded: LoadedModel, seed: int, folder: Path) -> dict[str, Any]:
    """The arguments of SFTConfig: the recipe's, defaults for the device, and what the harness decides itself."""
    on_cpu = loaded.device == "cpu"
    if on_cpu and str(training.get("optim", "")).startswith("paged_"):
        raise BaseModelError(
            f"training.optim: {training['optim']} needs a GPU. Use adamw_torch, or run on a GPU machine."
        )
    half = loaded.model.dtype == torch.bfloat16
    defaults: dict[str, Any] = {
        "bf16": half,
        "fp16": loaded.model.dtype == torch.float16,
    }
    if not {"activation_checkpointing", "gradient_checkpointing"} & training.keys():
        # Recomputing activations takes a third more time for memory that a CPU has.
        defaults["activation_checkpointing"] = not on_cpu
    owned = {"output_dir": str(folder / "trainer"), "seed": seed, "data_seed": seed, "use_cpu": on_cpu}
    return {**defaults, **training, **_FIXED_ARGUMENTS, **owned}


class _RowTrainer(SFTTrainer):
    """SFTTrainer whose micro-batches are packed rows. A batch carries indices; rows are made from `sequences`."""

    def __init__(
        self,
        *,
        sequences: Sequence[TokenSequence],
        validation: Sequence[TokenSequence],
        device: str,
        progress: Progress,
        recorder: _Recorder,
        saving: Saving | None,
        **arguments: Any,
    ) -> None:
        self.sequences = sequences
        self.validation = validation
        self.row_device = device
        self.progress = progress
        self.recorder = recorder
        self.saving = saving
        self.resumed: tuple[int, ...] = ()
        self.computed_tokens = 0
        self.example_tokens = 0
        super().__init__(**arguments)
        join_adapters(self.model, device)
        self.longest = max(len(s.inputs) for s in (*sequences, *validation))
        self.budget = training_budget(
            self.model, self.longest, device, checkpointing=bool(self.model.is_activation_checkpointing)
        )
        self.share = takes_rows(self.model)

    def last_checkpoint(self) -> str | None:
        """The checkpoint to go on from; what was counted up to it is taken over."""
        last = None if self.saving is None else self.saving.last(self.row_device, scaled=self.args.fp16)
        if last is None:
            return None
        folder, counted = last
        self.computed_tokens, self.example_tokens = counted.computed_tokens, counted.example_tokens
        self.budget = counted.row_tokens
        step = self.recorder.go_on(counted.seconds)
        self.resumed = (*counted.resumed, step)
        self.progress.message(f"training goes on from its checkpoint of step {step}")
        return str(folder)

    def _save_checkpoint(self, *_: Any) -> None:
        """In place of TRL's, which writes a model card and pickles of its arguments besides."""
        if self.saving is not None:
            counted = Counted(
                device=self.row_device,
                seconds=self.recorder.seconds(),
                computed_tokens=self.computed_tokens,
                example_tokens=self.example_tokens,
                row_tokens=self.budget,
                resumed=self.resumed,
            )
            self.saving.save(self, counted)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """The optimizer step's micro-batches, and its number of predicted tokens over all of them."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        items = sum(len(self.sequences[i].continuation) for batch in batches for i in batch["index"].tolist())
        return batches, self.accelerator.gather(torch.tensor(items, device=device)).sum()

    def training_step(self, model: Any, inputs: Mapping[str, torch.Tensor], *items: Any) -> torch.Tensor:
        """One micro-batch. Where memory runs out it is computed again in rows of half the length, from the gradients
        before it, so the step's batch and loss stay what they were."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        before = [None if p.grad is None else p.grad.clone() for p in parameters]
        counted = self.computed_tokens, self.example_tokens
        while True:
            try:
                loss: torch.Tensor = super().training_step(model, inputs, *items)
                return loss
            except RuntimeError as error:
                if not out_of_memory(error) or self.budget <= self.longest:
                    raise
            self.budget = max(self.budget // 2, self.longest)
            self.computed_tokens, self.example_tokens = counted
            for parameter, gradient in zip(parameters, before, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()
            release_memory()
            self.progress.message(f"memory ran out: going on with rows of at most {self.budget} tokens")

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Token mean of the negative log-likelihood, a row at a time.

        While training, all rows but the last are differentiated here, so that only one row's activations are
        held; the trainer differentiates the last. Gradients add up either way.
        """
        members = [self.sequences[index] for index in inputs["index"].tolist()]
        items = num_items_in_batch or sum(len(s.continuation) for s in members)
        scale = self.accelerator.num_processes / items
        batches = list(pack(members, budget=self.budget, share=self.share))
        before = torch.zeros((), device=self.row_device)
        for number, rows in enumerate(batches, 1):
            results = batch_log_probs(model, rows, self.row_device)
            # An edge that several examples share is computed once and counts once for each.
            loss = -scale * sum(
                log_probs[[edge for _, edges in row.members for edge in edges]].sum()
                for row, (log_probs, _) in zip(rows, results, strict=True)
            )
            if number < len(batches):
                if torch.is_grad_enabled():
                    self.accelerator.backward(loss)
                before = before + loss.detach()
        self.computed_tokens += sum(len(row) for rows in batches for row in rows)
        self.example_tokens += sum(len(s.inputs) for s in members)
        total: torch.Tensor = before + loss
        return total

    def evaluate(self, *_args: Any, **_options: Any) -> dict[str, float]:
        """Token mean of the negative log-likelihood over the validation set."""
        training = self.model.training
        self.model.eval()
        autocast = torch.autocast(self.row_device.split(":")[0], torch.bfloat16, enabled=self.args.bf16)
        with autocast:
            scores = score_continuations(
                self.model, self.validation, budget=self.budget, device=self.row_device, share=self.share
            )
        self.model.train(training)
        tokens = sum(len(s.continuation) for s in self.validation)
        metrics = {"eval_loss": -sum(score.log_likelihood for score in scores) / tokens}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Recorder(TrainerCallback):
    """Writes training_log.jsonl, keeps the loss curves, shows progress, and stops at a loss that is not finite."""

    def __init__(self, log: Path, progress: Progress) -> None:
        self.log = log
        self.progress = progress
        self.loss: list[tuple[int, float]] = []
        self.validation_loss: list[tuple[int, float]] = []
        self.trainer: _RowTrainer | None = None
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Since the training began, without those between a checkpoint and going on from it."""
        return time.monotonic() - self.started

    def go_on(self, seconds: float) -> int:
        """Take over the log that is there already, of so many seconds; returns its last step."""
        self.started -= seconds
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        self.loss = [(line["step"], line["loss"]) for line in lines if "loss" in line]
        self.validation_loss = [(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]
        return int(lines[-1]["step"])

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self.progress.start("training", state.max_steps)

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, float], **_: Any) -> None:
        line = {"step": state.global_step, "seconds": round(self.seconds(), 3), **logs}
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({k: _finite(v) for k, v in line.items()}) + "\n")
        for key, curve in (("loss", self.loss), ("eval_loss", self.validation_loss)):
            if key not in logs:
                continue
            value = float(logs[key])
            if not math.isfinite(value):
                raise TrainingError(
                    f"The {'training' if key == 'loss' else 'validation'} loss is {value} at step "
                    f"{state.global_step} of {state.max_steps}; training stopped and nothing of it is used. "
                    "Lower training.learning_rate, or set training.max_grad_norm."
                )
            curve.append((state.global_step, value))

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        seconds = self.seconds()
        tokens = self.trainer.example_tokens if self.trainer is not None else 0
        loss = f"loss {self.loss[-1][1]:.3f}, " if self.loss else ""
        self.progress.advance(state.global_step, f"{loss}{tokens / max(seconds, 1e-9):,.0f} tokens/s")
        if (
            self.trainer is not None
            and self.trainer.row_device == "cpu"
            and state.global_step % _STEPS_BETWEEN_RELEASES == 0
        ):
            release_memory()

    def on_evaluate(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        if self.validation_loss:
            step, loss = self.validation_loss[-1]
            self.progress.message(f"validation loss {loss:.4f} at step {step}")

    def on_train_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        self.progress.finish(f"loss {self.loss[-1][1]:.3f}" if self.loss else "")


class _Interrupted(TrainerCallback):
    """Ends training after the current step once a signal came."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> Any:
        if self.signal is not None:
            control.should_training_stop = True
        return control


@contextlib.contextmanager
def _interruptible() -> Iterator[_Interrupted]:
    """SIGINT and SIGTERM end training at the next step; a second SIGINT acts at once."""
    state = _Interrupted()
    if threading.current_thread() is not threading.main_thread():
        yield state  # signals reach the main thread only
        return

    def stop(number: int, frame: Any) -> None:
        if state.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        state.signal = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield state
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Warnings that say nothing to the user of a recipe stay out of the test run's output."""
    import warnings

    loggers = [logging.getLogger(name) for name in ("trl", "peft", "accelerate", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _keep_weights_trainable(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for inference while the model is trained.

    On a CPU with AVX512-BF16, the first forward in eval mode without gradients (a validation, a trial) repacks
    the weights in place, and from then on the layer's product has no gradient: training goes on and learns
    nothing (seen with bitsandbytes 0.50.2).
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _sort_target_modules(config: Path) -> None:
    """PEFT writes a set in whatever order it has: sorted, equal trainings leave equal files."""
    values = json.loads(config.read_text(encoding="utf-8"))
    if isinstance(values.get("target_modules"), list):
        values["target_modules"].sort()
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _refuse_non_finite_weights(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise TrainingError(f"{name} holds values that are not finite after training; the adapter is not used.")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
